/**
 * Shows a payload with `<EdgegrainImage>` in Chromium, unmounts it, and prints what was seen:
 * node e2e/image.mjs TEXT SERVICE. The variable CHROMIUM names another browser than Debian's.
 */

import { createServer } from "node:http";
import { fileURLToPath } from "node:url";

import { chromium } from "playwright-core";
import { build } from "vite";

const [payload, service] = process.argv.slice(2);
const code = `
  export { createElement } from "react";
  export { createRoot } from "react-dom/client";
  export { EdgegrainImage } from "./src/react.ts";
`;
const entry = fileURLToPath(new URL("../entry.js", import.meta.url)); // not on the disk
const [{ output }] = await build({
  configFile: false, logLevel: "error", define: { "process.env.NODE_ENV": '"production"' },
  plugins: [{
    name: "entry", enforce: "pre",
    resolveId: (id) => (id === entry ? id : undefined),
    load: (id) => (id === entry ? code : undefined),
  }],
  build: { lib: { entry, formats: ["es"] }, write: false },
});

const server = createServer(({ url }, response) => {
  response.setHeader("Content-Type", url === "/image.js" ? "text/javascript" : "text/html");
  response.end(url === "/image.js" ? output[0].code : "<!doctype html><div id=place></div>");
});
await new Promise((started) => server.listen(0, "127.0.0.1", started));
const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
try {
  const page = await browser.newPage();
  const trouble = [];
  page.on("pageerror", (error) => trouble.push(String(error)));
  await page.goto(`http://127.0.0.1:${server.address().port}/`);
  let answer;
  const awaited = new Promise((resolve) => (answer = resolve));
  await page.route("**/v1/restore*", (route) => awaited.then(() => route.continue()));
  await page.evaluate(async (properties) => {
    const { createElement, createRoot, EdgegrainImage } = await import("/image.js");
    globalThis.root = createRoot(document.getElementById("place"));
    root.render(createElement(EdgegrainImage, { ...properties, style: { width: 200 } }));
  }, { payload, service, size: "native" });
  const preview = await see(page.locator("img[src^=data]"));
  answer();
  const restored = await see(page.locator("img[data-step=restored]"));
  const revoked = await page.evaluate(async (address) => {
    root.unmount();
    await new Promise((later) => setTimeout(later, 100));
    return fetch(address).then(() => false, () => true);
  }, restored.src);
  console.log(JSON.stringify({ shown: [preview, restored], revoked, trouble }));
} finally {
  await browser.close();
  server.close();
}

function see(image) {
  return image.evaluate(async (image) => {
    await image.decode();
    const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight);
    const context = canvas.getContext("2d");
    context.drawImage(image, 0, 0);
    const { width, height, data } = context.getImageData(0, 0, canvas.width, canvas.height);
    const box = image.getBoundingClientRect();
    const { src, dataset: { step } } = image;
    return { src, step, box: [box.width, box.height], size: [width, height], pixels: [...data] };
  });
}

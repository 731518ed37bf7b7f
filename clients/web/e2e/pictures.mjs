/**
 * Decodes the pictures of a folder in Chromium as the client does, and prints for each its name and its width, height
 * and R, G, B of the corners (upper left and right, lower left and right), or the error: node e2e/pictures.mjs FOLDER.
 * The variable CHROMIUM names another browser than Debian's.
 */

import { readdirSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { chromium } from "playwright-core";
import { build } from "vite";

const [folder] = process.argv.slice(2);
const entry = fileURLToPath(new URL("../src/pixels.ts", import.meta.url));
const options = { lib: { entry, formats: ["es"] }, write: false };
const [{ output }] = await build({ configFile: false, logLevel: "error", build: options });

const server = createServer(({ url }, response) => {
  response.setHeader("Content-Type", url === "/pixels.js" ? "text/javascript" : "text/html");
  response.end(url === "/pixels.js" ? output[0].code : "<!doctype html>");
});
await new Promise((started) => server.listen(0, "127.0.0.1", started));
const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
try {
  const page = await browser.newPage();
  await page.goto(`http://127.0.0.1:${server.address().port}/`);
  const results = {};
  for (const name of readdirSync(folder)) {
    results[name] = await page.evaluate(async (content) => {
      const { readPixels } = await import("/pixels.js");
      try {
        const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
        const { width, height, data } = await readPixels(new Blob([bytes]), [255, 255, 255]);
        const pixel = (x, y) => [...data.subarray(3 * (width * y + x)).subarray(0, 3)];
        const [right, bottom] = [width - 1, height - 1];
        return { size: [width, height], corners: [[0, 0], [right, 0], [0, bottom], [right, bottom]].map((at) => pixel(...at)) };
      } catch (error) {
        return { error: `${error.name}: ${error.message}` };
      }
    }, readFileSync(join(folder, name)).toString("base64"));
  }
  console.log(JSON.stringify(results));
} finally {
  await browser.close();
  server.close();
}

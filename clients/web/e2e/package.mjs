/**
 * Packs the library and tries it as its user does: a fresh Vite project, example/, that installs it from the registry's
 * form, is type-checked and built, and encodes a picture in Chromium:
 *
 *     node e2e/package.mjs --picture me.png --out DIR [--service http://127.0.0.1:8000]
 *
 * DIR gets package.json (npm's list of the packed files), built.grain and built-scene.grain (from the built page),
 * dev.grain (from Vite's development server) and, with --service, service.grain, the bundle then coming from it. Needs the npm
 * registry. CHROMIUM names the browser, /usr/bin/chromium by default.
 */

import { execFileSync, spawn } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs, stripVTControlCharacters } from "node:util";

import { chromium } from "playwright-core";

const FLAGS = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync",
];
const PATIENCE = 120_000;
const BUNDLE_FILES = /^(manifest|golden|coder(_\d+)?)\.json$|^encoder\.onnx$/; // the tables of all rates

const { values } = parseArgs({
  options: { picture: { type: "string" }, out: { type: "string" }, service: { type: "string" } },
});
const { picture, out, service } = values;
if (!picture || !out) {
  console.error("usage: node e2e/package.mjs --picture FILE --out DIR [--service URL]");
  process.exit(2);
}
const web = fileURLToPath(new URL("..", import.meta.url));
const bundle = fileURLToPath(new URL("../../../bundles/faces-256-lr16-small", import.meta.url));
mkdirSync(out, { recursive: true });
const folder = mkdtempSync(join(tmpdir(), "edgegrain-package-"));
const project = join(folder, "project");
try {
  const npm = (...words) => execFileSync("npm", words, { cwd: project, encoding: "utf8" });
  cpSync(join(web, "example"), project, { recursive: true });
  const packed = execFileSync("npm", ["pack", "--json", "--pack-destination", folder], { cwd: web, encoding: "utf8" });
  const [description] = JSON.parse(packed.slice(packed.indexOf("[\n")));
  writeFileSync(join(out, "package.json"), JSON.stringify(description, null, 1) + "\n");
  npm("install", "--no-audit", "--no-fund", "--prefer-offline", join(folder, description.filename));
  for (const name of readdirSync(bundle).filter((name) => BUNDLE_FILES.test(name))) {
    cpSync(join(bundle, name), join(project, "public", "bundle", name));
  }
  npm("run", "build");
  await served("preview", "built");
  if (service) await served("preview", "service", `?service=${encodeURIComponent(service)}`);
  await served("dev", "dev");
} finally {
  rmSync(folder, { recursive: true, force: true });
}

/** Serves the project with one of Vite's commands, encodes the picture on its page and saves the payload. */
async function served(command, name, query = "") {
  const vite = join(project, "node_modules", "vite", "bin", "vite.js");
  const server = spawn(process.execPath, [vite, command, "--host", "127.0.0.1", "--port", "0"], { cwd: project });
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: FLAGS,
  });
  try {
    const page = await browser.newPage();
    page.setDefaultTimeout(PATIENCE);
    page.on("console", (message) => console.error(`${name}: ${message.text()}`));
    await page.goto((await address(server)) + query);
    await said(page, /^Ready: /);
    for (const form of name === "built" ? ["", "-scene"] : [""]) {
      if (form) await page.locator("#scene").check();
      await page.locator("#status").evaluate((status) => (status.textContent = ""));
      await page.locator("#file").setInputFiles(picture);
      console.log(`${name}${form}: ${await said(page, /^\d+ bytes/)}`);
      const [download] = await Promise.all([page.waitForEvent("download"), page.locator("#payload").click()]);
      await download.saveAs(join(out, `${name}${form}.grain`));
      await page.locator("#file").setInputFiles([]);
    }
  } finally {
    await browser.close();
    server.kill();
  }
}

/** The address that Vite prints. */
function address(server) {
  return new Promise((resolve, reject) => {
    let printed = "";
    const read = (data) => {
      printed += stripVTControlCharacters(String(data));
      const found = /http:\/\/127\.0\.0\.1:\d+\//.exec(printed);
      if (found) resolve(found[0]);
    };
    server.stdout.on("data", read);
    server.stderr.on("data", read);
    server.on("exit", () => reject(new Error(`Vite ended: ${printed}`)));
  });
}

async function said(page, pattern) {
  const status = page.locator("#status").filter({ hasText: new RegExp(`${pattern.source}|Error`) });
  const sentence = await status.innerText();
  if (!pattern.test(sentence)) throw new Error(`the page said: ${sentence}`);
  return sentence;
}

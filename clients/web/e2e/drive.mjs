/**
 * Drives the demonstration page in Chromium as a person would, with the keyboard where there is a choice:
 *
 *     node e2e/drive.mjs --url http://127.0.0.1:8000 --picture me.png --out DIR [--group group.png] [--token TOKEN]
 *
 * With group.png, whose faces the page advises against, it sends that anyway.
 *
 * DIR gets payload.grain and device-report.json (saved from the page), page.json (what it said) and, for a wide and a
 * phone-sized window, pictures of the whole page. CHROMIUM names the browser, /usr/bin/chromium by default.
 */

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";

import { chromium, devices } from "playwright-core";

const FLAGS = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync",
];
const PATIENCE = 180_000;

const { values } = parseArgs({
  options: Object.fromEntries(["url", "picture", "group", "out", "token"].map((name) => [name, { type: "string" }])),
});
const { url, picture, group, out, token } = values;
if (!url || !picture || !out) {
  console.error("usage: node e2e/drive.mjs --url URL --picture FILE --out DIR [--group FILE] [--token TOKEN]");
  process.exit(2);
}
mkdirSync(out, { recursive: true });

const profile = mkdtempSync(join(tmpdir(), "edgegrain-chromium-"));
const trouble = [];
let cutOff = false;
const context = await chromium.launchPersistentContext(profile, {
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: FLAGS,
  viewport: { width: 1280, height: 900 },
  colorScheme: "light",
  acceptDownloads: true,
});
try {
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  page.on("pageerror", (error) => trouble.push(String(error)));
  page.on("console", (message) => {
    const refusal = token && message.text().includes("401"); // the page finds out by asking
    if (message.type() === "error" && !refusal && !cutOff) trouble.push(message.text());
  });
  await page.goto(url);
  if (token) {
    await page.locator("#token").fill(token);
    await page.keyboard.press("Enter");
  }
  const ready = await said(page, /^Ready\./);

  // Advice comes before anything is sent, and can be ignored.
  let [advice, ignored, sent] = [undefined, undefined, 0];
  if (group) {
    page.on("request", (request) => (sent += Number(request.url().includes("/v1/restore"))));
    await page.locator("#file").setInputFiles(group);
    await page.locator("#anyway").waitFor({ state: "visible" });
    advice = { sentence: await text(page, "#status"), sent };
    await page.locator("#anyway").press("Enter");
    ignored = await said(page, /and a portrait again\.$/);
  }

  await page.locator("#file").setInputFiles(picture);
  const done = await said(page, /and a portrait again\.$/);
  const focused = await page.evaluate(() => document.activeElement?.id);
  const [download] = await Promise.all([page.waitForEvent("download"), page.locator("#download").click()]);
  await download.saveAs(join(out, "payload.grain"));

  const sides = { original: await side(page) };
  for (const against of ["jpeg", "webp"]) {
    // The radio buttons are left and entered with the arrow keys.
    await page.locator("input[name=against]:checked").focus();
    await page.keyboard.press("ArrowRight");
    sides[against] = await side(page);
  }
  const before = await split(page);
  await page.locator("#slider").focus();
  for (let press = 0; press < 10; press++) await page.keyboard.press("ArrowRight");
  const after = await split(page);

  await page.screenshot({ path: join(out, "page-wide.png"), fullPage: true });
  await page.setViewportSize(devices["iPhone 13"].viewport);
  await page.screenshot({ path: join(out, "page-phone.png"), fullPage: true });
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);

  const [report] = await Promise.all([page.waitForEvent("download"), page.locator("#measure").click()]);
  await report.saveAs(join(out, "device-report.json"));

  const whole = await page.locator("#result").getAttribute("data-turn");
  await page.locator("input[name=fit][value=crop]").focus();
  await page.keyboard.press("Space");
  await page.waitForFunction((before) => document.getElementById("result").dataset.turn !== before, whole);
  const cropped = await text(page, "#restored-size");

  // A picture that cannot be read, and a service that cannot be reached, leave nothing of the previous result.
  const junk = { name: "junk.png", mimeType: "image/png", buffer: Buffer.from("no picture") };
  await page.locator("#file").setInputFiles(junk);
  const unreadable = await failure(page, /^That picture cannot be used/);
  cutOff = true;
  await page.route("**/v1/restore*", (route) => route.abort());
  await page.locator("#file").setInputFiles(picture);
  const unreachable = await failure(page, /could not be reached/);
  await page.unroute("**/v1/restore*");
  await page.locator("#again").click();
  const repeated = await said(page, /and a portrait again\.$/);
  cutOff = false;

  const seen = {
    unreadable, unreachable, repeated, advice, ignored,
    ready, done, focused, sides, slider: [before, after], overflow, cropped, trouble,
    isolated: await page.evaluate(() => crossOriginIsolated),
    threads: await page.evaluate(() => Math.min(4, navigator.hardwareConcurrency)),
    bytes: Number(await text(page, "#bytes-again")),
    timings: await page.locator("#timings tr").allInnerTexts(),
    unnamed: await unnamedControls(page),
  };
  writeFileSync(join(out, "page.json"), JSON.stringify(seen, null, 1) + "\n");
} finally {
  await context.close();
  rmSync(profile, { recursive: true, force: true });
}

async function said(page, pattern) {
  await page.waitForFunction(
    (source) => {
      const status = document.getElementById("status");
      return new RegExp(source).test(status.textContent) || status.classList.contains("trouble");
    },
    pattern.source,
    { timeout: PATIENCE },
  );
  const sentence = await text(page, "#status");
  if (!pattern.test(sentence)) throw new Error(`the page said: ${sentence}`);
  return sentence;
}

/** What a failure leaves on the page. */
async function failure(page, pattern) {
  const sentence = await said(page, pattern);
  return {
    sentence,
    result: await page.locator("#result").isVisible(),
    payload: await page.locator("#download").getAttribute("href"),
    again: await page.locator("#again").isVisible(),
  };
}

/** What is on the slider's right side, once it is there. */
async function side(page) {
  await page.waitForFunction(() => document.getElementById("other-side").textContent !== "…");
  return `${await text(page, "#other-side")}|${await text(page, "#note")}`;
}

function split(page) {
  return page.locator("#stage").evaluate((stage) => stage.style.getPropertyValue("--split"));
}

function text(page, selector) {
  return page.locator(selector).innerText();
}

/** Controls and pictures without a name for screen readers. */
function unnamedControls(page) {
  return page.evaluate(() =>
    [...document.querySelectorAll("input, button, a[href], canvas:not([aria-hidden])")]
      .filter((item) => {
        const label = item.labels?.[0]?.textContent ?? item.textContent;
        return !(item.getAttribute("aria-label") ?? label).trim();
      })
      .map((item) => item.id || item.outerHTML),
  );
}

/**
 * Drives the demonstration page in Chromium as a person would, with the keyboard where there is a choice:
 *
 *     node e2e/drive.mjs --url http://127.0.0.1:8000 --picture me.png --out DIR [--others FOLDER] [--token TOKEN]
 *
 * FOLDER has small.png, whose face the page advises against, empty.png, without a face, turned.jpg, with an EXIF
 * orientation, and group.png, with two faces.
 *
 * DIR gets the payloads and device-report.json (saved from the page), page.json (what it said) and, for a wide and a
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
  options: Object.fromEntries(["url", "picture", "others", "out", "token"].map((name) => [name, { type: "string" }])),
});
const { url, picture, others, out, token } = values;
if (!url || !picture || !out) {
  console.error("usage: node e2e/drive.mjs --url URL --picture FILE --out DIR [--others FOLDER] [--token TOKEN]");
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

  const seenOthers = others && {
    small: await advised(page, join(others, "small.png"), "#anyway"),
    empty: await advised(page, join(others, "empty.png"), "#whole"),
  };
  if (others) {
    const whole = await text(page, "#restored-size");
    await page.locator("input[name=fit][value=pad]").focus();
    await restored(page, () => page.keyboard.press("ArrowRight"));
    seenOthers.fits = [whole, await text(page, "#restored-size"), await page.locator("#pasted-figure").isVisible()];
    await restored(page, join(others, "turned.jpg"));
    await savePayload(page, "turned.grain");
    seenOthers.turned = await text(page, "#photograph-size");
    await page.screenshot({ path: join(out, "page-turned.png"), fullPage: true });
    await restored(page, join(others, "group.png"));
    await savePayload(page, "group-0.grain");
    await page.locator("input[name=face]:checked").focus();
    await restored(page, () => page.keyboard.press("ArrowRight"));
    await savePayload(page, "group-1.grain");
    seenOthers.faces = await page.locator("#faces input").evaluateAll((all) => all.map((face) => face.ariaLabel));
    await page.screenshot({ path: join(out, "page-group.png"), fullPage: true });
    await restored(page, () => page.locator("#squares polygon").first().click());
    seenOthers.clicked = await page.locator("#faces input").first().isChecked();
  }

  const sentence = await restored(page, picture);
  const focused = await page.evaluate(() => document.activeElement?.id);
  await savePayload(page, "payload.grain");
  const squares = await page.locator("#squares polygon").count();

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
  await page.waitForTimeout(500); // until all of it is drawn
  await page.screenshot({ path: join(out, "page-phone.png"), fullPage: true });
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);

  const [report] = await Promise.all([page.waitForEvent("download"), page.locator("#measure").click()]);
  await report.saveAs(join(out, "device-report.json"));

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
  const repeated = await said(page, /and a face again\.$/);
  cutOff = false;

  const seen = {
    unreadable, unreachable, repeated, ...seenOthers, squares,
    ready, done: sentence, focused, sides, slider: [before, after], overflow, trouble,
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

/** Chooses a file, or takes another step, and waits for the result. */
async function restored(page, step) {
  const before = await page.locator("#result").getAttribute("data-turn");
  if (typeof step === "string") await page.locator("#file").setInputFiles(step);
  else await step();
  await page.waitForFunction(
    (old) => document.getElementById("result").dataset.turn !== old || document.querySelector("#status.trouble"),
    before, { timeout: PATIENCE });
  return said(page, /and a face again\.$/);
}

/** Chooses a file that the page advises against, and goes on with the button that it offers. */
async function advised(page, file, button) {
  let sent = 0;
  const count = (request) => (sent += Number(request.url().includes("/v1/restore")));
  page.on("request", count);
  await page.locator("#file").setInputFiles(file);
  await page.locator(button).waitFor({ state: "visible" });
  const advice = { sentence: await text(page, "#status"), sent };
  page.off("request", count);
  await restored(page, () => page.locator(button).press("Enter"));
  return advice;
}

async function savePayload(page, name) {
  const [download] = await Promise.all([page.waitForEvent("download"), page.locator("#download").click()]);
  await download.saveAs(join(out, name));
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

/** The demonstration: a picture is encoded here, restored by the service, and compared. */

import detectorUrl from "../../../edge_encoder/faces/face_detector.onnx?url";
import sampleUrl from "../../../edgegrain/demo/portrait_768.jpg?url";

import { EdgeClient, type OpenOptions } from "../src/client";
import type { Payload } from "../src/encoder";
import { DeviceError, ServiceError } from "../src/errors";
import type { Fit } from "../src/fit";
import type { Rgb } from "../src/rgb";
import { type Classical, classical, drawn } from "./classical";
import { complaintAbout } from "./complaint";
import { faceAdvice } from "./face_advice";
import { fetched, received, type Restored, restore, restoredSides, restoredSize } from "./service";

type Against = "original" | "jpeg" | "webp";

/** What the comparison shows. */
interface Shown {
  readonly payload: Payload;
  readonly restored: HTMLCanvasElement;
  readonly original: HTMLCanvasElement;
  readonly jpeg: Promise<Classical | undefined>;
  readonly webp: Promise<Classical | undefined>;
}

const STAGE_NAMES: readonly (readonly [string, string])[] = [
  ["queue", "Wait for a worker"],
  ["unpack", "Read the payload"],
  ["decode", "Decoder network"],
  ["enlarge", "Enlarger network"],
  ["write", "Write the picture"],
];

const element = <Type extends HTMLElement>(id: string) => document.getElementById(id) as Type;
const status = element<HTMLParagraphElement>("status");
const inputs = [element<HTMLInputElement>("file"), element<HTMLInputElement>("camera")];
const sample = element<HTMLButtonElement>("sample");
const again = element<HTMLButtonElement>("again");
const anyway = element<HTMLButtonElement>("anyway");
const measure = element<HTMLButtonElement>("measure");
const drop = element<HTMLDivElement>("drop");
const slider = element<HTMLInputElement>("slider");

let token: string | undefined;
let client: EdgeClient | undefined;
/** Of the squares that the service restores, in pixels. */
let sides: readonly number[] = [];
let source: Blob | undefined;
let shown: Shown | undefined;
let turn = 0;
/** True until the page is ready or the encoder could not be loaded. */
let loading = false;
/** What "Try again" repeats. */
let failed: (() => Promise<void>) | undefined;
/** The picture that "Send anyway" sends. */
let held: Blob | undefined;

void open();

for (const input of inputs) {
  input.addEventListener("change", () => {
    const [file] = input.files ?? [];
    if (file) void show(file);
    input.value = ""; // the same file can be chosen again
  });
}
measure.addEventListener("click", () => void saveReport());
again.addEventListener("click", () => void tryAgain());
anyway.addEventListener("click", () => held && void show(held, true));
sample.addEventListener("click", () => void showSample());
slider.addEventListener("input", placeDivider);
for (const choice of document.querySelectorAll("input[name=fit]")) {
  choice.addEventListener("change", () => source && void show(source));
}
for (const choice of document.querySelectorAll("input[name=against]")) {
  choice.addEventListener("change", () => void compare());
}
// Dropped beside the box, a picture would replace the page; the field for the token takes text.
for (const kind of ["dragover", "drop"] as const) {
  window.addEventListener(kind, (event) => {
    if (event.target !== element("token")) event.preventDefault();
  });
}
drop.addEventListener("dragover", () => drop.classList.add("over"));
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
drop.addEventListener("drop", (event) => {
  drop.classList.remove("over");
  const [file] = event.dataTransfer?.files ?? [];
  if (file && loading) say("The encoder is still loading. Drop the picture again when it is ready.");
  else if (file) void show(file);
});
element("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  token = element<HTMLInputElement>("token").value.trim();
  element("token-form").hidden = true;
  void open();
});

/** Loads the encoder and lets it prove itself; only then can pictures be chosen. */
async function open(): Promise<void> {
  say("Loading the encoder…");
  loading = true;
  const start = performance.now();
  try {
    client = await EdgeClient.open(openOptions());
  } catch (error) {
    loading = false;
    const complaint = tokenComplaint(error);
    if (complaint !== undefined) {
      element("token-form").hidden = false;
      element<HTMLInputElement>("token").focus();
      say(complaint);
    } else {
      complain(error, open);
      measure.disabled = !(error instanceof DeviceError); // the report names the test pictures that failed
    }
    return;
  }
  const { id, lr, selfTest } = client.bundle;
  sides = await restoredSides(id, token);
  element("bundle").textContent = `Bundle ${id}: ${lr} × ${lr} pixels travel, coded losslessly.`;
  for (const control of [...inputs, sample, measure]) control.disabled = false;
  loading = false;
  const seconds = ((performance.now() - start) / 1000).toFixed(1);
  say(`Ready. This device encoded all ${selfTest.length} test pictures to exactly the right bytes (${seconds} s).`);
}

/** What is wrong with the token, nothing if there is none yet; undefined for errors that a token does not mend. */
function tokenComplaint(error: unknown): string | undefined {
  if (!(error instanceof ServiceError)) return undefined;
  if (error.message.includes("printable ASCII")) return "That is no token: it has special characters. Copy it again.";
  if (error.status === 401) return token ? "The service does not know that token." : "";
  return undefined;
}

function openOptions(): OpenOptions {
  const service = new URL(".", document.baseURI).href;
  return { service, token, runtime: `${service}runtime/` };
}

async function showSample(): Promise<void> {
  const mine = clear();
  say("Loading the sample…");
  try {
    const response = await fetched(sampleUrl);
    if (!response.ok) throw new Error(`the sample could not be fetched (${response.status})`);
    const picture = await received(response.blob());
    if (mine === turn) await show(picture);
  } catch (error) {
    if (mine === turn) complain(error, showSample);
  }
}

/** Sends a picture; one whose face will not be restored well only if that is wanted `regardless`. */
async function show(picture: Blob, regardless = false): Promise<void> {
  if (!client) return;
  const mine = clear();
  source = picture;
  const fit = checked("fit") as Fit;
  let faceChecked = regardless;
  try {
    if (!client.isOpen) {
      say("Loading the encoder…"); // its worker broke down
      const reopened = await EdgeClient.open(openOptions());
      if (mine !== turn) return reopened.close();
      client = reopened;
    }
    if (!faceChecked) {
      say("Looking for the face…");
      // A detector that cannot be loaded, or a picture that cannot be read, is no reason to hold the picture back here.
      const problems = await client.findFaceProblems(picture, detectorUrl, fit).catch(() => undefined);
      if (mine !== turn) return;
      if (problems && problems.length > 0) return hold(picture, faceAdvice(problems));
      faceChecked = problems !== undefined;
    }
    say("Encoding…");
    const payload = await client.compress(picture, { fit });
    if (mine !== turn) return;
    say(`Restoring from ${payload.bytes.length} bytes…`);
    const { originalWidth, originalHeight } = payload.header;
    const longest = (fit === "crop" ? Math.min : Math.max)(originalWidth, originalHeight);
    const [restoring, decoding] = await Promise.allSettled([
      restore(payload.bytes, restoredSize(longest, sides), token),
      createImageBitmap(picture),
    ]);
    try {
      if (mine !== turn) return;
      if (restoring.status === "rejected") throw restoring.reason;
      if (decoding.status === "rejected") throw decoding.reason;
      present(payload, restoring.value, decoding.value, fit);
    } finally {
      if (restoring.status === "fulfilled") restoring.value.bitmap.close();
      if (decoding.status === "fulfilled") decoding.value.close();
    }
    say(`${picture.size.toLocaleString("en")} bytes became ${payload.bytes.length}, and a portrait again.`);
    element("result-title").focus({ preventScroll: true });
  } catch (error) {
    if (mine === turn) complain(error, () => show(picture, faceChecked));
  }
}

/** Gives advice about a picture before anything of it is sent. */
function hold(picture: Blob, advice: string): void {
  say(advice);
  status.classList.add("trouble");
  held = picture;
  anyway.hidden = false;
}

/** Takes the previous picture's result off the page; the number of the turn that begins. */
function clear(): number {
  source = undefined;
  shown = undefined;
  element("result").hidden = true;
  for (const id of ["bytes", "bytes-again"]) element(id).textContent = "";
  const link = element<HTMLAnchorElement>("download");
  URL.revokeObjectURL(link.href);
  link.removeAttribute("href");
  return ++turn;
}

async function tryAgain(): Promise<void> {
  await failed?.();
  if (!again.hidden) again.focus(); // it was hidden in between
}

function present(payload: Payload, restored: Restored, bitmap: ImageBitmap, fit: Fit): void {
  const { width, height } = restored.bitmap;
  const original = drawn(bitmap, width, height, fit);
  const budget = payload.bytes.length;
  shown = {
    payload,
    original,
    restored: drawn(restored.bitmap, width, height),
    jpeg: classical(original, "image/jpeg", budget).catch(() => undefined),
    webp: classical(original, "image/webp", budget).catch(() => undefined),
  };
  copy(shown.original, "original");
  copy(shown.restored, "restored");
  copy(shown.restored, "above");
  copy(lrCanvas(payload.lr), "lr");
  const { originalWidth, originalHeight } = payload.header;
  element("original-size").textContent = `${originalWidth} × ${originalHeight} pixels`;
  element("restored-size").textContent = `${width} × ${height} pixels`;
  for (const id of ["bytes", "bytes-again"]) element(id).textContent = String(budget);
  const link = element<HTMLAnchorElement>("download");
  link.href = URL.createObjectURL(new Blob([payload.bytes as BlobPart], { type: "application/vnd.edgegrain" }));
  showTimings(payload, restored);
  element("result").hidden = false;
  element("result").dataset.turn = String(turn);
  void compare();
}

/** Saves what this device proves and measures about itself; it may have no client because it is not exact. */
async function saveReport(): Promise<void> {
  measure.disabled = true;
  const offered = [again.hidden, anyway.hidden];
  say("Measuring…");
  try {
    const report = await (client?.isOpen ? client.measure() : EdgeClient.report(openOptions()));
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([JSON.stringify(report, null, 1) + "\n"], { type: "application/json" }));
    link.download = "device-report.json";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // some browsers read it after the click
    say(
      `${report.checked - report.failed.length} of ${report.checked} test pictures came out exactly; ` +
        `the encoder takes ${report.encode_ms.median.toFixed(1)} ms.`,
    );
  } catch (error) {
    complain(error);
  } finally {
    [again.hidden, anyway.hidden] = offered;
    measure.disabled = false;
  }
}

/** Puts what was chosen on the right side of the slider. */
async function compare(): Promise<void> {
  if (!shown) return;
  const mine = shown;
  const against = checked("against") as Against;
  const note = element("note");
  const side = element("other-side");
  note.textContent = "";
  if (against === "original") {
    copy(mine.original, "below");
    side.textContent = "Original";
  } else {
    side.textContent = "…";
    const other = await mine[against];
    if (mine !== shown || checked("against") !== against) return;
    const name = against === "jpeg" ? "JPEG" : "WebP";
    if (!other) {
      copy(mine.original, "below");
      side.textContent = "Original";
      note.textContent = `This browser does not write ${name}.`;
    } else {
      copy(other.picture, "below");
      side.textContent = `${name}, ${other.bytes} bytes`;
      if (!other.fits) note.textContent = `This browser writes no smaller ${name}: its headers alone take more.`;
    }
  }
  placeDivider();
}

function showTimings(payload: Payload, restored: Restored): void {
  const { decode, fit, encode, code } = payload.timings;
  const rows: [string, number][] = [
    ["Read the picture (here)", decode ?? 0],
    ["Resize it (here)", fit],
    ["Encoder network (here)", encode],
    ["Code the payload (here)", code],
  ];
  for (const [stage, name] of STAGE_NAMES) {
    const milliseconds = restored.stages.get(stage);
    if (milliseconds !== undefined) rows.push([`${name} (server)`, milliseconds]);
  }
  rows.push(["Sending, restoring, receiving together", restored.total]);
  element("timings").replaceChildren(
    ...rows.map(([name, milliseconds]) => {
      const row = document.createElement("tr");
      const head = document.createElement("th");
      head.scope = "row";
      head.textContent = name;
      const cell = document.createElement("td");
      cell.textContent = `${milliseconds.toFixed(milliseconds < 10 ? 1 : 0)} ms`;
      row.append(head, cell);
      return row;
    }),
  );
}

function placeDivider(): void {
  element("stage").style.setProperty("--split", `${slider.value}%`);
  slider.setAttribute("aria-valuetext", `${slider.value} % restored`);
}

function lrCanvas(lr: Rgb): HTMLCanvasElement {
  const canvas = document.createElement("canvas");
  canvas.width = lr.width;
  canvas.height = lr.height;
  const context = canvas.getContext("2d")!;
  const image = context.createImageData(lr.width, lr.height);
  for (let pixel = 0; pixel < lr.width * lr.height; pixel++) {
    image.data.set([...lr.data.subarray(3 * pixel, 3 * pixel + 3), 255], 4 * pixel);
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

function copy(from: HTMLCanvasElement, to: string): void {
  const canvas = element<HTMLCanvasElement>(to);
  canvas.width = from.width;
  canvas.height = from.height;
  canvas.getContext("2d")!.drawImage(from, 0, 0);
}

function checked(name: string): string {
  return document.querySelector<HTMLInputElement>(`input[name=${name}]:checked`)!.value;
}

function say(text: string): void {
  status.classList.remove("trouble");
  status.textContent = text;
  again.hidden = true;
  anyway.hidden = true;
}

/** Says what failed; if it may succeed later, or with a new worker, offers to `repeat` it. */
function complain(error: unknown, repeat?: () => Promise<void>): void {
  const { text, temporary } = complaintAbout(error);
  say(text);
  status.classList.add("trouble");
  failed = repeat;
  again.hidden = !((temporary || client?.isOpen === false) && repeat);
}

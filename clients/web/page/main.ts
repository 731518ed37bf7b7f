/** The demonstration: a photograph's face is found and encoded here, restored by the service, and compared. */

import sampleUrl from "../../../edgegrain/demo/astronaut.jpg?url";

import { type CompressOptions, EdgeClient, type OpenOptions } from "../src/client";
import type { Payload } from "../src/encoder";
import { DeviceError, ServiceError } from "../src/errors";
import type { Face } from "../src/faces";
import type { Fit } from "../src/fit";
import { squareSide } from "../src/oriented_square";
import { type Classical, classical, drawn } from "./classical";
import { complaintAbout } from "./complaint";
import { faceAdvice } from "./face_advice";
import { canvasOf, cutOut, drawOutlines, type Photo, readPhoto, withFace } from "./photo";
import { fetched, received, type Restored, restore, restoredSides, restoredSize } from "./service";

/** A photograph that was chosen, with the faces that can be restored, the largest first. */
interface Chosen {
  readonly picture: Blob;
  readonly photo: Photo;
  readonly faces: readonly (Face & Required<Pick<Face, "square">>)[];
  /** Milliseconds that it took to find them. */
  readonly find: number;
}

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
const whole = element<HTMLButtonElement>("whole");
const measure = element<HTMLButtonElement>("measure");
const drop = element<HTMLDivElement>("drop");
const slider = element<HTMLInputElement>("slider");

let token: string | undefined;
let client: EdgeClient | undefined;
/** Of the squares that the service restores, in pixels. */
let sides: readonly number[] = [];
let chosen: Chosen | undefined;
let shown: Shown | undefined;
let turn = 0;
/** True until the page is ready or the encoder could not be loaded. */
let loading = false;
/** What "Try again" repeats. */
let failed: (() => Promise<void>) | undefined;
/** The number of the face that "Send anyway" sends. */
let held = 0;

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
anyway.addEventListener("click", () => void sendFace(held, true));
whole.addEventListener("click", () => void sendWhole());
sample.addEventListener("click", () => void showSample());
slider.addEventListener("input", placeDivider);
for (const choice of document.querySelectorAll("input[name=fit]")) {
  choice.addEventListener("change", () => void sendWhole());
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

/** Finds the faces of a picture and sends the largest. */
async function show(picture: Blob): Promise<void> {
  if (!client) return;
  chosen = undefined;
  element("photo").hidden = true;
  const mine = clear();
  try {
    const open = await openClient(mine);
    if (!open) return;
    say("Looking for faces…");
    const start = performance.now();
    const [finding, reading] = await Promise.allSettled([open.findFaces(picture, { every: true }), readPhoto(picture)]);
    if (mine !== turn) return;
    if (finding.status === "rejected") throw finding.reason; // it says more than the browser's
    if (reading.status === "rejected") throw reading.reason;
    const [found, photo] = [finding.value, reading.value];
    const faces = found.faces.filter((face): face is Chosen["faces"][number] => face.square !== undefined);
    chosen = { picture, photo, faces, find: performance.now() - start };
    showPhoto(chosen);
  } catch (error) {
    if (mine === turn) complain(error, () => show(picture));
    return;
  }
  if (chosen.faces.length) return sendFace(0);
  hold(whole, faceAdvice(["none"]));
}

/** The client; another one if its worker broke down. Undefined if another picture was chosen meanwhile. */
async function openClient(mine: number): Promise<EdgeClient | undefined> {
  if (client!.isOpen) return client;
  say("Loading the encoder…");
  const reopened = await EdgeClient.open(openOptions());
  if (mine === turn) return (client = reopened);
  reopened.close();
  return undefined;
}

/** Sends a face; one that will not be restored well only if that is wanted `regardless`. */
async function sendFace(index: number, regardless = false): Promise<void> {
  if (!chosen) return;
  const face = chosen.faces[index];
  element("fits").hidden = true;
  for (const [at, outline] of document.querySelectorAll("#squares polygon").entries()) {
    outline.classList.toggle("chosen", at === index);
  }
  for (const [at, choice] of faceChoices().entries()) choice.checked = at === index;
  clear();
  if (face.problems.length && !regardless) {
    held = index;
    return hold(anyway, faceAdvice(face.problems));
  }
  await send({ square: face.square });
}

/** Sends the whole picture, which has no face, by the fit that is chosen. */
async function sendWhole(): Promise<void> {
  clear();
  element("fits").hidden = false;
  await send({ fit: checked("fit") as Fit });
}

async function send(options: CompressOptions): Promise<void> {
  if (!chosen) return;
  const { picture, photo, find } = chosen;
  const mine = turn;
  try {
    const open = await openClient(mine);
    if (!open) return;
    say("Encoding…");
    const payload = await open.compress(picture, options);
    if (mine !== turn) return;
    say(`Restoring from ${payload.bytes.length} bytes…`);
    const { originalWidth, originalHeight, fit, square } = payload.header;
    const longest = square ? squareSide(square) : (fit === "crop" ? Math.min : Math.max)(originalWidth, originalHeight);
    const [restoring, decoding] = await Promise.allSettled([
      restore(payload.bytes, restoredSize(longest, sides), token),
      createImageBitmap(picture),
    ]);
    try {
      if (mine !== turn) return;
      if (restoring.status === "rejected") throw restoring.reason;
      if (decoding.status === "rejected") throw decoding.reason;
      present(payload, restoring.value, decoding.value, photo);
      showTimings(find, payload, restoring.value);
    } finally {
      if (restoring.status === "fulfilled") restoring.value.bitmap.close();
      if (decoding.status === "fulfilled") decoding.value.close();
    }
    say(`${picture.size.toLocaleString("en")} bytes became ${payload.bytes.length}, and a face again.`);
    element("result-title").focus({ preventScroll: true });
  } catch (error) {
    if (mine === turn) complain(error, () => (clear(), send(options)));
  }
}

/** Gives advice about a picture before anything of it is sent, and offers to go on. */
function hold(button: HTMLButtonElement, advice: string): void {
  say(advice);
  status.classList.add("trouble");
  button.hidden = false;
}

/** Shows a photograph with the squares of its faces. */
function showPhoto({ photo, faces }: Chosen): void {
  copy(photo.canvas, "photograph");
  element("photograph-size").textContent = `${photo.width} × ${photo.height} pixels`;
  const squares = faces.map(({ square }) => square);
  drawOutlines(element<HTMLElement & SVGSVGElement>("squares"), photo, squares, (index) => void sendFace(index));
  for (const choice of faceChoices()) choice.parentElement!.remove();
  const field = element("faces");
  field.hidden = faces.length < 2;
  if (!field.hidden) field.append(...squares.map((square, index) => {
    const label = document.createElement("label");
    const choice = document.createElement("input");
    Object.assign(choice, { type: "radio", name: "face", value: String(index) });
    choice.setAttribute("aria-label", `Face ${index + 1} of ${faces.length}`);
    choice.addEventListener("change", () => void sendFace(index));
    const frame = document.createElement("span");
    const small = cutOut(photo.canvas, photo.width, square, 112);
    small.setAttribute("aria-hidden", "true");
    frame.append(small);
    label.append(choice, frame);
    return label;
  }));
  element("fits").hidden = true;
  element("photo").hidden = false;
}

function faceChoices(): HTMLInputElement[] {
  return [...document.querySelectorAll<HTMLInputElement>("input[name=face]")];
}

/** Takes the previous result off the page; the number of the turn that begins. */
function clear(): number {
  shown = undefined;
  for (const id of ["result", "pasted-figure"]) element(id).hidden = true;
  element("photographs").hidden = false;
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

function present(payload: Payload, restored: Restored, bitmap: ImageBitmap, photo: Photo): void {
  const { width, height } = restored.bitmap;
  const { originalWidth, originalHeight, fit, square } = payload.header;
  const original = square
    ? cutOut(bitmap, originalWidth, square, width)
    : drawn(bitmap, width, height, fit === "crop" ? fit : "pad");
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
  copy(canvasOf(payload.lr), "lr");
  if (square) copy(withFace(photo, shown.restored, square), "pasted");
  element("pasted-figure").hidden = !square;
  element("photographs").hidden = !square; // all of it is among the pictures below
  const side = square ? squareSide(square) : Math.min(originalWidth, originalHeight);
  const size = square || fit === "crop" ? [side, side] : [originalWidth, originalHeight];
  element("original-size").textContent = `${size.join(" × ")} pixels`;
  element("restored-size").textContent = `${width} × ${height} pixels`;
  for (const id of ["bytes", "bytes-again"]) element(id).textContent = String(budget);
  const link = element<HTMLAnchorElement>("download");
  link.href = URL.createObjectURL(new Blob([payload.bytes as BlobPart], { type: "application/vnd.edgegrain" }));
  element("result").hidden = false;
  element("result").dataset.turn = String(turn);
  void compare();
}

/** Saves what this device proves and measures about itself; it may have no client because it is not exact. */
async function saveReport(): Promise<void> {
  measure.disabled = true;
  const offered = [again.hidden, anyway.hidden, whole.hidden];
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
    [again.hidden, anyway.hidden, whole.hidden] = offered;
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

function showTimings(find: number, payload: Payload, restored: Restored): void {
  const { decode, fit, encode, code } = payload.timings;
  const rows: [string, number][] = [
    ["Find the faces (here)", find],
    ["Read the picture (here)", decode ?? 0],
    ["Cut out and resize (here)", fit],
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
  for (const button of [again, anyway, whole]) button.hidden = true;
}

/** Says what failed; if it may succeed later, or with a new worker, offers to `repeat` it. */
function complain(error: unknown, repeat?: () => Promise<void>): void {
  const { text, temporary } = complaintAbout(error);
  say(text);
  status.classList.add("trouble");
  failed = repeat;
  again.hidden = !((temporary || client?.isOpen === false) && repeat);
}

import { afterAll, beforeEach, expect, test, vi } from "vitest";

import { complaintAbout } from "../page/complaint";
import { restoredSize } from "../page/service";
import { DeviceError, errorOf, ImageError, ServiceError, UnreachableError } from "../src/errors";
import type { Fit } from "../src/fit";

const compress = vi.fn();
const findFaces = vi.fn();
const open = vi.fn();
const report = vi.fn();
vi.mock("../src/client", () => ({ EdgeClient: { open, report } }));
const drawn = vi.fn(canvas);
vi.mock("../page/classical", () => ({ drawn, classical: () => Promise.resolve(undefined) }));
const cutOut = vi.fn(canvas);
const drawOutlines = vi.fn();
const readPhoto = async () => ({ canvas: canvas(), width: 8, height: 8 });
vi.mock("../page/photo", () => ({ canvasOf: canvas, cutOut, drawOutlines, readPhoto, withFace: canvas }));

/** As much of an element as the page uses. */
class StubElement extends EventTarget {
  hidden = true;
  disabled = true;
  href = "";
  download = "";
  textContent: string | null = "";
  value = "";
  files: Blob[] = [];
  readonly dataset: Record<string, string> = {};
  readonly style = { setProperty: () => {} };
  readonly classList = { add: () => {}, remove: () => {} };
  readonly focus = vi.fn();
  readonly click = vi.fn();

  removeAttribute(name: "href"): void {
    this[name] = "";
  }
  setAttribute(): void {}
  append(): void {}
  replaceChildren(): void {}
  getContext(): unknown {
    return { drawImage() {}, putImageData() {}, createImageData: () => ({ data: new Uint8ClampedArray(4) }) };
  }
}

function canvas(..._drawing: unknown[]): StubElement {
  return new StubElement();
}

const square = { x: 16, y: 16, acrossX: 16, acrossY: 0 };
const face = { square, problems: [] };
const payload = {
  bytes: new Uint8Array(362),
  lr: { width: 1, height: 1, data: new Uint8Array(3) },
  header: { originalWidth: 8, originalHeight: 8, fit: "pad" },
  timings: { fit: 1, encode: 1, code: 1 },
};
const bitmap = { width: 8, height: 8, close: vi.fn() };
const picture = new Blob(["a picture"]);

function newClient() {
  const bundle = { id: "stub", lr: 16, selfTest: ["white"] };
  return { isOpen: true, bundle, compress, findFaces, close: vi.fn() };
}

let elements: Map<string, StubElement>;
let fit: Fit;
const element = (id: string) => elements.get(id) ?? elements.set(id, new StubElement()).get(id)!;
const text = () => element("status").textContent;
const settled = () => new Promise((resolve) => setTimeout(resolve, 5));

/** An error of the class that the page knows: it imports its modules again in each test. */
async function pageError(name: string, message: string, status?: number): Promise<Error> {
  return (await import("../src/errors")).errorOf(name, message, status);
}

async function choose(file: Blob): Promise<void> {
  element("file").files = [file];
  element("file").dispatchEvent(new Event("change"));
  await settled();
}

/** The page as it is after `choose(picture)`, with a service that answers. */
async function withResult(): Promise<void> {
  await import("../page/main");
  await settled();
  await choose(picture);
  expect(text()).toMatch(/9 bytes became 362, and a face again\.$/);
  expect(element("result").hidden).toBe(false);
  expect(element("bytes").textContent).toBe("362");
  expect(element("download").href).toMatch(/^blob:/);
}

function expectNoResult(): void {
  expect(element("result").hidden).toBe(true);
  expect(element("bytes").textContent).toBe("");
  expect(element("bytes-again").textContent).toBe("");
  expect(element("download").href).toBe("");
}

beforeEach(() => {
  vi.resetModules();
  elements = new Map();
  fit = "pad";
  bitmap.close.mockClear();
  vi.stubGlobal("window", new EventTarget());
  vi.stubGlobal("document", {
    baseURI: "https://service.example/",
    getElementById: element,
    createElement: () => new StubElement(),
    querySelector: (selector: string) => ({ value: selector.includes("fit") ? fit : "original" }),
    querySelectorAll: () => [],
  });
  vi.stubGlobal("createImageBitmap", async () => bitmap);
  vi.stubGlobal("fetch", vi.fn(async () => new Response("picture")));
  compress.mockReset().mockResolvedValue(payload);
  findFaces.mockReset().mockResolvedValue({ faces: [face], problems: [] });
  for (const mock of [cutOut, drawOutlines, drawn]) mock.mockClear();
  open.mockReset().mockImplementation(async () => newClient());
});

afterAll(() => vi.unstubAllGlobals());

test("a picture that fails leaves nothing of the previous one", async () => {
  await withResult();
  compress.mockRejectedValueOnce(await pageError("ImageError", "it is no picture"));
  await choose(new Blob(["junk"]));
  expect(text()).toBe("That picture cannot be used: it is no picture.");
  expectNoResult();
  expect(element("again").hidden).toBe(true);
});

test.each(["https://service.example/", "https://service.example/edgegrain/?from=mail"])(
  "at %s the picture is restored at the original's size, as far as the bundle goes",
  async (address) => {
    Object.assign(document, { baseURI: address });
    const service = address.split("?")[0];
    vi.mocked(fetch).mockImplementation(async (url) =>
      url === `${service}v1/bundles` ? Response.json([{ id: "stub", sides: [4, 16] }]) : new Response("picture"),
    );
    await withResult();
    expect(open).toHaveBeenCalledWith({ service, runtime: `${service}runtime/` });
    const urls = vi.mocked(fetch).mock.calls.map(([url]) => url);
    expect(urls).toEqual([`${service}v1/bundles`, `${service}v1/restore?size=8`]);
  },
);

test("a picture is restored at a size that the bundle has", () => {
  expect([4, 16, 17].map((longest) => restoredSize(longest, [4, 8, 16]))).toEqual(["native", 16, 16]);
  expect([restoredSize(17, [4]), restoredSize(17, [])]).toEqual(["native", "native"]);
});

test("the face is cut out, restored at the size of its square, and drawn back", async () => {
  compress.mockResolvedValue({ ...payload, header: { ...payload.header, fit: "align", square } });
  await withResult();
  expect(findFaces).toHaveBeenCalledExactlyOnceWith(picture, { every: true });
  expect(compress).toHaveBeenCalledExactlyOnceWith(picture, { square });
  expect(cutOut).toHaveBeenCalledExactlyOnceWith(bitmap, 8, square, 8);
  expect(element("original-size").textContent).toBe("4 × 4 pixels");
  expect([element("pasted-figure").hidden, element("fits").hidden, element("faces").hidden]).toEqual([false, true, true]);
});

test("a picture that is framed already is shown whole", async () => {
  await withResult();
  expect(element("original-size").textContent).toBe("8 × 8 pixels");
  expect([element("photographs").hidden, element("pasted-figure").hidden]).toEqual([true, true]);
});

test("of several faces the largest is sent first, then the one that is clicked", async () => {
  const other = { square: { ...square, x: 4 }, problems: ["cut-off"] };
  const outside = { square: undefined, problems: [] };
  findFaces.mockResolvedValue({ faces: [face, other, outside], problems: [] });
  await withResult();
  expect(element("faces").hidden).toBe(false);
  const [, , squares, choose] = drawOutlines.mock.calls[0];
  expect(squares).toEqual([square, other.square]);
  choose(1);
  expect(text()).toBe("This face is cut off. Choose a picture that shows all of it. Nothing has been sent yet.");
  expectNoResult();
  expect(compress).toHaveBeenCalledOnce();
  expect(element("anyway").hidden).toBe(false);
  element("anyway").dispatchEvent(new Event("click"));
  await settled();
  expect(compress).toHaveBeenLastCalledWith(picture, { square: other.square });
  expect(text()).toMatch(/and a face again\.$/);
  expect(element("anyway").hidden).toBe(true);
});

test("a picture without a face is encoded whole if that is wanted", async () => {
  findFaces.mockResolvedValue({ faces: [], problems: ["none"] });
  await import("../page/main");
  await settled();
  await choose(picture);
  expect(text()).toBe("No face was found. Only faces are restored well. Nothing has been sent yet.");
  expect([compress.mock.calls.length, element("whole").hidden, element("fits").hidden]).toEqual([0, false, true]);
  fit = "crop";
  compress.mockResolvedValue({ ...payload, header: { ...payload.header, fit } });
  element("whole").dispatchEvent(new Event("click"));
  await settled();
  expect(compress).toHaveBeenCalledExactlyOnceWith(picture, { fit: "crop" });
  expect(drawn).toHaveBeenCalledWith(bitmap, 8, 8, "crop");
  expect([element("whole").hidden, element("fits").hidden]).toEqual([true, false]);
});

test("networks that cannot be fetched are asked for again", async () => {
  findFaces.mockRejectedValueOnce(await pageError("UnreachableError", "it cannot be fetched"));
  await import("../page/main");
  await settled();
  await choose(picture);
  expect(text()).toMatch(/^The service could not be reached\./);
  element("again").dispatchEvent(new Event("click"));
  await settled();
  expect(text()).toMatch(/and a face again\.$/);
});

test("sending again does not look for faces again", async () => {
  await withResult();
  findFaces.mockClear();
  compress.mockRejectedValueOnce(await pageError("ServiceError", "busy", 503));
  await choose(picture);
  element("again").dispatchEvent(new Event("click"));
  await settled();
  expect(text()).toMatch(/and a face again\.$/);
  expect(findFaces).toHaveBeenCalledOnce();
});

test("the bitmaps of every turn are closed", async () => {
  await withResult();
  expect(bitmap.close).toHaveBeenCalledTimes(2);
  vi.mocked(fetch).mockRejectedValueOnce(new TypeError("Failed to fetch"));
  await choose(picture); // fails: only the original was decoded
  expect(bitmap.close).toHaveBeenCalledTimes(3);
  vi.mocked(fetch).mockImplementationOnce(() => new Promise((resolve) => setTimeout(resolve, 20, new Response())));
  await choose(picture); // superseded
  await choose(picture);
  await vi.waitFor(() => expect(bitmap.close).toHaveBeenCalledTimes(7));
});

/** What is dropped: a file, as far as the page looks at it. */
function dropped(): Event {
  return Object.assign(new Event("drop", { cancelable: true }), { dataTransfer: { files: [picture] } });
}

test("a picture that is dropped beside the box does not replace the page", async () => {
  await import("../page/main");
  for (const kind of ["dragover", "drop"]) {
    const event = new Event(kind, { cancelable: true });
    window.dispatchEvent(event);
    expect(event.defaultPrevented).toBe(true);
  }
});

test("a picture that is dropped too early is not lost in silence", async () => {
  let finish = (_client: unknown) => {};
  open.mockReturnValueOnce(new Promise((resolve) => (finish = resolve)));
  await import("../page/main");
  element("drop").dispatchEvent(dropped());
  expect(text()).toBe("The encoder is still loading. Drop the picture again when it is ready.");
  finish(newClient());
  await settled();
  expect(text()).toMatch(/^Ready\./);
  element("drop").dispatchEvent(dropped());
  await settled();
  expect(text()).toMatch(/and a face again\.$/);
});

test("a service that does not answer in time can be asked again", async () => {
  await withResult();
  vi.spyOn(AbortSignal, "timeout").mockReturnValueOnce(AbortSignal.abort(new DOMException("late", "TimeoutError")));
  vi.mocked(fetch).mockImplementationOnce(async (_url, init) => {
    init?.signal?.throwIfAborted();
    return new Response("picture");
  });
  await choose(picture);
  expect(text()).toBe("The service took too long to answer. Try again.");
  expect(element("again").hidden).toBe(false);
  vi.restoreAllMocks();
});

test("the previous result is gone while the next picture is worked on", async () => {
  await withResult();
  compress.mockReturnValueOnce(new Promise(() => {}));
  await choose(picture);
  expect(text()).toBe("Encoding…");
  expectNoResult();
});

test("after the worker broke down another one is started", async () => {
  await withResult();
  const client = await open.mock.results[0].value;
  compress.mockImplementationOnce(async () => {
    client.isOpen = false;
    throw await pageError("DeviceError", "the encoder's worker stopped: out of memory");
  });
  await choose(picture);
  expect(text()).toBe("That did not work: the encoder's worker stopped: out of memory.");
  expect(element("again").hidden).toBe(false);

  // Of two workers that are started at once, for two pictures, one stays.
  const late = newClient();
  open.mockImplementationOnce(() => new Promise((resolve) => setTimeout(resolve, 2, late)));
  element("again").dispatchEvent(new Event("click"));
  await choose(picture);
  expect(text()).toMatch(/and a face again\.$/);
  expect(open).toHaveBeenCalledTimes(3);
  expect(late.close).toHaveBeenCalledOnce();
});

test("when the service cannot be reached, the page says so and tries again", async () => {
  await withResult();
  vi.mocked(fetch).mockRejectedValue(new TypeError("Failed to fetch"));
  await choose(picture);
  expect(text()).toBe("The service could not be reached. Check your connection and try again.");
  expectNoResult();
  expect(element("again").hidden).toBe(false);

  element("again").dispatchEvent(new Event("click"));
  await settled();
  expect(element("again").hidden).toBe(false);
  expect(element("again").focus).toHaveBeenCalledOnce();

  vi.mocked(fetch).mockImplementation(async () => new Response("picture"));
  element("again").dispatchEvent(new Event("click"));
  await settled();
  expect(text()).toMatch(/and a face again\.$/);
  expect(element("again").hidden).toBe(true);
  expect(element("result").hidden).toBe(false);
});

test("loading the encoder and the sample can be tried again too", async () => {
  open.mockRejectedValueOnce(await pageError("UnreachableError", "no answer: Failed to fetch"));
  await import("../page/main");
  await settled();
  expect(text()).toMatch(/^The service could not be reached\./);
  element("again").dispatchEvent(new Event("click"));
  await settled();
  expect(text()).toMatch(/^Ready\./);

  vi.mocked(fetch).mockRejectedValueOnce(new TypeError("Failed to fetch"));
  element("sample").dispatchEvent(new Event("click"));
  await settled();
  expect(text()).toMatch(/^The service could not be reached\./);
  element("again").dispatchEvent(new Event("click"));
  await settled();
  expect(text()).toMatch(/and a face again\.$/);
});

test.each([
  ["https://service.example/v1/bundles answered 401", 401, "The service does not know that token."],
  [
    "the token has characters that are not printable ASCII",
    undefined,
    "That is no token: it has special characters. Copy it again.",
  ],
])("the page asks for the token again: %s", async (message, status, complaint) => {
  open.mockRejectedValueOnce(await pageError("ServiceError", "https://service.example/v1/bundles answered 401", 401));
  open.mockRejectedValueOnce(await pageError("ServiceError", message, status));
  await import("../page/main");
  await settled();
  expect([text(), element("token-form").hidden]).toEqual(["", false]);
  element("token").value = "a–b";
  element("token-form").dispatchEvent(new Event("submit"));
  await settled();
  expect([text(), element("token-form").hidden, element("again").hidden]).toEqual([complaint, false, true]);
});

test("a device that is not exact can save its report", async () => {
  open.mockRejectedValueOnce(await pageError("DeviceError", "this device encodes white to other bytes"));
  report.mockResolvedValueOnce({ checked: 12, failed: ["white"], encode_ms: { median: 5 } });
  await import("../page/main");
  await settled();
  expect(text()).toBe("That did not work: this device encodes white to other bytes.");
  expect(element("file").disabled).toBe(true);
  expect(element("measure").disabled).toBe(false);
  element("measure").dispatchEvent(new Event("click"));
  await settled();
  expect(text()).toBe("11 of 12 test pictures came out exactly; the encoder takes 5.0 ms.");
});

test("errors are told in plain words, and only what may pass is offered again", () => {
  expect(complaintAbout(new UnreachableError("Failed to fetch")).text).not.toContain("Failed to fetch");
  expect(complaintAbout(new ImageError("too large"))).toEqual({
    text: "That picture cannot be used: too large.",
    temporary: false,
  });
  expect(complaintAbout(new ServiceError("overloaded", 503))).toEqual({
    text: "The service refused: overloaded.",
    temporary: true,
  });
  for (const [status, temporary] of [[404, false], [422, false], [429, true], [500, true], [503, true]] as const) {
    expect(complaintAbout(errorOf("ServiceError", "no", status)).temporary).toBe(temporary);
  }
  expect(complaintAbout(new DeviceError("other bytes"))).toEqual({
    text: "That did not work: other bytes.",
    temporary: false,
  });
  const crossed = errorOf("UnreachableError", "gone");
  expect(crossed).toBeInstanceOf(ServiceError);
  expect(crossed.name).toBe("UnreachableError");
});

import { afterAll, beforeEach, expect, test, vi } from "vitest";

import { sha256Hex } from "../src/golden_inputs";
import type { Answer, PictureQuestion, Question } from "../src/messages";
import type { Rgb } from "../src/rgb";

type CompressQuestion = Extract<PictureQuestion, { verb: "compress" }>;

const NO_FACES = { faces: [], problems: ["none"] };

const inputs = ["black", "white"].map((name, index) => {
  const lr_sha256 = sha256Hex(new Uint8Array(3));
  return { name, kind: "constant", parameters: { colour: Array(3).fill(255 * index) }, lr_sha256 };
});
const encode = async (picture: Rgb) => ({ width: 1, height: 1, data: picture.data.slice(0, 3) });
const close = vi.fn(async () => {});
vi.mock("../src/bundle", () => ({ fetchBundle: async () => ({ id: "stub", golden: { hr: 2, inputs } }) }));
vi.mock("../src/encoder_session", () => ({ EncoderSession: { open: async () => ({ encode, close, threads: 1 }) } }));
const compress = vi.fn();
const compressSquare = vi.fn();
const bundle = { domain: "faces", golden: { inputs: [] } };
const within = vi.fn((_targetBytes: number) => ({ bundle, compress: compressSmall }));
const compressSmall = vi.fn();
vi.mock("../src/encoder", () => ({ Encoder: { open: async () => ({ bundle, compress, compressSquare, within }) } }));
const readPixels = vi.fn();
vi.mock("../src/pixels", () => ({ readPixels }));
const find = vi.fn(async () => []);
const openFinder = vi.fn(async (..._models: Uint8Array[]) => ({ find }));
vi.mock("../src/face_finder", () => ({ FaceFinder: { open: openFinder } }));

const page = { name: "edgegrain", onmessage: async (_event: { data: unknown }) => {}, postMessage: vi.fn() };
const service = { service: "https://service.example" };
const background = [255, 255, 255] as const;
const payload = { bytes: new Uint8Array(1), timings: { fit: 1, encode: 1, code: 1 } };
let fetched: string[];
let broken: boolean;

async function ask(question: Question): Promise<Answer> {
  await page.onmessage({ data: { id: 1, ...question } });
  return page.postMessage.mock.lastCall![0] as Answer;
}

function findFaces(): Promise<Answer> {
  return ask({ verb: "find", source: new Blob(), background, every: false });
}

beforeEach(async () => {
  vi.resetModules();
  for (const mock of [compress, compressSquare, readPixels, find, openFinder]) mock.mockClear();
  readPixels.mockImplementation(async () => ({ width: 8, height: 8, data: new Uint8Array(3 * 64) }));
  for (const encode of [compress, compressSquare]) encode.mockImplementation(async () => payload);
  bundle.domain = "faces";
  [fetched, broken] = [[], false];
  vi.stubGlobal("self", page);
  vi.stubGlobal("ImageBitmap", class {});
  vi.stubGlobal("fetch", async (url: string) => {
    fetched.push(url);
    return new Response(url, { status: broken ? 404 : 200 });
  });
  await import("../src/worker");
  await ask({ verb: "open", source: service, runtime: {}, faces: "https://a.example/faces/" });
});

afterAll(() => {
  vi.resetModules(); // later files import the modules that are replaced here
  vi.unstubAllGlobals();
});

test("the networks that find faces are fetched once, at the first use", async () => {
  expect(fetched).toEqual([]);
  for (let call = 0; call < 2; call++) expect(await findFaces()).toEqual({ id: 1, result: NO_FACES });
  const urls = ["https://a.example/faces/face_detector.onnx", "https://a.example/faces/face_landmarks.onnx"];
  expect(fetched).toEqual(urls);
  expect(openFinder.mock.calls.map((models) => models.map((model) => new TextDecoder().decode(model)))).toEqual([urls]);
});

test("by default they lie next to the worker", async () => {
  await ask({ verb: "open", source: service, runtime: {} });
  await findFaces();
  expect(fetched.map((url) => new URL(url).pathname.split("/").slice(-2).join("/"))).toEqual(
    ["src/face_detector.onnx", "src/face_landmarks.onnx"]);
});

test("networks that cannot be fetched are fetched again at the next call", async () => {
  broken = true;
  expect(await findFaces()).toMatchObject({ error: { name: "ServiceError", status: 404 } });
  broken = false;
  expect(await findFaces()).toEqual({ id: 1, result: NO_FACES });
  expect(fetched).toHaveLength(4);
});

test.each<[string, Partial<CompressQuestion>]>([
  ["a fit", { fit: "crop" }],
  ["align: false", { align: false }],
])("with %s the whole picture is encoded", async (_name, options) => {
  const answer = await ask({ verb: "compress", source: new Blob(), background, align: true, ...options });
  expect(answer).toMatchObject({ result: { timings: { decode: expect.any(Number), encode: 1 } } });
  expect(compress).toHaveBeenCalledExactlyOnceWith(expect.objectContaining({ width: 8 }), options.fit);
  expect(fetched).toEqual([]);
});

test("a number of bytes is the encoder's", async () => {
  compressSmall.mockResolvedValueOnce(payload);
  await ask({ verb: "compress", source: new Blob(), background, align: false, targetBytes: 300 });
  expect(within).toHaveBeenCalledExactlyOnceWith(300);
  expect(compressSmall).toHaveBeenCalledOnce();
  expect(compress).not.toHaveBeenCalled();
});

test("a bundle of another domain encodes whole pictures, and no faces", async () => {
  bundle.domain = "churches";
  await ask({ verb: "compress", source: new Blob(), background, align: true });
  expect(compress).toHaveBeenCalledOnce();
  const answer = await ask({ verb: "compressFaces", source: new Blob(), background });
  expect(answer).toMatchObject({ error: { name: "ImageError", message: expect.stringContaining("is for churches") } });
});

test("a face is looked for by default, and not where its square is given", async () => {
  const question = { verb: "compress", source: new Blob(), background, align: true } as const;
  expect(await ask(question)).toMatchObject({ error: { name: "ImageError" } });
  expect(find).toHaveBeenCalledOnce();
  const square = { x: 8, y: 8, acrossX: 4, acrossY: 0 };
  await ask({ ...question, square });
  expect(compressSquare).toHaveBeenCalledExactlyOnceWith(expect.anything(), square);
  expect([find.mock.calls.length, compress.mock.calls.length]).toEqual([1, 0]);
});

test("pictures are decoded one after the other", async () => {
  const steps: string[] = [];
  const later = () => new Promise((resolve) => setTimeout(resolve));
  readPixels.mockImplementation(async ({ size }: Blob) => {
    steps.push(`decode ${size}`);
    await later();
    if (size === 2) throw new Error("no picture");
  });
  compress.mockImplementation(async () => {
    await later();
    steps.push("encoded");
    return payload;
  });
  const [, bad] = await Promise.all([1, 2, 3].map((size) => {
    return ask({ verb: "compress", source: new Blob([new Uint8Array(size)]), background, align: false });
  }));
  expect(steps).toEqual(["decode 1", "encoded", "decode 2", "decode 3", "encoded"]);
  expect(bad).toMatchObject({ error: { message: "no picture" } });
});

test("an encoder that is not exact has a report too, with the threads that there were", async () => {
  const answer = await ask({ verb: "report", source: service, runtime: { threads: 2 }, runs: 3 });
  const report = { bundle: "stub", threads: 1, checked: 2, failed: ["white"], encode_ms: { runs: 3 } };
  expect(answer).toMatchObject({ id: 1, result: report });
  expect(close).toHaveBeenCalledOnce();
});

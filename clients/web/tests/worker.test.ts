import { afterAll, beforeEach, expect, test, vi } from "vitest";

import { sha256Hex } from "../src/golden_inputs";
import type { Answer, Question } from "../src/messages";
import type { Rgb } from "../src/rgb";

const inputs = ["black", "white"].map((name, index) => {
  const lr_sha256 = sha256Hex(new Uint8Array(3));
  return { name, kind: "constant", parameters: { colour: Array(3).fill(255 * index) }, lr_sha256 };
});
const encode = async (picture: Rgb) => ({ width: 1, height: 1, data: picture.data.slice(0, 3) });
const close = vi.fn(async () => {});
vi.mock("../src/bundle", () => ({ fetchBundle: async () => ({ id: "stub", golden: { hr: 2, inputs } }) }));
vi.mock("../src/encoder_session", () => ({ EncoderSession: { open: async () => ({ encode, close, threads: 1 }) } }));
const compress = vi.fn();
vi.mock("../src/encoder", () => ({ Encoder: { open: async () => ({ bundle: { golden: { inputs: [] } }, compress }) } }));
const readPixels = vi.fn();
const readReduced = async () => ({ picture: { width: 8, height: 8 }, scale: 1 });
vi.mock("../src/pixels", () => ({ readPixels, readReduced }));
const openDetector = vi.fn(async (_model: Uint8Array) => ({ find: async () => [] }));
vi.mock("../src/face_detector", () => ({ FaceDetector: { open: openDetector } }));

const page = { name: "edgegrain", onmessage: async (_event: { data: unknown }) => {}, postMessage: vi.fn() };
let fetched: string[];

async function ask(question: Question): Promise<Answer> {
  await page.onmessage({ data: { id: 1, ...question } });
  return page.postMessage.mock.lastCall![0] as Answer;
}

function findFaces(detector: string): Promise<Answer> {
  return ask({ verb: "faces", source: new Blob(), fit: "pad", detector });
}

beforeEach(async () => {
  vi.resetModules();
  openDetector.mockClear();
  fetched = [];
  vi.stubGlobal("self", page);
  vi.stubGlobal("fetch", async (url: string) => {
    fetched.push(url);
    return new Response(url, { status: url.endsWith("missing") ? 404 : 200 });
  });
  await import("../src/worker");
  await ask({ verb: "open", source: { service: "https://service.example" }, runtime: {} });
});

afterAll(() => {
  vi.resetModules(); // later files import the modules that are replaced here
  vi.unstubAllGlobals();
});

test("each URL has its face detector, which is fetched once", async () => {
  for (const url of ["https://a.example/", "https://b.example/", "https://a.example/"]) {
    expect(await findFaces(url)).toEqual({ id: 1, result: ["none"] });
  }
  expect(fetched).toEqual(["https://a.example/", "https://b.example/"]);
  expect(openDetector.mock.calls.map(([model]) => new TextDecoder().decode(model))).toEqual(fetched);
});

test("a face detector that cannot be fetched is fetched again at the next call", async () => {
  const url = "https://a.example/missing";
  for (let call = 0; call < 2; call++) {
    const error = { name: "ServiceError", message: `${url} answered 404`, status: 404 };
    expect(await findFaces(url)).toMatchObject({ error });
  }
  expect(fetched).toEqual([url, url]);
});

test("pictures are decoded one after the other", async () => {
  vi.stubGlobal("ImageBitmap", class {});
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
  });
  const background = [255, 255, 255] as const;
  const [, bad] = await Promise.all([1, 2, 3].map((size) => {
    return ask({ verb: "compress", source: new Blob([new Uint8Array(size)]), fit: "pad", background });
  }));
  expect(steps).toEqual(["decode 1", "encoded", "decode 2", "decode 3", "encoded"]);
  expect(bad).toMatchObject({ error: { message: "no picture" } });
});

test("an encoder that is not exact has a report too, with the threads that there were", async () => {
  const source = { service: "https://service.example" };
  const answer = await ask({ verb: "report", source, runtime: { threads: 2 }, runs: 3 });
  const report = { bundle: "stub", threads: 1, checked: 2, failed: ["white"], encode_ms: { runs: 3 } };
  expect(answer).toMatchObject({ id: 1, result: report });
  expect(close).toHaveBeenCalledOnce();
});

import * as ort from "onnxruntime-web/wasm";
import { afterEach, expect, test, vi } from "vitest";

import { EncoderSession } from "../src/encoder_session";
import { BundleError, DeviceError, UnreachableError } from "../src/errors";

// Test files share modules, so these tests change the runtime's objects and put them back: a mocked module
// would have no effect on a file loaded before.
const { numThreads, wasmPaths } = ort.env.wasm;

afterEach(() => {
  vi.restoreAllMocks();
  Object.assign(ort.env.wasm, { numThreads, wasmPaths });
});

test.each([
  ["no available backend found. ERR: [wasm] Error: cannot fetch the module", UnreachableError],
  ["no available backend found. ERR: [wasm] Error: WebAssembly SIMD is not supported", BundleError],
  ["protobuf parsing failed", BundleError],
])("%s", async (message, kind) => {
  vi.spyOn(ort.InferenceSession, "create").mockRejectedValue(new Error(message));
  const opening = EncoderSession.open(new Uint8Array(1), 256, 16);
  await expect(opening).rejects.toThrow(kind);
  await expect(opening).rejects.toThrow(message);
});

test("a page that forbids WebAssembly is told so", async () => {
  const refusal = new Error("no available backend found. ERR: [wasm] CompileError: blocked");
  vi.spyOn(ort.InferenceSession, "create").mockRejectedValue(refusal);
  vi.spyOn(WebAssembly, "Module").mockImplementation(function () {
    throw new WebAssembly.CompileError("blocked by Content Security Policy");
  });
  const opening = EncoderSession.open(new Uint8Array(1), 256, 16);
  await expect(opening).rejects.toThrow(DeviceError);
  await expect(opening).rejects.toThrow("allow 'wasm-unsafe-eval' in its script-src");
});

test("a session tells the threads that the runtime has", async () => {
  vi.spyOn(ort.InferenceSession, "create").mockImplementation(async () => {
    ort.env.wasm.numThreads = 1; // as ONNX Runtime does where memory cannot be shared
    return { inputNames: ["image"], outputNames: ["lr"] } as unknown as ort.InferenceSession;
  });
  const session = await EncoderSession.open(new Uint8Array(1), 256, 16, { runtime: "https://h/r", threads: 4 });
  expect([session.threads, ort.env.wasm.wasmPaths]).toEqual([1, "https://h/r/"]);
});

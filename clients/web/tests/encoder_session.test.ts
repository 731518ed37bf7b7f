import { expect, test, vi } from "vitest";

import { EncoderSession } from "../src/encoder_session";
import { BundleError, UnreachableError } from "../src/errors";

const { wasm, create } = vi.hoisted(() => {
  return { wasm: {} as { numThreads?: number; wasmPaths?: string }, create: vi.fn() };
});
vi.mock("onnxruntime-web/wasm", () => ({ env: { wasm }, InferenceSession: { create } }));

test.each([
  ["no available backend found. ERR: [wasm] Error: cannot fetch the module", UnreachableError],
  ["no available backend found. ERR: [wasm] Error: WebAssembly SIMD is not supported", BundleError],
  ["protobuf parsing failed", BundleError],
])("%s", async (message, kind) => {
  create.mockRejectedValue(new Error(message));
  const opening = EncoderSession.open(new Uint8Array(1), 256, 16);
  await expect(opening).rejects.toThrow(kind);
  await expect(opening).rejects.toThrow(message);
});

test("a session tells the threads that the runtime has", async () => {
  create.mockImplementation(async () => {
    wasm.numThreads = 1; // as ONNX Runtime does where memory cannot be shared
    return { inputNames: ["image"], outputNames: ["lr"] };
  });
  const session = await EncoderSession.open(new Uint8Array(1), 256, 16, { runtime: "https://h/r", threads: 4 });
  expect([session.threads, wasm.wasmPaths]).toEqual([1, "https://h/r/"]);
});

/** ONNX Runtime's WebAssembly backend, which computes on the CPU, where float32 is float32. */

import * as ort from "onnxruntime-web/wasm";

import { BundleError, DeviceError, UnreachableError } from "./errors.js";
import { asFolder } from "./folder_address.js";

export { Tensor } from "onnxruntime-web/wasm";

/** Where and how the runtime works; it is the same for all sessions of a page or worker: that of the first. */
export interface RuntimeOptions {
  /** URL of the folder with ort-wasm-simd-threaded.mjs and .wasm; by default the bundler's copy. */
  readonly runtime?: string;
  /** Threads; more than one only where `crossOriginIsolated`. By default 1. */
  readonly threads?: number;
}

/**
 * Loads the bytes of a network, which errors call `name`; `BundleError` if it is none, `UnreachableError` if the
 * runtime's files cannot be fetched, `DeviceError` if the page forbids WebAssembly.
 */
export async function openSession(
  model: Uint8Array, name: string, options: RuntimeOptions = {},
): Promise<ort.InferenceSession> {
  ort.env.wasm.numThreads = options.threads ?? ort.env.wasm.numThreads ?? 1;
  if (options.runtime) ort.env.wasm.wasmPaths = asFolder(options.runtime);
  try {
    return await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    if (!mayCompile()) {
      throw new DeviceError(
        "the page's Content-Security-Policy forbids WebAssembly; allow 'wasm-unsafe-eval' in its script-src, also in " +
          `that of the worker's script: ${reason}`,
      );
    }
    if (reason.startsWith("no available backend") && !reason.includes("SIMD")) {
      throw new UnreachableError(`the runtime's WebAssembly cannot be loaded: ${reason}`);
    }
    throw new BundleError(`the ${name} cannot be loaded: ${reason}`);
  }
}

/** False where a Content-Security-Policy forbids to compile WebAssembly. */
function mayCompile(): boolean {
  try {
    new WebAssembly.Module(Uint8Array.of(0, 0x61, 0x73, 0x6d, 1, 0, 0, 0)); // the empty module
    return true;
  } catch {
    return false;
  }
}

/** Threads of its sessions: one where the runtime cannot share memory. */
export function runtimeThreads(): number {
  return ort.env.wasm.numThreads ?? 1;
}

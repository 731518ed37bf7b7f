/**
 * ONNX Runtime of React Native. The map `react-native` of package.json gives it to bundlers in place of runtime.ts,
 * whose exports it has. Type-checked, and tested in Node on the WebAssembly backend; not run on a device.
 */

import { InferenceSession, Tensor } from "onnxruntime-react-native";

import { BundleError } from "./errors.js";
import type { RuntimeOptions } from "./runtime.js";

export { Tensor };

let threads = 1;

/** Loads the bytes of a network, which errors call `name`; `BundleError` if it is none. */
export async function openSession(
  model: Uint8Array, name: string, options: RuntimeOptions = {},
): Promise<InferenceSession> {
  threads = options.threads ?? threads;
  try {
    // Of the providers only the CPU's computes float32 as float32.
    return await InferenceSession.create(model, { executionProviders: ["cpu"], intraOpNumThreads: threads });
  } catch (error) {
    throw new BundleError(`the ${name} cannot be loaded: ${error instanceof Error ? error.message : String(error)}`);
  }
}

/** Threads of the session that was opened last. */
export function runtimeThreads(): number {
  return threads;
}

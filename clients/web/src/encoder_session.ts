/** The exact encoder on ONNX Runtime's WebAssembly backend: a square picture in, its LR out. */

import * as ort from "onnxruntime-web/wasm";

import { BundleError, ImageError, UnreachableError } from "./errors.js";
import { asFolder } from "./folder_address.js";
import type { Rgb } from "./rgb.js";

const INPUT = "image";
const OUTPUT = "lr";

/** Where and how the runtime works; it is the same for all sessions of a page or worker. */
export interface RuntimeOptions {
  /** URL of the folder with ort-wasm-simd-threaded.mjs and .wasm; by default the bundler's copy. */
  readonly runtime?: string;
  /** Threads; more than one only where `crossOriginIsolated`. By default 1. */
  readonly threads?: number;
}

/** An encoder, loaded once; it computes on the CPU, where float32 is float32. */
export class EncoderSession {
  private constructor(
    private readonly session: ort.InferenceSession,
    /** Side of the picture, in pixels. */
    readonly hr: number,
    /** Side of the LR. */
    readonly lr: number,
    /** Threads that it computes with: one where the runtime cannot share memory. */
    readonly threads: number,
  ) {}

  /**
   * Loads the bytes of an encoder.onnx that takes pictures of side `hr`; `BundleError` if it is none,
   * `UnreachableError` if the runtime's files cannot be fetched.
   */
  static async open(model: Uint8Array, hr: number, lr: number, options: RuntimeOptions = {}): Promise<EncoderSession> {
    ort.env.wasm.numThreads = options.threads ?? 1;
    if (options.runtime) ort.env.wasm.wasmPaths = asFolder(options.runtime);
    let session: ort.InferenceSession;
    try {
      session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      if (reason.startsWith("no available backend") && !reason.includes("SIMD")) {
        throw new UnreachableError(`the runtime's WebAssembly cannot be loaded: ${reason}`);
      }
      throw new BundleError(`the encoder cannot be loaded: ${reason}`);
    }
    if (session.inputNames.join() !== INPUT || session.outputNames.join() !== OUTPUT) {
      const [inputs, outputs] = [session.inputNames.join(), session.outputNames.join()];
      throw new BundleError(`not an encoder: it goes from ${inputs} to ${outputs}, not from ${INPUT} to ${OUTPUT}`);
    }
    return new EncoderSession(session, hr, lr, ort.env.wasm.numThreads ?? 1);
  }

  /** Encodes one picture of side `hr`; `ImageError` if it has another size. */
  async encode(picture: Rgb): Promise<Rgb> {
    if (picture.width !== this.hr || picture.height !== this.hr) {
      const found = `${picture.width} x ${picture.height}`;
      throw new ImageError(`the encoder takes ${this.hr} x ${this.hr} pixels, got ${found}`);
    }
    const image = new ort.Tensor("uint8", picture.data, [1, this.hr, this.hr, 3]);
    const results = await this.session.run({ [INPUT]: image });
    const data = results[OUTPUT].data;
    if (!(data instanceof Uint8Array) || data.length !== 3 * this.lr * this.lr) {
      const found = results[OUTPUT].dims.join(" x ");
      throw new BundleError(`the encoder gave ${found}, expected 1 x ${this.lr} x ${this.lr} x 3`);
    }
    return { width: this.lr, height: this.lr, data: data.slice() };
  }

  /** Frees its memory. */
  close(): Promise<void> {
    return this.session.release();
  }
}

/** The exact encoder on ONNX Runtime: a square picture in, its LR out. */

import type * as ort from "onnxruntime-web/wasm";

import { BundleError, ImageError } from "./errors.js";
import type { Rgb } from "./rgb.js";
import { openSession, type RuntimeOptions, runtimeThreads, Tensor } from "./runtime.js";

const INPUT = "image";
const OUTPUT = "lr";

/** An encoder, loaded once. */
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
    const session = await openSession(model, "encoder", options);
    if (session.inputNames.join() !== INPUT || session.outputNames.join() !== OUTPUT) {
      const [inputs, outputs] = [session.inputNames.join(), session.outputNames.join()];
      throw new BundleError(`not an encoder: it goes from ${inputs} to ${outputs}, not from ${INPUT} to ${OUTPUT}`);
    }
    return new EncoderSession(session, hr, lr, runtimeThreads());
  }

  /** Encodes one picture of side `hr`; `ImageError` if it has another size. */
  async encode(picture: Rgb): Promise<Rgb> {
    if (picture.width !== this.hr || picture.height !== this.hr) {
      const found = `${picture.width} x ${picture.height}`;
      throw new ImageError(`the encoder takes ${this.hr} x ${this.hr} pixels, got ${found}`);
    }
    const image = new Tensor("uint8", picture.data, [1, this.hr, this.hr, 3]);
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

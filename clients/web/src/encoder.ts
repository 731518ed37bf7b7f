/** Pictures to payloads, in whatever thread it is called: the worker's inside, and the library for Node. */

import type { Bundle } from "./bundle.js";
import { type ContractTables, rounded } from "./coder_tables.js";
import { EncoderSession } from "./encoder_session.js";
import { DeviceError } from "./errors.js";
import { cutSquare } from "./exact_square.js";
import { type Fit, fitPicture } from "./fit.js";
import { checkGolden } from "./golden_inputs.js";
import { ffhqSquare, isFramed, type OrientedSquare, type Point } from "./oriented_square.js";
import { encodePayload, type Header, parseHeader, type WireFit } from "./payload.js";
import type { Rgb } from "./rgb.js";
import type { RuntimeOptions } from "./runtime.js";

/** Milliseconds that each step took; `decode` only where a file or bitmap was read, `find` where faces were. */
export interface Timings {
  readonly decode?: number;
  readonly find?: number;
  readonly fit: number;
  readonly encode: number;
  readonly code: number;
}

/** A compressed picture. */
export interface Payload {
  /** What to send or store. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly header: Header;
  /** The tiny picture that travels. */
  readonly lr: Rgb;
  readonly timings: Timings;
}

/** An encoder that has proven itself on this device. */
export class Encoder {
  private constructor(
    readonly bundle: Bundle,
    private readonly session: EncoderSession,
    private readonly targetBytes = Infinity,
  ) {}

  /** Loads a bundle and runs its golden vectors; `DeviceError` if this device computes other bytes. */
  static async open(bundle: Bundle, options: RuntimeOptions = {}): Promise<Encoder> {
    const session = await EncoderSession.open(bundle.encoder, bundle.hr, bundle.lr, options);
    const failed = await checkGolden(bundle.golden, (picture) => session.encode(picture)).catch(async (error) => {
      await session.close();
      throw error;
    });
    if (failed.length) {
      await session.close();
      const names = failed.join(", ");
      throw new DeviceError(`this device encodes ${names} to other bytes; let the service compress instead`);
    }
    return new Encoder(bundle, session);
  }

  /** The encoder's LR of a picture of side `hr`. */
  encode(picture: Rgb): Promise<Rgb> {
    return this.session.encode(picture);
  }

  /**
   * The same encoder with payloads of the bundle's best rate that takes at most `targetBytes`, else of its last; not
   * for scenes, whose faces have one LR contract.
   */
  within(targetBytes: number): Encoder {
    return new Encoder(this.bundle, this.session, targetBytes);
  }

  /** Threads that the encoder computes with. */
  get threads(): number {
    return this.session.threads;
  }

  /** Frees the encoder's memory; it encodes nothing afterwards. */
  close(): Promise<void> {
    return this.session.close();
  }

  /** Compresses a whole picture: the bytes of `sdk.compress(picture, fit)` in Python for these pixels. */
  compress(picture: Rgb, fit: Fit = "pad"): Promise<Payload> {
    return this.pack(picture, () => fitPicture(picture, this.bundle.hr, fit), fit);
  }

  /**
   * Compresses the face with these points, the midpoints of the eyes, left and right as seen in the picture, and of the
   * mouth, as `sdk.compress` does for the face it finds; `ImageError` for points that make no square in the picture.
   */
  async compressFace(picture: Rgb, leftEye: Point, rightEye: Point, mouth: Point): Promise<Payload> {
    return this.compressSquare(picture, ffhqSquare(leftEye, rightEye, mouth, [picture.width, picture.height]));
  }

  /** Compresses a square of a picture; all of it, if it is framed like FFHQ's, unless `framedWhole` is false. */
  compressSquare(picture: Rgb, square: OrientedSquare, framedWhole = true): Promise<Payload> {
    if (framedWhole && isFramed(square, [picture.width, picture.height])) return this.compress(picture);
    return this.pack(picture, () => cutSquare(picture, square, this.bundle.hr), "align", square);
  }

  private async pack(picture: Rgb, fitted: () => Rgb, fit: WireFit, square?: OrientedSquare): Promise<Payload> {
    const times = [performance.now()];
    const input = fitted();
    times.push(performance.now());
    const lr = await this.session.encode(input);
    times.push(performance.now());
    const coded = ({ contractId, tables }: ContractTables) =>
      encodePayload(lr, { contractId, tables, originalSize: [picture.width, picture.height], fit, square });
    const further = this.targetBytes === Infinity ? [] : (this.bundle.rates ?? []);
    const [first, ...others] = [this.bundle, ...further].sort((a, b) => a.tables.step - b.tables.step);
    let rate: ContractTables = first;
    let bytes = coded(rate);
    for (const next of others) {
      if (bytes.length <= this.targetBytes) break;
      [rate, bytes] = [next, coded(next)];
    }
    times.push(performance.now());
    const [start, fittedAt, encodedAt, end] = times;
    return {
      bytes,
      header: parseHeader(bytes),
      lr: rounded(lr, rate.tables),
      timings: { fit: fittedAt - start, encode: encodedAt - fittedAt, code: end - encodedAt },
    };
  }
}

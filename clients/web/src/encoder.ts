/** Pictures to payloads, in whatever thread it is called: the worker's inside, and the library for Node. */

import type { Bundle } from "./bundle.js";
import { rounded } from "./coder_tables.js";
import { EncoderSession, type RuntimeOptions } from "./encoder_session.js";
import { DeviceError } from "./errors.js";
import { type Fit, fitPicture } from "./fit.js";
import { checkGolden } from "./golden_inputs.js";
import { type Header, encodePayload, parseHeader } from "./payload.js";
import type { Rgb } from "./rgb.js";

/** Milliseconds that each step took; `decode` only where a file or bitmap was read. */
export interface Timings {
  readonly decode?: number;
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

  /** Threads that the encoder computes with. */
  get threads(): number {
    return this.session.threads;
  }

  /** Frees the encoder's memory; it encodes nothing afterwards. */
  close(): Promise<void> {
    return this.session.close();
  }

  /** Compresses a picture: the same bytes as `sdk.compress` in Python makes of these pixels. */
  async compress(picture: Rgb, fit: Fit = "pad"): Promise<Payload> {
    const times = [performance.now()];
    const fitted = fitPicture(picture, this.bundle.hr, fit);
    times.push(performance.now());
    const lr = rounded(await this.session.encode(fitted), this.bundle.tables);
    times.push(performance.now());
    const bytes = encodePayload(lr, {
      contractId: this.bundle.contractId,
      tables: this.bundle.tables,
      originalSize: [picture.width, picture.height],
      fit,
    });
    times.push(performance.now());
    const [start, fittedAt, encodedAt, end] = times;
    return {
      bytes,
      header: parseHeader(bytes),
      lr,
      timings: { fit: fittedAt - start, encode: encodedAt - fittedAt, code: end - encodedAt },
    };
  }
}

/** A binary range coder in 32-bit integers with a shortest ending: docs/lr_coder.md, "Range coder". */

import { PayloadError } from "./errors.js";

const TOP = 0xffffffff;

/** Encoder and decoder alike: one decision with a probability p / 2^16 of being true, p from 1 to 65535. */
export interface BitCoder {
  code(bit: boolean, probability: number): boolean;
}

/** Collects decisions; `finish` returns the body. */
export class RangeEncoder implements BitCoder {
  private low = 0;
  private high = TOP;
  private readonly output: number[] = [];

  code(bit: boolean, probability: number): boolean {
    const split = this.low + Math.floor(((this.high - this.low) * probability) / 65536);
    if (bit) this.high = split;
    else this.low = split + 1;
    while (this.low >>> 24 === this.high >>> 24) {
      this.output.push(this.high >>> 24);
      this.low = (this.low << 8) >>> 0;
      this.high = ((this.high << 8) | 0xff) >>> 0;
    }
    return bit;
  }

  finish(): Uint8Array {
    return withoutZeros([...this.output, ...shortestEnding(this.low, this.high)]);
  }
}

/** Reads decisions back, in the order and with the probabilities they were written. */
export class RangeDecoder implements BitCoder {
  private low = 0;
  private high = TOP;
  private value: number;
  private position = 4;

  constructor(private readonly body: Uint8Array) {
    this.value = 0;
    for (let index = 0; index < 4; index++) this.value = this.value * 256 + (body[index] ?? 0);
  }

  /** The next decision, whatever `bit` is. */
  code(_bit: boolean, probability: number): boolean {
    const split = this.low + Math.floor(((this.high - this.low) * probability) / 65536);
    const bit = this.value <= split;
    if (bit) this.high = split;
    else this.low = split + 1;
    while (this.low >>> 24 === this.high >>> 24) {
      this.low = (this.low << 8) >>> 0;
      this.high = ((this.high << 8) | 0xff) >>> 0;
      this.value = ((this.value << 8) | (this.body[this.position] ?? 0)) >>> 0;
      this.position++;
    }
    return bit;
  }

  /** Throws `PayloadError` unless the body is the one and only body of the decisions read. */
  finish(): void {
    const settled = Array.from({ length: this.position - 4 }, (_, index) => this.body[index] ?? 0);
    const expected = withoutZeros([...settled, ...shortestEnding(this.low, this.high)]);
    if (expected.length !== this.body.length || expected.some((byte, index) => byte !== this.body[index])) {
      throw new PayloadError(
        `the coded body of ${this.body.length} bytes does not end as an encoder would have ended it; ` +
          "it is corrupt or was written with other coder tables",
      );
    }
  }
}

/** The shortest, then smallest, byte string whose zero continuation lies in [low, high]. */
function shortestEnding(low: number, high: number): number[] {
  for (let length = 0; length <= 4; length++) {
    const unit = 2 ** (32 - 8 * length);
    const value = Math.ceil(low / unit) * unit;
    if (value <= high) return [24, 16, 8, 0].slice(0, length).map((shift) => (value >>> shift) & 0xff);
  }
  return []; // not reached: with four bytes the value is low itself
}

function withoutZeros(bytes: number[]): Uint8Array {
  let length = bytes.length;
  while (length && bytes[length - 1] === 0) length--;
  return Uint8Array.from(bytes.slice(0, length));
}

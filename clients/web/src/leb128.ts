/** LEB128: integers in as few bytes as possible, seven bits a byte, in their shortest form only. */

import { PayloadError } from "./errors.js";

const MAX_BYTES = 3;

/** The bytes of a number from 0 on: low bits first, the high bit of a byte is set if more follow. */
export function writeLeb128(value: number): number[] {
  const bytes: number[] = [];
  for (; value > 127; value >>= 7) bytes.push((value & 127) | 128);
  return [...bytes, value];
}

/** Reads one number; returns it and the position after it. `PayloadError` if it is cut short, padded or too long. */
export function readLeb128(data: Uint8Array, position: number, end: number, name: string): [number, number] {
  let value = 0;
  for (let count = 0; count < MAX_BYTES; count++) {
    if (position >= end) throw new PayloadError(`the payload ends inside the ${name}`);
    const byte = data[position++];
    value |= (byte & 127) << (7 * count);
    if (byte < 128) {
      if (byte === 0 && count) throw new PayloadError(`the ${name} is written with more bytes than it needs`);
      return [value, position];
    }
  }
  throw new PayloadError(`the ${name} takes more than three bytes`);
}

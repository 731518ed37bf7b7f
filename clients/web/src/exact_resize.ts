/**
 * The exact resize, docs/exact_square.md: the same bytes as every other client's.
 *
 * A triangle filter, widened when shrinking, with weights in 22-bit fixed point; width first, then height, each pass
 * rounded to 8 bits.
 */

import { ImageError } from "./errors.js";
import { checkRgb, type Rgb } from "./rgb.js";

/** Longest side, in pixels, before and after. */
export const MAX_SIDE = 65535;

const HALF = 1 << 21;

interface Taps {
  /** First input position of every output position. */
  readonly first: Int32Array;
  /** Number of weights of every output position. */
  readonly count: Int32Array;
  /** `stride` weights of every output position, in units of 2^-22. */
  readonly weights: Int32Array;
  readonly stride: number;
}

/** Resizes a picture to `width` x `height`; `ImageError` if a side is not 1 to 65,535. */
export function exactResize(rgb: Rgb, width: number, height: number): Rgb {
  checkRgb(rgb);
  for (const side of [rgb.width, rgb.height, width, height]) {
    if (!Number.isInteger(side) || side < 1 || side > MAX_SIDE) {
      throw new ImageError(`the exact resize takes sides of 1 to ${MAX_SIDE} pixels, got ${side}`);
    }
  }
  const narrowed = width === rgb.width ? rgb : resizeWidth(rgb, width);
  return height === narrowed.height ? narrowed : resizeHeight(narrowed, height);
}

function resizeWidth(rgb: Rgb, width: number): Rgb {
  const { first, count, weights, stride } = filterTaps(rgb.width, width);
  const data = new Uint8Array(3 * width * rgb.height);
  let target = 0;
  for (let y = 0; y < rgb.height; y++) {
    const row = 3 * rgb.width * y;
    for (let x = 0; x < width; x++) {
      let red = HALF;
      let green = HALF;
      let blue = HALF;
      let from = row + 3 * first[x];
      const end = stride * x + count[x];
      for (let tap = stride * x; tap < end; tap++) {
        const weight = weights[tap];
        red += weight * rgb.data[from++];
        green += weight * rgb.data[from++];
        blue += weight * rgb.data[from++];
      }
      data[target++] = level(red);
      data[target++] = level(green);
      data[target++] = level(blue);
    }
  }
  return { width, height: rgb.height, data };
}

function resizeHeight(rgb: Rgb, height: number): Rgb {
  const { first, count, weights, stride } = filterTaps(rgb.height, height);
  const row = 3 * rgb.width;
  const data = new Uint8Array(row * height);
  const sums = new Int32Array(row);
  for (let y = 0; y < height; y++) {
    sums.fill(HALF);
    for (let tap = 0; tap < count[y]; tap++) {
      const weight = weights[stride * y + tap];
      const from = row * (first[y] + tap);
      for (let index = 0; index < row; index++) sums[index] += weight * rgb.data[from + index];
    }
    for (let index = 0; index < row; index++) data[row * y + index] = level(sums[index]);
  }
  return { width: rgb.width, height, data };
}

/** A weighted sum plus one half, below 2^31, back to a level. */
function level(sum: number): number {
  return Math.min(sum >> 22, 255);
}

/** The weights of one pass, from `before` to `after` samples. Every number stays below 2^53. */
function filterTaps(before: number, after: number): Taps {
  const half = Math.max(before, after);
  const stride = 2 * Math.ceil(half / after) + 1;
  const first = new Int32Array(after);
  const count = new Int32Array(after);
  const weights = new Int32Array(after * stride);
  const heights = new Float64Array(stride);
  for (let position = 0; position < after; position++) {
    const centre = (2 * position + 1) * before;
    const start = Math.max(0, Math.floor((centre - 2 * half) / (2 * after)));
    const end = Math.min(before, Math.floor((centre - 2 * half) / (2 * after)) + stride);
    let sum = 0;
    for (let x = start; x < end; x++) {
      heights[x - start] = Math.max(0, 2 * half - Math.abs((2 * x + 1) * after - centre));
      sum += heights[x - start];
    }
    first[position] = start;
    count[position] = end - start;
    for (let tap = 0; tap < end - start; tap++) {
      weights[position * stride + tap] = Math.floor((heights[tap] * 2 ** 23 + sum) / (2 * sum));
    }
  }
  return { first, count, weights, stride };
}

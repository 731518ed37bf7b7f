/**
 * The exact square, docs/exact_square.md: cuts a square at any angle out of a picture, with the same bytes as every
 * other client's. Numbers are integers below 2^53; where they may exceed 32 bits, they are divided instead of shifted.
 */

import { exactResize } from "./exact_resize.js";
import { checkSquare, type OrientedSquare } from "./oriented_square.js";
import { checkRgb, type Rgb } from "./rgb.js";

const OVERSAMPLING = 2;
const GREY = 128;
const ONE = 65536;

/** What is outside of the picture: its edge, repeated, or grey, for networks that find faces. */
export type Outside = "edge" | "grey";

/** A square's pixels as the encoder takes them, `side` x `side`; `PayloadError` for a square out of range. */
export function cutSquare(rgb: Rgb, square: OrientedSquare, side: number): Rgb {
  checkRgb(rgb);
  checkSquare(square, [rgb.width, rgb.height]);
  return exactResize(sampleSquare(rgb, square, OVERSAMPLING * side), side, side);
}

/** `n` x `n` samples of a square, after box reduction by a whole factor. */
export function sampleSquare(rgb: Rgb, square: OrientedSquare, n: number, outside: Outside = "edge"): Rgb {
  const { x, y, acrossX: u, acrossY: v } = square;
  const factor = Math.max(1, Math.floor(Math.floor(Math.sqrt(u * u + v * v)) / (4 * n)));
  const width = Math.ceil(rgb.width / factor);
  const height = Math.ceil(rgb.height / factor);
  const divisor = n * factor;
  /** Positions in 1/65536 pixel of the reduced picture, from its first pixel's middle. */
  const position = (centre: number, offset: number) =>
    Math.floor((8192 * (2 * n * centre + offset)) / divisor) - ONE / 2;

  // Only the blocks are reduced that the samples read: those of the corners bound all others.
  const ends = [1 - n, n - 1];
  const corners = ends.flatMap((a) => ends.map((b) => [position(x, a * u - b * v), position(y, a * v + b * u)]));
  const range = (axis: number, length: number) => {
    const places = corners.map((corner) => Math.floor(corner[axis] / ONE));
    const clamped = (place: number) => Math.min(Math.max(place, 0), length - 1);
    return [clamped(Math.min(...places)), clamped(Math.max(...places) + 1)];
  };
  const [left, right] = range(0, width);
  const [top, bottom] = range(1, height);
  const part = reducePicture(rgb, factor, left, top, right + 1, bottom + 1);

  const { data: pixels, width: stride } = part;
  const data = new Uint8Array(3 * n * n);
  const [endX, endY] = [ONE * width - ONE / 2, ONE * height - ONE / 2];
  let target = 0;
  for (let row = 0; row < n; row++) {
    const b = 2 * row + 1 - n;
    const [startX, startY] = [2 * n * x - b * v, 2 * n * y + b * u];
    for (let column = 0; column < n; column++, target += 3) {
      const a = 2 * column + 1 - n;
      const px = Math.floor((8192 * (startX + a * u)) / divisor) - ONE / 2;
      const py = Math.floor((8192 * (startY + a * v)) / divisor) - ONE / 2;
      if (outside === "grey" && (px < -ONE / 2 || py < -ONE / 2 || px >= endX || py >= endY)) {
        data[target] = data[target + 1] = data[target + 2] = GREY;
        continue;
      }
      const placeX = Math.floor(px / ONE);
      const placeY = Math.floor(py / ONE);
      const p = (px - placeX * ONE) >> 8;
      const q = (py - placeY * ONE) >> 8;
      const near = 3 * ((placeX < left ? left : placeX > right ? right : placeX) - left);
      const far = 3 * ((placeX + 1 < left ? left : placeX + 1 > right ? right : placeX + 1) - left);
      const above = 3 * stride * ((placeY < top ? top : placeY > bottom ? bottom : placeY) - top);
      const below = 3 * stride * ((placeY + 1 < top ? top : placeY + 1 > bottom ? bottom : placeY + 1) - top);
      for (let channel = 0; channel < 3; channel++) {
        const upper = pixels[above + near + channel] * (256 - p) + pixels[above + far + channel] * p;
        const lower = pixels[below + near + channel] * (256 - p) + pixels[below + far + channel] * p;
        data[target + channel] = (upper * (256 - q) + lower * q + 32768) >> 16;
      }
    }
  }
  return { width: n, height: n, data };
}

/**
 * Box reduction: each pixel is the mean of a block of factor x factor pixels, smaller at the right and lower edge. Gives
 * the columns `left` to `right` and the rows `top` to `bottom` of the result, their ends excluded.
 */
export function reducePicture(
  rgb: Rgb, factor: number, left = 0, top = 0, right = Math.ceil(rgb.width / factor),
  bottom = Math.ceil(rgb.height / factor),
): Rgb {
  const [width, height] = [right - left, bottom - top];
  if (factor === 1) {
    if (width === rgb.width && height === rgb.height) return rgb;
    const data = new Uint8Array(3 * width * height);
    for (let row = 0; row < height; row++) {
      const from = 3 * ((top + row) * rgb.width + left);
      data.set(rgb.data.subarray(from, from + 3 * width), 3 * width * row);
    }
    return { width, height, data };
  }
  const source = rgb.data;
  const data = new Uint8Array(3 * width * height);
  const sums = new Float64Array(3 * width);
  for (let row = 0; row < height; row++) {
    const first = (top + row) * factor;
    const last = Math.min(first + factor, rgb.height);
    sums.fill(0);
    for (let line = first; line < last; line++) {
      const lineEnd = 3 * (line + 1) * rgb.width;
      let at = 3 * (line * rgb.width + left * factor);
      for (let target = 0; target < 3 * width; target += 3) {
        const end = at + 3 * factor < lineEnd ? at + 3 * factor : lineEnd;
        let red = 0;
        let green = 0;
        let blue = 0;
        for (; at < end; at += 3) {
          red += source[at];
          green += source[at + 1];
          blue += source[at + 2];
        }
        sums[target] += red;
        sums[target + 1] += green;
        sums[target + 2] += blue;
      }
    }
    for (let column = 0; column < width; column++) {
      const count = (Math.min((left + column + 1) * factor, rgb.width) - (left + column) * factor) * (last - first);
      const half = count >> 1;
      const share = Math.floor(2 ** 24 / count);
      for (let channel = 0; channel < 3; channel++) {
        // Below 2^32.
        data[3 * (width * row + column) + channel] = ((sums[3 * column + channel] + half) * share) >>> 24;
      }
    }
  }
  return { width, height, data };
}

/** Pictures as the contract knows them: 8-bit RGB, upright, in reading order. */

import { ImageError } from "./errors.js";

/** A picture: `3 * width * height` bytes, R, G, B of each pixel in reading order, sRGB. */
export interface Rgb {
  readonly width: number;
  readonly height: number;
  readonly data: Uint8Array;
}

/** Pixels with straight alpha, as `ImageData` holds them. */
export interface Rgba {
  readonly width: number;
  readonly height: number;
  readonly data: Uint8ClampedArray | Uint8Array;
}

/** Three levels, 0 to 255. */
export type Colour = readonly [number, number, number];

export const WHITE: Colour = [255, 255, 255];

/** Composites pixels on a background, with the rounding that Python's client has (Pillow's `paste`). */
export function flatten(source: Rgba, background: Colour = WHITE): Rgb {
  const { width, height } = source;
  if (source.data.length !== 4 * width * height) {
    throw new ImageError(`${width} x ${height} pixels have ${4 * width * height} bytes, got ${source.data.length}`);
  }
  const data = new Uint8Array(3 * width * height);
  flattenInto(data, 0, source.data, background);
  return { width, height, data };
}

/** `flatten` of some pixels into a part of a picture that begins at byte `at`. */
export function flattenInto(
  target: Uint8Array,
  at: number,
  rgba: Uint8ClampedArray | Uint8Array,
  background: Colour,
): void {
  for (let from = 0; from < rgba.length; from += 4) {
    const alpha = rgba[from + 3];
    for (let channel = 0; channel < 3; channel++) {
      const level = rgba[from + channel];
      const sum = level * alpha + background[channel] * (255 - alpha) + 128;
      target[at++] = alpha === 255 ? level : ((sum >> 8) + sum) >> 8;
    }
  }
}

/** Throws `ImageError` unless the picture has as many bytes as its size says. */
export function checkRgb(rgb: Rgb): void {
  const { width, height, data } = rgb;
  if (!Number.isInteger(width) || !Number.isInteger(height) || width < 1 || height < 1) {
    throw new ImageError(`a picture has sides of whole pixels, got ${width} x ${height}`);
  }
  if (data.length !== 3 * width * height) {
    throw new ImageError(`an RGB picture of ${width} x ${height} has ${3 * width * height} bytes, got ${data.length}`);
  }
}

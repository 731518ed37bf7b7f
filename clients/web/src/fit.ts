/** From a picture of any size to the encoder's square, in integers only. */

import { ImageError } from "./errors.js";
import { exactResize } from "./exact_resize.js";
import type { Header } from "./payload.js";
import { checkRgb, type Rgb } from "./rgb.js";

/** How a picture comes to the square: padded at its edges, stretched, or cut to its centre square. */
export type Fit = "pad" | "stretch" | "crop";

/** Their position is their code on the wire. */
export const FITS: readonly Fit[] = ["pad", "stretch", "crop"];

/** Width and height of a picture scaled so that its longest side has `hr` pixels, halves up, at least 1. */
export function contentSize(width: number, height: number, hr: number): [number, number] {
  const longest = Math.max(width, height);
  const scaled = (side: number) => Math.max(1, Math.floor((2 * side * hr + longest) / (2 * longest)));
  return [scaled(width), scaled(height)];
}

/** Brings a picture to `hr` x `hr` pixels; `ImageError` for an unknown fit or a side beyond 65,535. */
export function fitPicture(rgb: Rgb, hr: number, fit: Fit = "pad"): Rgb {
  checkRgb(rgb);
  if (fit === "stretch") return exactResize(rgb, hr, hr);
  if (fit === "crop") return exactResize(centreSquare(rgb), hr, hr);
  if (fit !== "pad") throw new ImageError(`unknown fit ${String(fit)}, expected one of ${FITS.join(", ")}`);
  const [width, height] = contentSize(rgb.width, rgb.height, hr);
  return padded(exactResize(rgb, width, height), hr);
}

/** The LR of a payload in the original's aspect, without padding: to show until the picture is restored. */
export function preview({ lr, header }: { readonly lr: Rgb; readonly header: Header }): Rgb {
  if (header.fit === "align" || header.fit === "crop") return lr;
  const [width, height] = contentSize(header.originalWidth, header.originalHeight, lr.width);
  return header.fit === "stretch" ? exactResize(lr, width, height) : centre(lr, width, height);
}

function centreSquare(rgb: Rgb): Rgb {
  const side = Math.min(rgb.width, rgb.height);
  return centre(rgb, side, side);
}

function centre(rgb: Rgb, width: number, height: number): Rgb {
  if (rgb.width === width && rgb.height === height) return rgb;
  const left = (rgb.width - width) >> 1;
  const top = (rgb.height - height) >> 1;
  const data = new Uint8Array(3 * width * height);
  for (let y = 0; y < height; y++) {
    const from = 3 * ((top + y) * rgb.width + left);
    data.set(rgb.data.subarray(from, from + 3 * width), 3 * width * y);
  }
  return { width, height, data };
}

/** Repeats the edge pixels: half of what is missing, rounded down, comes before the picture. */
function padded(content: Rgb, side: number): Rgb {
  if (content.width === side && content.height === side) return content;
  const left = (side - content.width) >> 1;
  const top = (side - content.height) >> 1;
  const data = new Uint8Array(3 * side * side);
  let target = 0;
  for (let y = 0; y < side; y++) {
    const row = Math.min(Math.max(y - top, 0), content.height - 1) * content.width;
    for (let x = 0; x < side; x++) {
      const from = 3 * (row + Math.min(Math.max(x - left, 0), content.width - 1));
      data[target++] = content.data[from];
      data[target++] = content.data[from + 1];
      data[target++] = content.data[from + 2];
    }
  }
  return { width: side, height: side, data };
}

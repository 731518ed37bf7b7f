/**
 * JPEG and WebP at the payload's size, written by this browser: shrunk, encoded, decoded, enlarged. Of all shrinkings
 * the one with the smallest squared error is shown, each at the best quality that fits.
 */

import type { Fit } from "../src/fit";
import { vp8Frame, webpOf } from "../src/webp";

/** What a classical codec makes of as many bytes. */
export interface Classical {
  readonly picture: HTMLCanvasElement;
  readonly bytes: number;
  /** True if it fits; else this is the smallest that the browser writes. */
  readonly fits: boolean;
}

const LONGEST_SIDES = [256, 192, 128, 96, 64, 48, 32, 24, 16];
const QUALITY_STEPS = 6;

/** The best picture of `type` within `budget` bytes; undefined if this browser does not write that type. */
export async function classical(
  source: HTMLCanvasElement,
  type: "image/jpeg" | "image/webp",
  budget: number,
): Promise<Classical | undefined> {
  let best: (Classical & { readonly error: number }) | undefined;
  let smallest: Blob | undefined;
  const reference = pixels(source);
  for (const side of LONGEST_SIDES) {
    const small = scaled(source, side / Math.max(source.width, source.height));
    const blob = await largestWithin(small, type, budget);
    if (!blob) return undefined;
    if (!smallest || blob.size < smallest.size) smallest = blob;
    if (blob.size > budget) continue;
    const picture = await decoded(blob, source);
    const error = squaredError(pixels(picture), reference);
    if (!best || error < best.error) best = { picture, bytes: blob.size, fits: true, error };
  }
  if (best) return best;
  return smallest && { picture: await decoded(smallest, source), bytes: smallest.size, fits: false };
}

/** The picture at the best quality within the budget, else at the lowest; undefined if the type is not written. */
async function largestWithin(canvas: HTMLCanvasElement, type: string, budget: number): Promise<Blob | undefined> {
  let found = await encoded(canvas, type, 0);
  if (found?.type !== type) return undefined; // browsers write PNG instead
  if (found.size > budget) return found;
  let [low, high] = [0, 1];
  for (let step = 0; step < QUALITY_STEPS; step++) {
    const quality = (low + high) / 2;
    const blob = await encoded(canvas, type, quality);
    if (blob && blob.size <= budget) {
      found = blob;
      low = quality;
    } else {
      high = quality;
    }
  }
  return found;
}

async function encoded(canvas: HTMLCanvasElement, type: string, quality: number): Promise<Blob | null> {
  const blob = await new Promise<Blob | null>((resolve) => canvas.toBlob(resolve, type, quality));
  return blob?.type === "image/webp" ? withoutProfile(blob) : blob;
}

/** Chromium gives every WebP a colour profile of some hundred bytes: without it the comparison is a fair one. */
async function withoutProfile(webp: Blob): Promise<Blob> {
  const frame = vp8Frame(new Uint8Array(await webp.arrayBuffer()));
  return frame ? new Blob([webpOf(frame)], { type: webp.type }) : webp;
}

async function decoded(blob: Blob, like: HTMLCanvasElement): Promise<HTMLCanvasElement> {
  const bitmap = await createImageBitmap(blob);
  const canvas = drawn(bitmap, like.width, like.height);
  bitmap.close();
  return canvas;
}

function scaled(source: HTMLCanvasElement, factor: number): HTMLCanvasElement {
  const side = (length: number) => Math.max(1, Math.round(length * Math.min(1, factor)));
  return drawn(source, side(source.width), side(source.height));
}

/** A picture, or its centre square, on white on a canvas of its own of that size. */
export function drawn(
  picture: ImageBitmap | HTMLCanvasElement,
  width: number,
  height: number,
  fit: Fit = "pad",
): HTMLCanvasElement {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d", { willReadFrequently: true })!;
  context.fillStyle = "white"; // as the encoder does; JPEG would make transparency black
  context.fillRect(0, 0, width, height);
  context.imageSmoothingQuality = "high";
  const side = Math.min(picture.width, picture.height);
  const [across, down] = fit === "crop" ? [side, side] : [picture.width, picture.height];
  const [left, top] = [(picture.width - across) >> 1, (picture.height - down) >> 1];
  context.drawImage(picture, left, top, across, down, 0, 0, width, height);
  return canvas;
}

function pixels(canvas: HTMLCanvasElement): Uint8ClampedArray {
  return canvas.getContext("2d")!.getImageData(0, 0, canvas.width, canvas.height).data;
}

function squaredError(first: Uint8ClampedArray, second: Uint8ClampedArray): number {
  let sum = 0;
  for (let index = 0; index < first.length; index++) sum += (first[index] - second[index]) ** 2;
  return sum;
}

/** Lossy WebP files (RFC 9649) and the VP8 frames in them. */

import type { Rgb } from "./rgb.js";

const HEAD_BYTES = 20;

/** The frame of a lossy WebP file, its chunk `VP8 `, without alpha and metadata; undefined if there is none. */
export function vp8Frame(webp: Uint8Array): Uint8Array | undefined {
  const data = new DataView(webp.buffer, webp.byteOffset, webp.byteLength);
  for (let at = 12; at + 8 <= webp.length; ) {
    const length = data.getUint32(at + 4, true);
    const name = String.fromCharCode(...webp.subarray(at, at + 4));
    if (name === "VP8 " && at + 8 + length <= webp.length) return webp.subarray(at + 8, at + 8 + length);
    at += 8 + length + (length & 1);
  }
  return undefined;
}

/** A WebP file with this frame and nothing else. */
export function webpOf(frame: Uint8Array): Uint8Array<ArrayBuffer> {
  const padded = frame.length + (frame.length & 1);
  const webp = new Uint8Array(HEAD_BYTES + padded);
  webp.set([..."RIFF\0\0\0\0WEBPVP8 "].map((letter) => letter.charCodeAt(0)));
  const data = new DataView(webp.buffer);
  data.setUint32(4, 12 + padded, true);
  data.setUint32(16, frame.length, true);
  webp.set(frame, HEAD_BYTES);
  return webp;
}

/** A picture as a lossy WebP file; undefined where nothing writes WebP: in Safari and in Node. */
export async function writeWebp(rgb: Rgb, quality: number): Promise<Uint8Array | undefined> {
  if (typeof OffscreenCanvas === "undefined") return undefined;
  const canvas = new OffscreenCanvas(rgb.width, rgb.height);
  const context = canvas.getContext("2d");
  if (!context) return undefined;
  const image = context.createImageData(rgb.width, rgb.height);
  image.data.fill(255);
  for (let from = 0, to = 0; from < rgb.data.length; from += 3, to += 4) {
    image.data.set(rgb.data.subarray(from, from + 3), to);
  }
  context.putImageData(image, 0, 0);
  const blob = await canvas.convertToBlob({ type: "image/webp", quality });
  return blob.type === "image/webp" ? new Uint8Array(await blob.arrayBuffer()) : undefined;
}

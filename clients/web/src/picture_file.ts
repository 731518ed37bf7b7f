/**
 * What browsers do not agree about in a picture's file, so that all clients see the same picture: the rule is that of
 * docs/exact_square.md. The browser decodes the file, turns it (but WebP, which is turned here) and converts colours.
 */

import { ImageError } from "./errors.js";

/** A file for the browser to decode. */
export interface PictureFile {
  /** The bytes if they are not those that came in. */
  readonly changed?: Uint8Array<ArrayBuffer>;
  /** EXIF's 1 to 8 if the browser leaves it to us, otherwise 1. */
  readonly orientation: number;
  /** The position of a JPEG's end marker. */
  readonly end?: number;
}

/** Code points (H.273) of transfer characteristics: PQ and HLG. */
const HDR: readonly number[] = [16, 18];
const SCAN = 0xda;
const END = 0xd9;
const PROGRESSIVE = 0xc2;
const COEFFICIENTS = 64;

/** Reads the structure of a file; `ImageError` for HDR, and for a JPEG without its last scans. */
export function pictureFile(data: Uint8Array<ArrayBuffer>): PictureFile {
  if (data[0] === 0xff && data[1] === 0xd8) return jpegFile(data);
  if (text(data, 1, 3) === "PNG") return pngFile(data);
  if (text(data, 0, 4) === "RIFF" && text(data, 8, 4) === "WEBP") return webpFile(data);
  if (text(data, 4, 4) === "ftyp") checkCodePoints(data);
  return { orientation: 1 };
}

/** The JPEG with more data and restart markers before its end marker: the same pixels, unless some are missing. */
export function longerJpeg(data: Uint8Array, end: number): Uint8Array<ArrayBuffer> {
  const more = Uint8Array.from({ length: 254 }, (_, index) => index + 1);
  let last = end - 2;
  while (last >= 0 && !(data[last] === 0xff && data[last + 1] >= 0xd0 && data[last + 1] <= 0xd7)) last -= 1;
  const following = last < 0 ? 0 : data[last + 1] + 1;
  const restarts = Array.from({ length: 8 }, (_, index) => Uint8Array.of(0xff, 0xd0 | ((following + index) & 7)));
  return joined(data.subarray(0, end), ...restarts.flatMap((restart) => [more, restart]), data.subarray(end));
}

/** A whole JPEG may lack its end marker, which browsers insist on. */
function jpegFile(data: Uint8Array<ArrayBuffer>): PictureFile {
  const end = jpegEnd(data);
  return { orientation: 1, end, changed: end < data.length ? undefined : joined(data, Uint8Array.of(0xff, END)) };
}

/** The position of the end marker, or the length of the data. */
function jpegEnd(data: Uint8Array): number {
  /** Component -> coefficients whose last bits have not come. */
  const missing = new Map<number, Set<number>>();
  let [at, progressive, scans] = [2, false, 0];
  while (at + 1 < data.length && !(data[at] === 0xff && data[at + 1] === END)) {
    const marker = data[at + 1];
    if (data[at] !== 0xff || marker === 0xff) at += 1; // coded data, or a fill byte
    else if (marker <= 1 || (marker >= 0xd0 && marker <= 0xd8)) at += 2;
    else {
      const body = at + 4;
      if (marker >= 0xc0 && marker <= PROGRESSIVE) {
        progressive = marker === PROGRESSIVE;
        for (let part = 0; part < data[body + 5]; part++) {
          missing.set(data[body + 6 + 3 * part], new Set(Array(COEFFICIENTS).keys()));
        }
      } else if (marker === SCAN) {
        scans += 1;
        const [first, last, bits] = data.subarray(body + 1 + 2 * data[body]);
        for (let part = 0; part < data[body]; part++) {
          const left = missing.get(data[body + 1 + 2 * part]);
          if (!progressive) left?.clear();
          else if (!(bits & 15)) for (let index = first; index <= last; index++) left?.delete(index);
        }
      }
      at += 2 + Math.max(2, number(data, at + 2, 2));
    }
  }
  if (scans && [...missing.values()].some((left) => left.size)) {
    throw new ImageError(`the picture of ${data.length} bytes is damaged or truncated: its last scans are missing`);
  }
  return at + 1 < data.length ? at : data.length;
}

/** Of an animation that has a picture for programs without animations, browsers show that. */
function pngFile(data: Uint8Array<ArrayBuffer>): PictureFile {
  let [at, animation] = [8, -1];
  for (; at + 12 <= data.length && text(data, at + 4, 4) !== "IDAT"; at += 12 + number(data, at, 4)) {
    const kind = text(data, at + 4, 4);
    if (kind === "cICP") checkTransfer(data[at + 9], data.length);
    if (kind === "acTL") animation = at;
    if (kind === "fcTL") animation = -1; // the first frame is that picture
  }
  if (animation < 0) return { orientation: 1 };
  const length = 12 + number(data, animation, 4);
  return { orientation: 1, changed: joined(data.subarray(0, animation), data.subarray(animation + length)) };
}

/** Some browsers turn WebP by its EXIF: they get it under a name that they do not know. */
function webpFile(data: Uint8Array<ArrayBuffer>): PictureFile {
  for (let at = 12; at + 8 <= data.length; ) {
    const length = data[at + 4] + (data[at + 5] << 8) + (data[at + 6] << 16) + data[at + 7] * 2 ** 24;
    if (text(data, at, 4) === "EXIF") {
      const orientation = exifOrientation(data.subarray(at + 8, at + 8 + length));
      if (orientation === 1) return { orientation };
      const changed = data.slice();
      changed.set([0x65, 0x78, 0x69, 0x66], at); // exif
      return { orientation, changed };
    }
    at += 8 + length + (length & 1);
  }
  return { orientation: 1 };
}

/** The orientation, 1 to 8, that an EXIF block gives in its first directory; 1 without a valid one. */
function exifOrientation(exif: Uint8Array): number {
  const data = text(exif, 0, 6) === "Exif\0\0" ? exif.subarray(6) : exif;
  const order = text(data, 0, 2);
  if (data.length < 8 || (order !== "II" && order !== "MM")) return 1;
  const value = (at: number, bytes: number) => {
    const part = [...data.subarray(at, at + bytes)];
    return (order === "MM" ? part : part.reverse()).reduce((sum, byte) => 256 * sum + byte, 0);
  };
  const start = value(4, 4);
  for (let index = 0; index < Math.min(value(start, 2), 1000); index++) {
    const entry = start + 2 + 12 * index;
    if (value(entry, 2) !== 0x112) continue;
    const orientation = value(entry + 8, { 1: 1, 4: 4 }[value(entry + 2, 2)] ?? 2);
    return orientation >= 1 && orientation <= 8 ? orientation : 1;
  }
  return 1;
}

/** The boxes `colr` of AVIF and HEIF; a colour profile has precedence. */
function checkCodePoints(data: Uint8Array): void {
  const start = text(data, 0, Math.min(data.length, 1 << 20));
  const at = start.indexOf("colrnclx");
  if (at >= 0 && !/colr(prof|rICC)/.test(start)) checkTransfer(number(data, at + 10, 2), data.length);
}

function checkTransfer(transfer: number, bytes: number): void {
  if (!HDR.includes(transfer)) return;
  throw new ImageError(`the picture of ${bytes} bytes is an HDR picture, which 8-bit levels cannot hold; convert it first`);
}

function number(data: Uint8Array, at: number, bytes: number): number {
  return data.subarray(at, at + bytes).reduce((sum, byte) => 256 * sum + byte, 0);
}

function text(data: Uint8Array, at: number, length: number): string {
  return new TextDecoder("latin1").decode(data.subarray(at, at + length));
}

function joined(...parts: Uint8Array[]): Uint8Array<ArrayBuffer> {
  const result = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    result.set(part, at);
    at += part.length;
  }
  return result;
}

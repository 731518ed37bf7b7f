/** The scene, docs/payload.md: several faces of one photograph and a background, in one file. */

import { PayloadError } from "./errors.js";
import { readLeb128, writeLeb128 } from "./leb128.js";
import type { Size } from "./oriented_square.js";
import {
  checkCrc, checkOriginal, type Header, LONG_CRC_BYTES, MAGIC, MAX_PAYLOAD_BYTES, parseHeader, SCENE_VERSION, withCrc,
} from "./payload.js";
import { vp8Frame, webpOf } from "./webp.js";

export const MAX_FACES = 64;
export const MAX_SCENE_BYTES = 2 ** 20;
/** Longest side of a background, in pixels. */
const MAX_BACKGROUND_SIDE = 1024;
const FIXED_BYTES = 4;
const NO_BACKGROUND = 0;
const VP8 = 1;
/** Tag, start code and sides of a key frame of VP8 (RFC 6386, 9.1). */
const FRAME_BYTES = 10;
const START_CODE = [0x9d, 0x01, 0x2a];

/** A scene whose claims were checked. */
export interface Scene {
  /** Width and height of the photograph. */
  readonly originalSize: Size;
  /** A payload of each face, the largest first; all have a square of this photograph and one LR contract. */
  readonly faces: readonly { readonly bytes: Uint8Array; readonly header: Header }[];
  /** The background as a WebP file; undefined if there is none. */
  readonly background: Uint8Array<ArrayBuffer> | undefined;
}

/** Bytes of a scene without its background. */
export function sceneBytes(faces: readonly Uint8Array[], size: Size): number {
  const numbers = [...size, ...faces.map((face) => face.length)].flatMap(writeLeb128);
  return FIXED_BYTES + numbers.length + faces.reduce((sum, face) => sum + face.length, 0) + LONG_CRC_BYTES;
}

/** Packs payloads of faces, and a lossy WebP file as the background; `PayloadError` if they make no scene. */
export function encodeScene(faces: readonly Uint8Array[], size: Size, webp?: Uint8Array): Uint8Array<ArrayBuffer> {
  const frame = webp && vp8Frame(webp);
  if (webp && !frame) throw new PayloadError("the background of a scene is a lossy WebP file");
  const parts = [
    Uint8Array.of(...MAGIC, (SCENE_VERSION << 4) | (frame ? VP8 : NO_BACKGROUND), Math.min(faces.length, 255)),
    Uint8Array.from(size.flatMap(writeLeb128)),
    ...faces.flatMap((face) => [Uint8Array.from(writeLeb128(face.length)), face]),
    frame ?? new Uint8Array(0),
  ];
  const data = withCrc(parts, LONG_CRC_BYTES);
  parseScene(data);
  return data;
}

/** Checks a scene; nothing is decoded. `PayloadError` if it is none, is damaged, or one of its claims is out of range. */
export function parseScene(data: Uint8Array): Scene {
  if (data.length < FIXED_BYTES + LONG_CRC_BYTES || data.length > MAX_SCENE_BYTES) {
    throw new PayloadError(`a scene has at most ${MAX_SCENE_BYTES} bytes, got ${data.length}`);
  }
  if (data[0] !== MAGIC[0] || data[1] !== MAGIC[1] || data[2] >> 4 !== SCENE_VERSION) {
    throw new PayloadError("not a scene: its first bytes are others");
  }
  const end = checkCrc(data, LONG_CRC_BYTES);
  const coding = data[2] & 15;
  if (coding !== NO_BACKGROUND && coding !== VP8) {
    throw new PayloadError(`the background's coding ${coding} is unknown, expected 0 (none) or 1 (VP8)`);
  }
  const count = data[3];
  if (count < 1 || count > MAX_FACES) throw new PayloadError(`a scene has 1 to ${MAX_FACES} faces, got ${count}`);
  const [width, afterWidth] = readLeb128(data, FIXED_BYTES, end, "original width");
  const [height, afterHeight] = readLeb128(data, afterWidth, end, "original height");
  checkOriginal(width, height);
  let position = afterHeight;
  const faces: { bytes: Uint8Array; header: Header }[] = [];
  for (let index = 0; index < count; index++) {
    const [length, start] = readLeb128(data, position, end, `length of face ${index}`);
    if (length > Math.min(end - start, MAX_PAYLOAD_BYTES)) {
      throw new PayloadError(`face ${index} of the scene claims ${length} bytes, ${end - start} are left`);
    }
    position = start + length;
    const bytes = data.slice(start, position);
    const header = parseHeader(bytes);
    if (!header.square || header.originalWidth !== width || header.originalHeight !== height) {
      throw new PayloadError(`face ${index} of the scene is no aligned face of a picture of ${width} x ${height}`);
    }
    if (index && header.contract !== faces[0].header.contract) {
      throw new PayloadError(`face ${index} of the scene has another LR contract than the first`);
    }
    faces.push({ bytes, header });
  }
  const frame = data.subarray(position, end);
  if (frame.length > 0 !== (coding === VP8)) {
    throw new PayloadError(`a background of ${frame.length} bytes does not have the coding ${coding}`);
  }
  if (frame.length) checkBackground(frame);
  return { originalSize: [width, height], faces, background: frame.length ? webpOf(frame) : undefined };
}

/** Throws `PayloadError` unless the bytes begin as a key frame of VP8 of a bounded size. */
function checkBackground(frame: Uint8Array): void {
  if (frame.length < FRAME_BYTES) throw new PayloadError(`the background of ${frame.length} bytes is too short`);
  if (frame[0] & 1 || START_CODE.some((byte, index) => frame[3 + index] !== byte)) {
    throw new PayloadError("the background is no key frame of VP8");
  }
  for (const at of [6, 8]) {
    const side = frame[at] | (frame[at + 1] << 8); // with the scale in its two highest bits
    if (side < 1 || side > MAX_BACKGROUND_SIDE) {
      throw new PayloadError(`a background has sides of 1 to ${MAX_BACKGROUND_SIDE} pixels without a scale`);
    }
  }
}

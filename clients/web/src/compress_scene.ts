/** A photograph as a scene: all its faces and a background, as `sdk/scenes.py` makes it. */

import type { Encoder, Payload } from "./encoder.js";
import { ImageError } from "./errors.js";
import { exactResize } from "./exact_resize.js";
import type { FaceFinder } from "./face_finder.js";
import { LEAST_PIXELS } from "./face_check.js";
import { faceSquares } from "./faces.js";
import { contentSize } from "./fit.js";
import type { Size } from "./oriented_square.js";
import type { Rgb } from "./rgb.js";
import { encodeScene, MAX_FACES, sceneBytes } from "./scene.js";
import { vp8Frame, writeWebp } from "./webp.js";

/** A compressed photograph. */
export interface CompressedScene {
  /** The file. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** The payloads in it, the largest face first. */
  readonly faces: readonly Payload[];
}

/** Longest sides of a background to try for a limit of bytes, in pixels, and WebP's qualities at each. */
const SIDES = [512, 384, 256, 192, 128, 96, 64, 48, 32, 24, 16];
const QUALITIES = [0.5, 0.2];
const DEFAULT_SIDE = 24;

/**
 * Compresses all faces of a photograph, at most 64, and its background. That takes what the faces leave of `maxBytes`,
 * by default a few dozen bytes; faces below 32 pixels are part of it where they do not fit; in browsers that do not write WebP there is none.
 *
 * Throws `ImageError` as `compressFaces`, or if the faces alone exceed `maxBytes`.
 */
export async function compressScene(
  encoder: Encoder, finder: FaceFinder, rgb: Rgb, maxBytes?: number,
): Promise<CompressedScene> {
  const found = (await faceSquares(encoder, finder, rgb)).slice(0, MAX_FACES);
  const faces: Payload[] = [];
  for (const { square } of found) faces.push(await encoder.compressSquare(rgb, square, false));
  const payloads = faces.map(({ bytes }) => bytes);
  const size: Size = [rgb.width, rgb.height];
  let used = sceneBytes(payloads, size);
  while (maxBytes !== undefined && used > maxBytes && faces.length > 1 && found[faces.length - 1].side < LEAST_PIXELS) {
    faces.pop();
    payloads.pop();
    used = sceneBytes(payloads, size);
  }
  if (maxBytes !== undefined && used > maxBytes) {
    throw new ImageError(`no scene fits into ${maxBytes} bytes: the faces of this picture alone take ${used}`);
  }
  const background = await smallBackground(rgb, maxBytes === undefined ? undefined : maxBytes - used);
  return { bytes: encodeScene(payloads, size, background), faces };
}

/** A small WebP file of the photograph whose frame has at most `budget` bytes; undefined if none is that small. */
async function smallBackground(rgb: Rgb, budget?: number): Promise<Uint8Array | undefined> {
  const longest = Math.max(rgb.width, rgb.height);
  const scaled = (picture: Rgb, side: number) =>
    exactResize(picture, ...contentSize(picture.width, picture.height, Math.min(side, longest)));
  const picture = scaled(rgb, SIDES[0]);
  const trials = budget === undefined ? [[DEFAULT_SIDE, 0]] : [
    ...SIDES.filter((side) => side < 2 * longest).flatMap((side) => QUALITIES.map((quality) => [side, quality])),
    [DEFAULT_SIDE, 0], [SIDES[SIDES.length - 1], 0],
  ];
  for (const [side, quality] of trials) {
    const webp = await writeWebp(scaled(picture, side), quality);
    const frame = webp && vp8Frame(webp);
    if (!frame) return undefined;
    if (budget === undefined || frame.length <= budget) return webp;
  }
  return undefined;
}

/** Faces of photographs: found, judged and compressed, as `sdk/faces.py` does it. */

import type { Encoder, Payload } from "./encoder.js";
import { ImageError } from "./errors.js";
import { type FaceProblem, faceProblems, LEAST_PIXELS, roll, yaw } from "./face_check.js";
import type { FaceFinder, LocatedFace } from "./face_finder.js";
import { ffhqSquare, type OrientedSquare, type Size } from "./oriented_square.js";
import type { Rgb } from "./rgb.js";

/** Domain of the bundles that encode faces of photographs. */
export const DOMAIN = "faces";

/** A face in an upright picture; positions in pixels. */
export interface Face {
  /** Left, top, right and bottom of the square from the forehead to the chin; it may extend beyond the picture. */
  readonly box: readonly [number, number, number, number];
  /** The part of the picture that is encoded, as in FFHQ; undefined if it is out of range. */
  readonly square?: OrientedSquare;
  /** Rotation in the picture, clockwise, in degrees. */
  readonly roll: number;
  /** Rotation to the side, in degrees; 0 for a view from the front, positive towards the picture's right. */
  readonly yaw: number;
  /** The detector's confidence, 0.5 to 1. */
  readonly score: number;
  /** "too-small", "turned-away", "cut-off". */
  readonly problems: readonly FaceProblem[];
}

/** The faces of a picture. */
export interface FoundFaces {
  /** The largest first. */
  readonly faces: readonly Face[];
  /** "none" without a face, else those of the largest face; empty if it is restored well. */
  readonly problems: readonly FaceProblem[];
}

/**
 * The faces of a picture. It is searched as a whole, then in parts, until faces are found; with `every` all parts are
 * searched, for small faces next to large ones.
 */
export async function findFaces(finder: FaceFinder, rgb: Rgb, every = false): Promise<FoundFaces> {
  const size: Size = [rgb.width, rgb.height];
  const faces = (await finder.find(rgb, every)).map((face) => describe(face, size));
  return { faces, problems: faces.length ? faces[0].problems : ["none"] };
}

/**
 * Compresses the largest face of a picture; one that is already framed like FFHQ's is encoded whole. `ImageError` if
 * there is none, or its square is out of range.
 */
export async function compressLargestFace(encoder: Encoder, finder: FaceFinder, rgb: Rgb): Promise<Payload> {
  const start = performance.now();
  const [face] = requireFaces(await finder.find(rgb), rgb);
  const find = performance.now() - start;
  const payload = await encoder.compressFace(rgb, face.leftEye, face.rightEye, face.mouth);
  return { ...payload, timings: { find, ...payload.timings } };
}

/**
 * Compresses every face of at least 32 pixels, the largest first; `ImageError` if there is none. A picture that is
 * framed like FFHQ's is encoded whole.
 */
export async function compressFaces(encoder: Encoder, finder: FaceFinder, rgb: Rgb): Promise<Payload[]> {
  const payloads: Payload[] = [];
  const faces = await faceSquares(encoder, finder, rgb);
  if (faces[0].side < LEAST_PIXELS) {
    throw new ImageError(
      `the face has a size of ${Math.round(faces[0].side)} pixels, expected at least ${LEAST_PIXELS}; ` +
        "use a larger picture",
    );
  }
  for (const { side, square } of faces) {
    if (side >= LEAST_PIXELS) payloads.push(await encoder.compressSquare(rgb, square));
  }
  return payloads;
}

/** Sides in pixels and squares of all faces, the largest first; `ImageError` if there is none. */
export async function faceSquares(
  encoder: Encoder, finder: FaceFinder, rgb: Rgb,
): Promise<{ side: number; square: OrientedSquare }[]> {
  if (encoder.bundle.domain !== DOMAIN) {
    const { id, domain } = encoder.bundle;
    throw new ImageError(`bundle ${id} is for ${domain}, not for faces of photographs`);
  }
  const found = (await finder.find(rgb, true)).flatMap((face) => {
    const square = squareOf(face, [rgb.width, rgb.height]);
    return square ? [{ side: face.detected.side, square }] : [];
  });
  return requireFaces(found, rgb);
}

function requireFaces<T>(faces: T[], { width, height }: Rgb): T[] {
  if (faces.length) return faces;
  throw new ImageError(
    `no face was found in the picture of ${width} x ${height} pixels; use another picture, or encode all of it, which ` +
      "restores only faces that fill it well: align: false",
  );
}

function squareOf(face: LocatedFace, size: Size): OrientedSquare | undefined {
  try {
    return ffhqSquare(face.leftEye, face.rightEye, face.mouth, size);
  } catch {
    return undefined;
  }
}

function describe(face: LocatedFace, size: Size): Face {
  const { centre, side, score } = face.detected;
  const [left, top] = [centre[0] - side / 2, centre[1] - side / 2];
  return {
    box: [left, top, left + side, top + side],
    square: squareOf(face, size),
    roll: roll(face.detected),
    yaw: yaw(face.detected),
    score,
    problems: faceProblems(face.detected, size),
  };
}

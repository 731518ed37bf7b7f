/** Faces, found by MediaPipe's BlazeFace (Bazarevsky et al., 2019), as `edge_encoder/faces/detection.py` finds them. */

import type * as ort from "onnxruntime-web/wasm";

import type { Point } from "./oriented_square.js";
import { type Photograph, place, type Region, squareAround } from "./photograph.js";
import type { Rgb } from "./rgb.js";
import { openSession, type RuntimeOptions, Tensor } from "./runtime.js";

/** A face in a picture; positions in pixels, left and right as seen in the picture. */
export interface DetectedFace {
  /** Centre of its box, from the forehead to the chin. */
  readonly centre: Point;
  /** Side of the box, which is a square. */
  readonly side: number;
  /** Left and right eye, nose, mouth, left and right ear; hidden ones are estimates. */
  readonly points: readonly Point[];
  /** 0 to 1. */
  readonly score: number;
}

/** Least score of a candidate, as in MediaPipe's graphs. */
export const LEAST_SCORE = 0.5;
/** Least score of a candidate that is detected a second time. */
const CONFIRMED_SCORE = 0.7;
const SIDE = 256;
/** Side of the square around a face in which it must be found again, in sides of its box. */
const SECOND_LOOK = 4.5;
/** Side of the smallest parts that are searched, in pixels. */
const LEAST_PART = 512;
/** Most parts of one size, and most candidates of one search. */
const MOST_PARTS = 100;
const MOST_CANDIDATES = 64;
/** Values for each anchor: x and y of its centre, its width and height, x and y of six points. */
const VALUES = 16;

/** The network, loaded once; the runtime is that of the encoder. */
export class FaceDetector {
  private constructor(private readonly session: ort.InferenceSession) {}

  /** Loads the bytes of face_detector.onnx. */
  static async open(model: Uint8Array, options: RuntimeOptions = {}): Promise<FaceDetector> {
    return new FaceDetector(await openSession(model, "face detector", options));
  }

  /**
   * Confirmed faces, the largest first: in the whole picture, in its halves, in the picture turned to all sides, in
   * smaller parts. Every candidate is searched for again, upright and small in a square of its surroundings.
   */
  async *searches(photo: Photograph): AsyncGenerator<DetectedFace[]> {
    for (const regions of searchedRegions(photo.rgb.width, photo.rgb.height)) {
      const candidates: DetectedFace[] = [];
      for (const region of regions) candidates.push(...(await this.detect(photo, region)));
      const confirmed: DetectedFace[] = [];
      for (const candidate of largestFirst(candidates)) {
        const face = await this.secondLook(photo, candidate);
        if (face) confirmed.push(face);
      }
      yield largestFirst(confirmed);
    }
  }

  close(): Promise<void> {
    return this.session.release();
  }

  /** The face in the place of a candidate, perhaps upside down; undefined if it is not found again. */
  private async secondLook(photo: Photograph, candidate: DetectedFace): Promise<DetectedFace | undefined> {
    const [x, y] = across(candidate);
    let best: DetectedFace | undefined;
    for (const direction of [[x, y], [-x, -y]] as const) {
      const region = squareAround(candidate.centre, direction, SECOND_LOOK * candidate.side);
      for (const face of await this.detect(photo, region)) {
        if (face.score <= CONFIRMED_SCORE || apart(face, candidate)) continue;
        if (!best || face.score > best.score) best = face;
      }
      if (!best) return undefined;
    }
    return best;
  }

  /** The faces in a square of the picture, on grey; of overlapping ones the most confident. */
  private async detect(photo: Photograph, region: Region): Promise<DetectedFace[]> {
    const { scores, points } = await this.session.run({ image: tensorOf(photo.sample(region, SIDE, "grey")) });
    const values = points.data as Float32Array;
    const side = Math.hypot(...region.across);
    const faces: DetectedFace[] = [];
    (scores.data as Float32Array).forEach((score, anchor) => {
      if (score <= LEAST_SCORE) return;
      const row = values.subarray(VALUES * anchor, VALUES * (anchor + 1));
      const centre = place(region, row[0], row[1]);
      const keypoints = [4, 6, 8, 10, 12, 14].map((at) => place(region, row[at], row[at + 1]));
      const face = { centre, side: Math.max(row[2], row[3]) * side, points: keypoints, score };
      if (face.side > 0 && across(face).some(Boolean) && photo.contains(centre)) faces.push(face);
    });
    return distinct(faces.sort((first, second) => second.score - first.score));
  }
}

/** A picture as a network's input. */
export function tensorOf({ width, height, data }: Rgb): ort.Tensor {
  return new Tensor("uint8", data, [1, height, width, 3]);
}

/** From the left to the right eye. */
export function across({ points: [left, right] }: DetectedFace): Point {
  return [right[0] - left[0], right[1] - left[1]];
}

/** The faces by size, without those that overlap a larger one. */
function largestFirst(faces: readonly DetectedFace[]): DetectedFace[] {
  return distinct([...faces].sort((first, second) => second.side - first.side));
}

/** The first `MOST_CANDIDATES` faces without those that overlap an earlier one. */
function distinct(faces: readonly DetectedFace[]): DetectedFace[] {
  const kept: DetectedFace[] = [];
  for (const face of faces) {
    if (kept.length < MOST_CANDIDATES && kept.every((other) => apart(face, other))) kept.push(face);
  }
  return kept;
}

/** True if neither face's centre is in the other's box. */
export function apart(face: DetectedFace, other: DetectedFace): boolean {
  const distance = Math.hypot(face.centre[0] - other.centre[0], face.centre[1] - other.centre[1]);
  return distance > Math.max(face.side, other.side) / 2;
}

/** Groups of squares to search for faces, in order. */
function* searchedRegions(width: number, height: number): Generator<Region[]> {
  const longest = Math.max(width, height);
  const whole = (direction: Point) => squareAround([width / 2, height / 2], direction, longest);
  yield [whole([1, 0])];
  yield parts(width, height, longest / 2);
  yield [whole([0, 1]), whole([0, -1]), whole([-1, 0])]; // pictures rotated by 90 and 180 degrees
  for (let side = longest / 4; side >= LEAST_PART; side /= 2) {
    const regions = parts(width, height, side);
    if (regions.length > MOST_PARTS) return;
    yield regions;
  }
}

/** Squares of a side that cover the picture and overlap by a quarter. */
function parts(width: number, height: number, side: number): Region[] {
  const centres = (length: number) => {
    if (length <= side) return [length / 2];
    const count = Math.max(2, Math.ceil((length - side) / (0.75 * side)) + 1);
    return Array.from({ length: count }, (_, index) => side / 2 + (index * (length - side)) / (count - 1));
  };
  return centres(height).flatMap((y) => centres(width).map((x) => squareAround([x, y], [1, 0], side)));
}

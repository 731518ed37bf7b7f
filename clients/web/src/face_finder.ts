/**
 * Faces with their eyes and mouth, as `edge_encoder/faces/alignment.py` finds them: points of Face Mesh (Kartynnik et
 * al., 2019; 468 points on 192 x 192 pixels).
 */

import type * as ort from "onnxruntime-web/wasm";

import { across, apart, type DetectedFace, FaceDetector, LEAST_SCORE, tensorOf } from "./face_detector.js";
import type { Point } from "./oriented_square.js";
import { Photograph, place, type Region, squareAround } from "./photograph.js";
import type { Rgb } from "./rgb.js";
import { openSession, type RuntimeOptions } from "./runtime.js";

/** A face with the midpoints of its eyes and of the corners of its mouth, in pixels. */
export interface LocatedFace {
  readonly detected: DetectedFace;
  readonly leftEye: Point;
  readonly rightEye: Point;
  readonly mouth: Point;
}

const SIDE = 192;
/** Side of the square for the landmarks, in sides of the face's box. */
/** Least presence of a face in the second pass: edge_encoder/faces/alignment.py. */
const CONFIRMED_PRESENCE = 0.95;
const MESH_SCALE = 1.5;
// Points of the mesh that correspond to dlib's around the eyes and at the mouth's corners.
const LEFT_EYE = [33, 160, 158, 133, 153, 144];
const RIGHT_EYE = [362, 385, 387, 263, 373, 380];
const MOUTH = [61, 291];

/** Both networks, loaded once. */
export class FaceFinder {
  private constructor(
    private readonly detector: FaceDetector,
    private readonly landmarks: ort.InferenceSession,
  ) {}

  /** Loads the bytes of face_detector.onnx and of face_landmarks.onnx. */
  static async open(detector: Uint8Array, landmarks: Uint8Array, options: RuntimeOptions = {}): Promise<FaceFinder> {
    const opened = await FaceDetector.open(detector, options);
    return new FaceFinder(opened, await openSession(landmarks, "network of the landmarks", options));
  }

  /**
   * Faces of an upright picture, the largest first. The whole picture is searched first, then its parts, until faces
   * are found; with `every` all parts are searched, so that small faces next to large ones are found too.
   */
  async find(rgb: Rgb, every = false): Promise<LocatedFace[]> {
    const photo = new Photograph(rgb);
    const found: LocatedFace[] = [];
    for await (const faces of this.detector.searches(photo)) {
      for (const detected of faces) {
        if (!found.every((other) => apart(detected, other.detected))) continue;
        const points = await this.locate(photo, detected);
        if (points) found.push({ detected, ...points });
      }
      if (found.length && !every) break;
    }
    return found.sort((first, second) => second.detected.side - first.detected.side);
  }

  /** Frees their memory. */
  async close(): Promise<void> {
    await this.detector.close();
    await this.landmarks.release();
  }

  /** Eyes and mouth of a face, or undefined. The second pass is centred by the first. */
  private async locate(photo: Photograph, face: DetectedFace): Promise<Omit<LocatedFace, "detected"> | undefined> {
    let points = await this.mesh(photo, squareAround(face.centre, across(face), MESH_SCALE * face.side));
    if (!points) return undefined;
    const [left, right] = [mean(points, LEFT_EYE), mean(points, RIGHT_EYE)];
    const direction: Point = [right[0] - left[0], right[1] - left[1]];
    const length = Math.hypot(...direction);
    const [leftmost, rightmost] = range(points, [1, 0]);
    const [highest, lowest] = range(points, [0, 1]);
    const middle: Point = [(leftmost + rightmost) / 2, (highest + lowest) / 2];
    if (!length || !photo.contains(middle)) return undefined;
    const [x, y] = [direction[0] / length, direction[1] / length];
    const extents = [range(points, [x, y]), range(points, [-y, x])].map(([least, most]) => most - least);
    const region = squareAround(middle, direction, MESH_SCALE * Math.max(...extents));
    points = await this.mesh(photo, region, CONFIRMED_PRESENCE);
    return points && { leftEye: mean(points, LEFT_EYE), rightEye: mean(points, RIGHT_EYE), mouth: mean(points, MOUTH) };
  }

  /** The 468 points of the face in a square, in the picture's pixels; undefined below a presence of a face. */
  private async mesh(photo: Photograph, region: Region, least = LEAST_SCORE): Promise<Point[] | undefined> {
    const { presence, points } = await this.landmarks.run({ image: tensorOf(photo.sample(region, SIDE, "edge")) });
    if ((presence.data as Float32Array)[0] <= least) return undefined;
    const values = points.data as Float32Array;
    return Array.from({ length: values.length / 2 }, (_, at) => place(region, values[2 * at], values[2 * at + 1]));
  }
}

function mean(points: readonly Point[], rows: readonly number[]): Point {
  const sum = (axis: 0 | 1) => rows.reduce((total, row) => total + points[row][axis], 0);
  return [sum(0) / rows.length, sum(1) / rows.length];
}

/** Least and largest position of points along a direction. */
function range(points: readonly Point[], [x, y]: Point): [number, number] {
  const positions = points.map((point) => x * point[0] + y * point[1]);
  return [Math.min(...positions), Math.max(...positions)];
}

/** The limits of faces that are restored well, as in `edge_encoder/faces/detection.py`. */

import { across, type DetectedFace } from "./face_detector.js";
import type { Size } from "./oriented_square.js";

/** A reason for which a picture's face is not restored well. */
export type FaceProblem = "none" | "too-small" | "turned-away" | "cut-off";

/** Side of a face's box in the picture, in pixels. */
export const LEAST_PIXELS = 32;
const LARGEST_YAW = 45;
/** Share of a face's box outside of the picture. */
const LARGEST_CUT = 0.3;
/** Distance of the nose's tip from the plane of the eyes, in distances of the eyes. */
const NOSE_DEPTH = 1 / 1.35;

/** The problems of a face in a picture. */
export function faceProblems(face: DetectedFace, size: Size): FaceProblem[] {
  const problems: FaceProblem[] = [];
  if (face.side < LEAST_PIXELS) problems.push("too-small");
  if (Math.abs(yaw(face)) > LARGEST_YAW) problems.push("turned-away");
  if (shareOutside(face, size) > LARGEST_CUT) problems.push("cut-off");
  return problems;
}

/** Rotation in the picture, clockwise, in degrees from -180 to 180. */
export function roll(face: DetectedFace): number {
  const [x, y] = across(face);
  return degrees(Math.atan2(y, x));
}

/** Rotation to the side in degrees, positive towards the picture's right. */
export function yaw(face: DetectedFace): number {
  const [x, y] = across(face);
  const [left, right, nose] = face.points;
  const offset = (nose[0] - (left[0] + right[0]) / 2) * x + (nose[1] - (left[1] + right[1]) / 2) * y;
  return degrees(Math.atan2(offset, NOSE_DEPTH * (x * x + y * y)));
}

function shareOutside({ centre, side }: DetectedFace, size: Size): number {
  const seen = (axis: 0 | 1) =>
    Math.max(0, Math.min(size[axis], centre[axis] + side / 2) - Math.max(0, centre[axis] - side / 2));
  return 1 - (seen(0) * seen(1)) / side ** 2;
}

function degrees(radians: number): number {
  return (radians * 180) / Math.PI;
}

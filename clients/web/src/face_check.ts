/** Finds out if a picture shows a face that can be encoded, by the rules of `sdk.find_faces` in Python. */

import { type Area, type DetectedFace, tilt } from "./face_detector.js";

/** A reason for which a picture's face is not restored well. */
export type FaceProblem = "none" | "several" | "too-small" | "turned-away" | "tilted" | "cut-off";

// As in edge_encoder/faces/suitability.py.
export const LEAST_PIXELS = 32;
export const LEAST_SHARE = 0.45;
export const LARGEST_YAW = 45;
export const LARGEST_ROLL = 20;
export const LARGEST_CUT = 0.1;
export const COMPANION = 0.5;
export const NOSE_DEPTH = 1 / 1.35;

/**
 * The problems of the faces of a picture, the largest of which comes first; `scale` is the size of the original, in
 * sizes of the picture.
 */
export function faceProblems(faces: readonly DetectedFace[], picture: Area, scale = 1): FaceProblem[] {
  const [face] = faces;
  if (!face) return ["none"];
  const problems: FaceProblem[] = [];
  if (faces.filter(({ side }) => side >= COMPANION * face.side).length > 1) problems.push("several");
  const share = face.side / Math.max(picture.width, picture.height);
  if (face.side * scale < LEAST_PIXELS || share < LEAST_SHARE) problems.push("too-small");
  if (Math.abs(yaw(face)) > LARGEST_YAW) problems.push("turned-away");
  if (Math.abs(degrees(tilt(face))) > LARGEST_ROLL) problems.push("tilted");
  if (shareOutside(face, picture) > LARGEST_CUT) problems.push("cut-off");
  return problems;
}

/** Rotation to the side in degrees, positive towards the picture's right. */
function yaw({ points: [left, right, nose] }: DetectedFace): number {
  const [x, y] = [right[0] - left[0], right[1] - left[1]];
  const offset = (nose[0] - (left[0] + right[0]) / 2) * x + (nose[1] - (left[1] + right[1]) / 2) * y;
  return degrees(Math.atan2(offset, NOSE_DEPTH * (x * x + y * y)));
}

function shareOutside({ x, y, side }: DetectedFace, { width, height }: Area): number {
  const seen = (middle: number, length: number) =>
    Math.max(0, Math.min(length, middle + side / 2) - Math.max(0, middle - side / 2));
  return 1 - (seen(x, width) * seen(y, height)) / side ** 2;
}

function degrees(radians: number): number {
  return (radians * 180) / Math.PI;
}

/** Advice about a picture whose face will not be restored well. */

import type { FaceProblem } from "../src/face_check";

const ADVICE: Record<FaceProblem, string> = {
  none: "No face found. Only faces are restored well.",
  several: "There are several faces. Choose a picture of one person.",
  "too-small": "The face is small. Come closer, or crop the picture, until the face fills half of it.",
  "turned-away": "The face is turned away. Look towards the camera.",
  tilted: "The face is tilted. Turn the picture upright.",
  "cut-off": "The face is cut off. Choose a picture that shows all of it.",
};

/** A sentence or two for every problem. */
export function faceAdvice(problems: readonly FaceProblem[]): string {
  return `${problems.map((problem) => ADVICE[problem]).join(" ")} Nothing has been sent yet.`;
}

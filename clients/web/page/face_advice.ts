/** Advice about a picture whose face will not be restored well. */

import type { FaceProblem } from "../src/face_check";

const ADVICE: Record<FaceProblem, string> = {
  none: "No face was found. Only faces are restored well.",
  "too-small": "This face is very small. Come closer, or choose a larger picture.",
  "turned-away": "This face is turned away. Look towards the camera.",
  "cut-off": "This face is cut off. Choose a picture that shows all of it.",
};

/** A sentence or two for every problem. */
export function faceAdvice(problems: readonly FaceProblem[]): string {
  return `${problems.map((problem) => ADVICE[problem]).join(" ")} Nothing has been sent yet.`;
}

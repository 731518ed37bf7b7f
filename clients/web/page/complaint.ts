/** Errors in plain words. */

import { ImageError, UnreachableError } from "../src/errors";
import { Refused } from "./service";

/** The sentence the page shows for an error. */
export interface Complaint {
  readonly text: string;
  /** True if the same may succeed a moment later: the page offers to try again. */
  readonly temporary: boolean;
}

/** The complaint about an error. */
export function complaintAbout(error: unknown): Complaint {
  if (error instanceof UnreachableError) {
    return { text: "The service could not be reached. Check your connection and try again.", temporary: true };
  }
  const message = error instanceof Error ? error.message : String(error);
  if (error instanceof ImageError) return { text: `That picture cannot be used: ${message}.`, temporary: false };
  if (error instanceof Refused) {
    return { text: `The service refused: ${message}.`, temporary: error.status === 429 || error.status >= 500 };
  }
  return { text: `That did not work: ${message}.`, temporary: false };
}

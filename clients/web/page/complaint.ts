/** Errors in plain words. */

import { ImageError, isTemporary, ServiceError, UnreachableError } from "../src/errors";
import { TimedOut } from "./service";

/** The sentence the page shows for an error. */
export interface Complaint {
  readonly text: string;
  /** True if the same may succeed a moment later: the page offers to try again. */
  readonly temporary: boolean;
}

/** The complaint about an error. */
export function complaintAbout(error: unknown): Complaint {
  return { text: sentence(error), temporary: isTemporary(error) };
}

function sentence(error: unknown): string {
  if (error instanceof TimedOut) return "The service took too long to answer. Try again.";
  if (error instanceof UnreachableError) {
    return "The service could not be reached. Check your connection and try again.";
  }
  const message = (error instanceof Error ? error.message : String(error)).replace(/\.$/, "");
  if (error instanceof ImageError) return `That picture cannot be used: ${message}.`;
  if (error instanceof ServiceError && error.status) return `The service refused: ${message}.`;
  return `That did not work: ${message}.`;
}

/** The server's half: payload in, picture out. */

import { ServiceError, UnreachableError } from "../src/errors";
import { requestPicture } from "../src/restoring";

/** Milliseconds for a request and its answer: the service gives up after 10 s by default, the rest is for transfers. */
const TIME_LIMIT = 60_000;

/** A restored picture and where the time went. */
export interface Restored {
  readonly bitmap: ImageBitmap;
  /** Milliseconds from sending to the picture. */
  readonly total: number;
  /** Milliseconds of each of the service's stages. */
  readonly stages: ReadonlyMap<string, number>;
}

/** What `fetched` and `received` throw when the time limit has passed. */
export class TimedOut extends UnreachableError {}

/** Fetches a URL relative to the page; `UnreachableError` if no answer comes, `TimedOut` if it comes too late. */
export function fetched(url: string, init: RequestInit = {}): Promise<Response> {
  // Chrome before 103 has no such signal, and waits.
  const signal = AbortSignal.timeout?.(TIME_LIMIT);
  return received(fetch(new URL(url, document.baseURI).href, { ...init, signal }));
}

/** What is received, or `UnreachableError` instead of the browser's own error. */
export async function received<Type>(answer: Promise<Type>): Promise<Type> {
  try {
    return await answer;
  } catch (error) {
    if (error instanceof ServiceError) throw error;
    const { name, message } = error instanceof Error ? error : new Error(String(error));
    throw new (name === "TimeoutError" ? TimedOut : UnreachableError)(message);
  }
}

/** Sides in pixels of the squares that the service restores with a bundle, the decoder's own first; empty if unknown. */
export async function restoredSides(bundle: string, token: string | undefined): Promise<readonly number[]> {
  try {
    const listing: unknown = await (await fetched("v1/bundles", { headers: bearer(token) })).json();
    const bundles = listing as readonly { readonly id: string; readonly sides?: readonly number[] }[];
    return bundles.find(({ id }) => id === bundle)?.sides ?? [];
  } catch {
    return [];
  }
}

/** The parameter `size` for an original with this longest side: its own size, within what is restored at `sides`. */
export function restoredSize(longest: number, [native, ...larger]: readonly number[]): number | "native" {
  return larger.length === 0 || longest <= native ? "native" : Math.min(longest, Math.max(...larger));
}

/** Has a payload restored. */
export async function restore(
  bytes: Uint8Array, size: number | "native", token: string | undefined,
): Promise<Restored> {
  const start = performance.now();
  const service = new URL(".", document.baseURI).href;
  const signal = AbortSignal.timeout?.(TIME_LIMIT);
  const { picture, timing } = await received(requestPicture(bytes, { service, size, token, signal }, "image/png"));
  const bitmap = await createImageBitmap(picture);
  const stages = parseServerTiming(timing);
  return { bitmap, total: performance.now() - start, stages };
}

function bearer(token: string | undefined): Record<string, string> {
  return token ? { Authorization: `Bearer ${token}` } : {};
}

/** The stages of a Server-Timing header, in milliseconds. */
export function parseServerTiming(header: string): ReadonlyMap<string, number> {
  const stages = new Map<string, number>();
  for (const [, name, duration] of header.matchAll(/([\w-]+);dur=([\d.]+)/g)) stages.set(name, Number(duration));
  return stages;
}

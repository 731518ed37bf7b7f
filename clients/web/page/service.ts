/** The server's half: payload in, picture out. */

import { UnreachableError } from "../src/errors";

/** A restored picture and where the time went. */
export interface Restored {
  readonly bitmap: ImageBitmap;
  /** Milliseconds from sending to the picture. */
  readonly total: number;
  /** Milliseconds of each of the service's stages. */
  readonly stages: ReadonlyMap<string, number>;
}

/** What `restore` throws when the service refuses. */
export class Refused extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

/** Fetches; `UnreachableError` if no answer comes. */
export function fetched(url: string, init: RequestInit = {}): Promise<Response> {
  return received(fetch(url, init));
}

/** What is received, or `UnreachableError` instead of the browser's own error. */
export async function received<Type>(answer: Promise<Type>): Promise<Type> {
  try {
    return await answer;
  } catch (error) {
    throw new UnreachableError(error instanceof Error ? error.message : String(error));
  }
}

/** Has a payload restored at the decoder's resolution. */
export async function restore(bytes: Uint8Array, token: string | undefined): Promise<Restored> {
  const start = performance.now();
  const headers: Record<string, string> = { "Content-Type": "application/vnd.edgegrain", Accept: "image/png" };
  if (token) headers["Authorization"] = `Bearer ${token}`;
  const response = await fetched("/v1/restore?size=native", { method: "POST", headers, body: bytes as BodyInit });
  if (!response.ok) {
    const problem = (await response.json().catch(() => ({}))) as { detail?: string };
    throw new Refused(response.status, problem.detail ?? `the service answered ${response.status}`);
  }
  const bitmap = await createImageBitmap(await received(response.blob()));
  const stages = parseServerTiming(response.headers.get("Server-Timing") ?? "");
  return { bitmap, total: performance.now() - start, stages };
}

/** The stages of a Server-Timing header, in milliseconds. */
export function parseServerTiming(header: string): ReadonlyMap<string, number> {
  const stages = new Map<string, number>();
  for (const [, name, duration] of header.matchAll(/([\w-]+);dur=([\d.]+)/g)) stages.set(name, Number(duration));
  return stages;
}

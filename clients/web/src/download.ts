/** Downloads that end: with the bytes, or with an error if the connection is lost or stalls. */

import { ServiceError, UnreachableError } from "./errors.js";

/** How files are asked for. */
export interface DownloadOptions {
  /** Bearer token, if the service asks for one. */
  readonly token?: string;
  /** Milliseconds without any data after which a download counts as unreachable; by default 15 000. */
  readonly timeout?: number;
  /** Ends the download, which rejects with the signal's reason. */
  readonly signal?: AbortSignal;
}

const TIMEOUT = 15_000;
/** Timers that are set to more end at once. */
const LONGEST_TIMEOUT = 2 ** 31 - 1;

/**
 * The bytes at `url`; `UnreachableError` if they do not arrive, `ServiceError` if they are refused, the reason of
 * `options.signal` if it ends the download.
 */
export async function download(
  url: string, mode: RequestCache, options: DownloadOptions = {},
): Promise<Uint8Array<ArrayBuffer>> {
  const { token, timeout = TIMEOUT, signal } = options;
  stopIfAborted(signal);
  // `fetch` would throw the TypeError that also says that there is no network.
  if (token && !/^[\x20-\x7e]+$/.test(token)) {
    throw new ServiceError("the token has characters that are not printable ASCII; copy it again");
  }
  const stalled = new AbortController();
  let timer: ReturnType<typeof setTimeout> | undefined;
  const wait = () => {
    clearTimeout(timer);
    const stop = () => stalled.abort(new Error(`no data for ${timeout} ms`));
    timer = setTimeout(stop, Math.min(timeout, LONGEST_TIMEOUT));
  };
  const abort = () => stalled.abort();
  signal?.addEventListener("abort", abort);
  let response: Response | undefined;
  try {
    wait();
    const headers = token ? { Authorization: `Bearer ${token}` } : undefined;
    response = await fetch(url, { cache: mode, headers, signal: stalled.signal });
    if (!response.ok) {
      const { status, statusText } = response; // HTTP/2 has no text
      throw new ServiceError(`${url} answered ${status} ${statusText}`.trimEnd(), status);
    }
    if (!response.body) return new Uint8Array(await response.arrayBuffer()); // React Native has no streams
    const watch = new TransformStream<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>>({
      start: wait,
      transform(chunk, body) {
        wait();
        body.enqueue(chunk);
      },
    });
    return new Uint8Array(await new Response(response.body.pipeThrough(watch)).arrayBuffer());
  } catch (error) {
    stopIfAborted(signal);
    if (error instanceof ServiceError) throw error;
    const reason = error instanceof Error ? error.message : String(error);
    throw new UnreachableError(`${url} ${response ? "broke off" : "cannot be reached"}: ${reason}`);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", abort);
  }
}

/** `AbortSignal.throwIfAborted`, which Chrome has from version 100 on. */
function stopIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw signal.reason ?? new DOMException("the download was aborted", "AbortError");
}

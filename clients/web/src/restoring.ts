/** The way of a received payload to the screen: its preview, then the picture that a service restores. No DOM. */

import { address, fetchTables } from "./bundle.js";
import type { ContractTables } from "./coder_tables.js";
import type { DownloadOptions } from "./download.js";
import { ServiceError, UnreachableError } from "./errors.js";
import { preview } from "./fit.js";
import { decodePayload, parseHeader } from "./payload.js";
import { payloadFromText } from "./payload_text.js";
import type { Rgb } from "./rgb.js";

export interface RestoreOptions {
  /** Address of the service, such as `https://host` or `https://host/path`. */
  readonly service: string;
  /** The longest side in pixels, "native" for what the decoder makes; by default "original", that of the original. */
  readonly size?: number | "native" | "original";
  /** Bearer token, if the service asks for one. */
  readonly token?: string;
}

export interface RestoringOptions extends RestoreOptions {
  /** Contract id and tables to read the preview with, such as of `fetchBundle`; else the service's are fetched once. */
  readonly bundle?: ContractTables;
}

/** What there is of a picture so far. */
export interface Restoring {
  /** "preview" until the service has answered. */
  readonly step: "preview" | "restored" | "error";
  /** Data URI of the preview as BMP; undefined before its tables have come, and of payloads that are not read here. */
  readonly preview?: string;
  /** File of the restored picture. */
  readonly restored?: Blob;
  /** `ServiceError`, or `PayloadError` of a text that is none. */
  readonly error?: Error;
}

/** Tables by service and contract, for all pictures of a page. */
const known = new Map<string, Promise<ContractTables>>();

/** Shows a payload or its text: at once, and again whenever there is more, until the returned function is called. */
export function restoring(
  payload: Uint8Array | string, options: RestoringOptions, show: (state: Restoring) => void,
  state = initially(payload, options.bundle),
): () => void {
  const stopped = new AbortController();
  const change = (more: Partial<Restoring>) => {
    if (!stopped.signal.aborted) show((state = { ...state, ...more }));
  };
  change({});
  const restore = async () => {
    const bytes = bytesOf(payload);
    if (!state.preview) fetchPreview(bytes, options).then((preview) => change({ preview }), () => undefined);
    const { picture } = await requestPicture(bytes, { ...options, signal: stopped.signal });
    change({ step: "restored", restored: picture });
  };
  restore().catch((error: Error) => change({ step: "error", error }));
  return () => stopped.abort();
}

/** What can be shown of a payload without a request. */
export function initially(payload: Uint8Array | string, bundle: ContractTables | undefined): Restoring {
  try {
    return { step: "preview", preview: bundle && previewOf(bytesOf(payload), bundle) };
  } catch {
    return { step: "preview" };
  }
}

/** Width of the restored picture by its height; undefined if the header is not read here. */
export function aspectOf(payload: Uint8Array | string): number | undefined {
  try {
    const { fit, originalWidth, originalHeight } = parseHeader(bytesOf(payload));
    return fit === "pad" || fit === "stretch" ? originalWidth / originalHeight : 1;
  } catch {
    return undefined;
  }
}

/** Has a payload restored; `ServiceError` of a refusal or without an answer, else the reason of `options.signal`. */
export async function requestPicture(
  bytes: Uint8Array, options: RestoreOptions & Pick<DownloadOptions, "signal">, type = "image/webp",
): Promise<{ readonly picture: Blob; readonly timing: string }> {
  const { service, size, token, signal } = options;
  const url = address(`v1/restore${size === undefined ? "" : `?size=${size}`}`, service);
  const headers: Record<string, string> = { "Content-Type": "application/vnd.edgegrain", Accept: type };
  if (token) headers.Authorization = `Bearer ${token}`;
  let response: Response;
  try {
    response = await fetch(url, { method: "POST", headers, body: bytes as BodyInit, signal });
    if (response.ok) return { picture: await response.blob(), timing: response.headers.get("Server-Timing") ?? "" };
  } catch (error) {
    throw signal?.aborted ? signal.reason : new UnreachableError(`${url} cannot be reached: ${String(error)}`);
  }
  const problem = (await response.json().catch(() => ({}))) as { detail?: string };
  throw new ServiceError(problem.detail ?? `the service answered ${response.status}`, response.status);
}

function bytesOf(payload: Uint8Array | string): Uint8Array {
  return typeof payload === "string" ? payloadFromText(payload) : payload;
}

async function fetchPreview(bytes: Uint8Array, { service, token }: RestoringOptions): Promise<string> {
  const { contract } = parseHeader(bytes);
  const key = `${service} ${contract}`;
  if (!known.has(key)) {
    const tables = fetchTables({ service, token }, contract);
    known.set(key, tables);
    tables.catch(() => known.delete(key));
  }
  return previewOf(bytes, await known.get(key)!);
}

function previewOf(bytes: Uint8Array, bundle: ContractTables): string {
  return bmpOf(preview(decodePayload(bytes, bundle)));
}

/** A picture as a BMP of 24 bits, which needs no canvas. */
function bmpOf({ width, height, data }: Rgb): string {
  const row = (3 * width + 3) & ~3;
  const file = new Uint8Array(54 + row * height);
  const view = new DataView(file.buffer);
  file.set([0x42, 0x4d]);
  const fields = [[2, file.length], [10, 54], [14, 40], [18, width], [22, -height], [26, 1 | (24 << 16)]]; // downwards
  for (const [at, value] of fields) view.setInt32(at, value, true);
  for (let at = 0; at < data.length; at++) {
    const pixel = Math.floor(at / 3);
    file[54 + row * Math.floor(pixel / width) + 3 * (pixel % width) + 2 - (at % 3)] = data[at];
  }
  let text = "";
  for (const byte of file) text += String.fromCharCode(byte);
  return `data:image/bmp;base64,${btoa(text)}`;
}

/** A bundle's phone half, fetched from a service: verified by SHA-256, kept in the Cache API where there is one. */

import { type CoderTables, readCoderTables } from "./coder_tables";
import { BundleError, ServiceError, UnreachableError } from "./errors";
import { type Golden, sha256Hex } from "./golden_inputs";

/** What a client needs to make payloads. */
export interface Bundle {
  readonly id: string;
  /** 64 hex digits; a payload names the first eight. */
  readonly contractId: string;
  /** Side of the encoder's square, in pixels. */
  readonly hr: number;
  /** Side of the LR. */
  readonly lr: number;
  /** The bytes of encoder.onnx. */
  readonly encoder: Uint8Array;
  readonly tables: CoderTables;
  readonly golden: Golden;
}

/** Where a bundle comes from. */
export interface BundleSource {
  /** Address of the service, such as `https://host`. */
  readonly service: string;
  /** Id of the bundle; by default the first one that is served. */
  readonly bundle?: string;
  /** Bearer token, if the service asks for one. */
  readonly token?: string;
}

interface FileDescription {
  readonly name: string;
  readonly url: string;
  readonly size: number;
  readonly sha256: string;
}

interface BundleDescription {
  readonly id: string;
  readonly hr: number;
  readonly lr: number;
  readonly lr_contract_id: string;
  readonly preprocessing: Readonly<Record<string, unknown>>;
  readonly encoders: readonly FileDescription[];
  readonly contract: readonly FileDescription[];
}

const CACHE = "edgegrain-bundles-1";
const LISTING = "/v1/bundles";
/** What fit.ts does, in the words of a manifest. */
const PREPROCESSING = { resize: "pillow-bilinear-22bit-width-first", pad: "edge" };

/**
 * Fetches a bundle. What the cache holds under the ETag that the service lists is not fetched again, and without a
 * network the last listing is believed.
 *
 * Throws `UnreachableError` if the service cannot be reached, `ServiceError` if it has no such bundle, `BundleError` if
 * a file is not what the service says it is.
 */
export async function fetchBundle(source: BundleSource): Promise<Bundle> {
  const listing = await fetchListing(source);
  const found = source.bundle ? listing.find((bundle) => bundle.id === source.bundle) : listing[0];
  if (!found) {
    const known = listing.map((bundle) => bundle.id).join(", ") || "none";
    throw new ServiceError(`the service has no bundle ${source.bundle ?? ""}, only: ${known}`);
  }
  checkPreprocessing(found);
  const files = [...(found.encoders ?? []), ...(found.contract ?? [])];
  const [encoder, tables, golden] = await Promise.all(
    ["encoder.onnx", "coder.json", "golden.json"].map((name) => {
      const file = files.find((candidate) => candidate.name === name);
      if (!file) throw new BundleError(`bundle ${found.id} offers no ${name}; the service is too old for this client`);
      return fetchFile(source, file);
    }),
  );
  return {
    id: found.id,
    contractId: found.lr_contract_id,
    hr: found.hr,
    lr: found.lr,
    encoder,
    tables: readCoderTables(parseJson(tables, "coder.json")),
    golden: parseJson(golden, "golden.json") as Golden,
  };
}

function checkPreprocessing({ id, preprocessing }: BundleDescription): void {
  for (const [name, known] of Object.entries(PREPROCESSING)) {
    if (preprocessing?.[name] !== known) {
      throw new BundleError(`bundle ${id} prepares pictures with another ${name}, ${String(preprocessing?.[name])}`);
    }
  }
  if ("tile_overlap" in preprocessing) {
    throw new BundleError(`bundle ${id} takes pictures in tiles, which this client does not; let the service compress`);
  }
}

async function fetchListing(source: BundleSource): Promise<readonly BundleDescription[]> {
  const url = address(LISTING, source.service);
  const cache = await openCache();
  let response: Response;
  try {
    response = await get(url, source.token);
  } catch (error) {
    const kept = error instanceof UnreachableError ? await cache?.match(url) : undefined;
    if (!kept) throw error;
    return (await kept.json()) as readonly BundleDescription[];
  }
  const copy = response.clone();
  const listing: unknown = await response.json().catch(() => undefined);
  if (!Array.isArray(listing)) throw new ServiceError(`${url} lists no bundles; is this an edgegrain service?`);
  await keep(cache, url, copy);
  return listing as readonly BundleDescription[];
}

async function fetchFile(source: BundleSource, file: FileDescription): Promise<Uint8Array> {
  const url = address(file.url, source.service);
  const cache = await openCache();
  const kept = await cache?.match(url);
  if (kept && kept.headers.get("ETag") === `"${file.sha256}"`) {
    const data = new Uint8Array(await kept.arrayBuffer());
    if (sha256Hex(data) === file.sha256) return data;
  }
  const response = await get(url, source.token);
  const copy = response.clone();
  const body = await response.arrayBuffer().catch((error: unknown) => {
    throw new UnreachableError(`${url} broke off: ${error instanceof Error ? error.message : String(error)}`);
  });
  const data = new Uint8Array(body);
  const digest = sha256Hex(data);
  if (data.length !== file.size || digest !== file.sha256) {
    throw new BundleError(`${file.name} has SHA-256 ${digest}, the service lists ${file.sha256}; fetch it again`);
  }
  await keep(cache, url, copy);
  return data;
}

function address(path: string, service: string): string {
  try {
    return new URL(path, service).href;
  } catch {
    throw new ServiceError(`"${service}" is no address of a service, expected the form https://host`);
  }
}

async function get(url: string, token: string | undefined): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(url, token ? { headers: { Authorization: `Bearer ${token}` } } : {});
  } catch (error) {
    throw new UnreachableError(`${url} cannot be reached: ${error instanceof Error ? error.message : String(error)}`);
  }
  if (!response.ok) throw new ServiceError(`${url} answered ${response.status} ${response.statusText}`);
  return response;
}

/** Without room in the cache the answer is fetched again the next time. */
async function keep(cache: Cache | undefined, url: string, response: Response): Promise<void> {
  try {
    await cache?.put(url, response);
  } catch {
    await response.body?.cancel();
  }
}

/** The cache, or undefined: outside secure contexts and where storage is forbidden there is none. */
async function openCache(): Promise<Cache | undefined> {
  try {
    return await globalThis.caches?.open(CACHE);
  } catch {
    return undefined;
  }
}

function parseJson(data: Uint8Array, name: string): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(data));
  } catch {
    throw new BundleError(`${name} is not JSON; fetch the bundle again`);
  }
}

/** A bundle's phone half, from a service or a folder: verified by SHA-256, kept in the Cache API if there is one. */

import { type CoderTables, readCoderTables } from "./coder_tables.js";
import { BundleError, ServiceError, UnreachableError } from "./errors.js";
import { type Golden, sha256Hex } from "./golden_inputs.js";

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
  /** Address of the service, such as `https://host`; not used if there is a `folder`. */
  readonly service: string;
  /** URL of a bundle's folder on any web server: its manifest.json, encoder.onnx, coder.json and golden.json. */
  readonly folder?: string;
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

type Manifest = Omit<BundleDescription, "encoders" | "contract"> & {
  readonly schema: unknown;
  readonly files: Readonly<Record<string, { readonly size: number; readonly sha256: string }>>;
};

const SCHEMA = 1;
const CACHE = "edgegrain-bundles-1";
const LISTING = "/v1/bundles";
/** What fit.ts does, in the words of a manifest. */
const PREPROCESSING = { resize: "pillow-bilinear-22bit-width-first", pad: "edge" };

/**
 * Fetches a bundle. Files in the cache with the listed SHA-256 are not fetched again, and without a network the last
 * listing or manifest is used. A file with another SHA-256 is fetched once more, past the browser's HTTP cache.
 *
 * Throws `UnreachableError` if there is no answer, `ServiceError` if the service has no such bundle or the folder no
 * manifest, `BundleError` if a file has another SHA-256 or the manifest another schema.
 */
export async function fetchBundle(source: BundleSource): Promise<Bundle> {
  const found = await (source.folder === undefined ? findListed(source) : readManifest(source, source.folder));
  checkPreprocessing(found);
  const files = [...(found.encoders ?? []), ...(found.contract ?? [])];
  const [encoder, tables, golden] = await Promise.all(
    ["encoder.onnx", "coder.json", "golden.json"].map((name) => {
      const file = files.find((candidate) => candidate.name === name);
      if (!file) throw new BundleError(`bundle ${found.id} has no ${name}, which this client needs`);
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

async function findListed(source: BundleSource): Promise<BundleDescription> {
  const url = address(LISTING, source.service);
  const listing = await fetchDescription(url, source.token, Array.isArray, "lists no bundles; is this an edgegrain service?");
  const bundles = listing as readonly BundleDescription[];
  const found = source.bundle ? bundles.find((bundle) => bundle.id === source.bundle) : bundles[0];
  if (found) return found;
  const known = bundles.map((bundle) => bundle.id).join(", ") || "none";
  throw new ServiceError(`the service has no bundle ${source.bundle ?? ""}, only: ${known}`);
}

/** The manifest in the form of the service's listing. */
async function readManifest(source: BundleSource, folder: string): Promise<BundleDescription> {
  const url = address("manifest.json", address(folder.endsWith("/") ? folder : `${folder}/`, source.service));
  const complaint = "is no bundle's manifest; is this a bundle's folder?";
  const manifest = (await fetchDescription(url, source.token, isManifest, complaint)) as Manifest;
  if (manifest.schema !== SCHEMA) {
    const found = String(manifest.schema);
    throw new BundleError(`${url} has schema ${found}, this release reads ${SCHEMA}; update this library`);
  }
  const contract = Object.entries(manifest.files).map(([name, { size, sha256 }]) => {
    return { name, url: address(name, url), size, sha256 };
  });
  return { ...manifest, encoders: [], contract };
}

function isManifest(value: unknown): boolean {
  return typeof value === "object" && value !== null && "files" in value && "lr_contract_id" in value;
}

/** JSON from `url`, or what it last was if there is no network. */
async function fetchDescription(
  url: string, token: string | undefined, isValid: (value: unknown) => boolean, complaint: string,
): Promise<unknown> {
  const cache = await openCache();
  let response: Response;
  try {
    response = await get(url, token);
  } catch (error) {
    const kept = error instanceof UnreachableError ? await cache?.match(url) : undefined;
    if (!kept) throw error;
    return kept.json();
  }
  const copy = response.clone();
  const description: unknown = await response.json().catch(() => undefined);
  if (!isValid(description)) throw new ServiceError(`${url} ${complaint}`);
  await keep(cache, url, copy);
  return description;
}

async function fetchFile(source: BundleSource, file: FileDescription): Promise<Uint8Array> {
  const url = address(file.url, source.service);
  const cache = await openCache();
  const kept = await cache?.match(url);
  if (kept) {
    const data = new Uint8Array(await kept.arrayBuffer());
    if (sha256Hex(data) === file.sha256) return data;
  }
  let [data, copy] = await download(url, source.token, "default");
  if (!isListed(data, file)) {
    // The browser's HTTP cache may have answered with the file of an earlier encoder.
    [data, copy] = await download(url, source.token, "reload");
  }
  if (!isListed(data, file)) {
    throw new BundleError(`${file.name} has SHA-256 ${sha256Hex(data)}, expected ${file.sha256}; fetch it again`);
  }
  await keep(cache, url, copy);
  return data;
}

function isListed(data: Uint8Array, file: FileDescription): boolean {
  return data.length === file.size && sha256Hex(data) === file.sha256;
}

/** The bytes at `url`, and the answer to keep. */
async function download(
  url: string, token: string | undefined, mode: RequestCache,
): Promise<[Uint8Array, Response]> {
  const response = await get(url, token, mode);
  const copy = response.clone();
  const body = await response.arrayBuffer().catch((error: unknown) => {
    throw new UnreachableError(`${url} broke off: ${error instanceof Error ? error.message : String(error)}`);
  });
  return [new Uint8Array(body), copy];
}

function address(path: string, service: string): string {
  try {
    return new URL(path, service).href;
  } catch {
    throw new ServiceError(`"${service}" is no address of a service, expected the form https://host`);
  }
}

async function get(url: string, token: string | undefined, mode: RequestCache = "default"): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(url, { cache: mode, ...(token ? { headers: { Authorization: `Bearer ${token}` } } : {}) });
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
    await response.body?.cancel().catch(() => undefined); // `put` may have locked it
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

/** A bundle's phone half, from a service or a folder: verified by SHA-256, kept in the Cache API if there is one. */

import { type ContractTables, readCoderTables } from "./coder_tables.js";
import { download, type DownloadOptions } from "./download.js";
import { BundleError, isTemporary, ServiceError } from "./errors.js";
import { DOMAIN } from "./faces.js";
import { type Golden, sha256Hex } from "./golden_inputs.js";

/** What a client needs to make payloads. */
export interface Bundle extends ContractTables {
  readonly id: string;
  /** What its pictures show: "faces", or another word. */
  readonly domain: string;
  /** Side of the encoder's square, in pixels. */
  readonly hr: number;
  /** Side of the LR. */
  readonly lr: number;
  /** The bytes of encoder.onnx. */
  readonly encoder: Uint8Array;
  readonly golden: Golden;
}

/** Where a bundle comes from. */
export interface BundleSource extends Omit<DownloadOptions, "signal"> {
  /** Address of the service, such as `https://host` or `https://host/path`; not used if there is a `folder`. */
  readonly service: string;
  /** URL of a bundle's folder on any web server: its manifest.json, encoder.onnx, coder tables and golden.json. */
  readonly folder?: string;
  /** Id of the bundle; by default the first one that is served. */
  readonly bundle?: string;
}

/** A source, and the signal that ends its downloads. */
type Source = BundleSource & Pick<DownloadOptions, "signal">;

interface FileDescription {
  readonly name: string;
  readonly url: string;
  readonly size: number;
  readonly sha256: string;
}

interface BundleFacts {
  readonly id: string;
  readonly domain?: string;
  readonly hr: number;
  readonly lr: number;
  readonly lr_contract_id: string;
  /** Rates beside its own, whose coder tables are these files. */
  readonly rates?: readonly { readonly file: string; readonly lr_contract_id: string }[];
  readonly preprocessing: Readonly<Record<string, unknown>>;
}

/** A bundle in the service's listing. */
interface Listed extends BundleFacts {
  readonly encoders?: readonly FileDescription[];
  readonly contract?: readonly FileDescription[];
}

interface Manifest extends BundleFacts {
  readonly schema: unknown;
  readonly files: Readonly<Record<string, { readonly size: number; readonly sha256: string }>>;
}

/** What a listing or a manifest says of a bundle, with the whole URLs of its `FILES` and then those of its `rates`. */
interface BundleDescription extends BundleFacts {
  readonly files: readonly FileDescription[];
}

const SCHEMA = 1;
const TABLES = "coder.json";
const FILES = ["encoder.onnx", TABLES, "golden.json"];
const CACHE = "edgegrain-bundles-2";
/** The cache of releases up to 0.6.0, which kept one version of each file and of the listing. */
const OLD_CACHE = "edgegrain-bundles-1";
const LISTING = "v1/bundles";
/** Milliseconds for news of a bundle that is kept. */
const PATIENCE = 1000;
/** What fit.ts does, in the words of a manifest. */
const PREPROCESSING = { resize: "pillow-bilinear-22bit-width-first", pad: "edge" };

/**
 * Fetches a bundle with the coder tables of all its rates. Files in the cache with the listed SHA-256 are not fetched
 * again. If a bundle is complete in the cache, it is used if there is no newer one within a second, which goes on
 * arriving for the next time, if a file breaks off, or the answer is 429 or 5xx. A file with another SHA-256 is fetched
 * once more, past the browser's HTTP cache.
 *
 * Throws `UnreachableError` if there is no answer, `ServiceError` if the service refuses or has no such bundle, or the
 * folder has no manifest, `BundleError` if a file has another SHA-256 or the manifest another schema, the reason of
 * `options.signal` if it ends the downloads; what has arrived is kept.
 */
export async function fetchBundle(
  from: BundleSource, options: Pick<DownloadOptions, "signal"> = {},
): Promise<Bundle> {
  const source = { ...from, ...options };
  const cache = await openCache();
  const url = descriptionUrl(source);
  // Each bundle of a service keeps a description of its own: that of another may name files that are not kept yet.
  const key = source.bundle === undefined ? url : `${url}?bundle=${encodeURIComponent(source.bundle)}`;
  const kept = await cache?.match(key);
  const fresh = fetchNew(source, url, cache, key);
  if (!kept) return fresh;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<undefined>((end) => (timer = setTimeout(() => end(undefined), PATIENCE)));
  const bundle = await Promise.race([fresh.catch(temporarily), late]).finally(() => clearTimeout(timer));
  return bundle ?? readBundle((await kept.json()) as BundleDescription, source, cache);
}

/** Fetches of a service's first rate whose contract id begins with `contract` only the tables; errors as above. */
export async function fetchTables(source: BundleSource, contract: string): Promise<ContractTables> {
  const found = await fetchDescription(source, descriptionUrl(source), contract);
  const { file, lr_contract_id } = ratesOf(found).find((rate) => rate.lr_contract_id.startsWith(contract))!;
  const data = await fetchFile(found.files.find(({ name }) => name === file)!, source, await openCache());
  return { contractId: lr_contract_id, tables: readCoderTables(parseJson(data, file)) };
}

async function fetchNew(source: Source, url: string, cache: Cache | undefined, key: string): Promise<Bundle> {
  const description = await fetchDescription(source, url);
  const bundle = await readBundle(description, source, cache);
  await keepDescription(cache, key, description);
  return bundle;
}

function temporarily(error: unknown): undefined {
  if (!isTemporary(error)) throw error;
}

function descriptionUrl({ service, folder }: BundleSource): string {
  if (folder === undefined) return address(LISTING, service);
  return address("manifest.json", address(folder, service));
}

async function readBundle(
  found: BundleDescription, source: Source, cache: Cache | undefined,
): Promise<Bundle> {
  checkPreprocessing(found);
  const files = await Promise.all(found.files.map((file) => fetchFile(file, source, cache)));
  const [encoder, tables, golden, ...further] = files;
  const [first, ...rates] = ratesOf(found).map(({ file, lr_contract_id }, index) => {
    return { contractId: lr_contract_id, tables: readCoderTables(parseJson([tables, ...further][index], file)) };
  });
  return {
    ...first,
    rates,
    id: found.id,
    domain: found.domain ?? DOMAIN, // a description that an earlier release kept has none
    hr: found.hr,
    lr: found.lr,
    encoder,
    golden: parseJson(golden, "golden.json") as Golden,
  };
}

/** All rates of a bundle, its own first. */
function ratesOf({ lr_contract_id, rates = [] }: BundleFacts): NonNullable<BundleFacts["rates"]> {
  return [{ file: TABLES, lr_contract_id }, ...rates];
}

function checkPreprocessing({ id, preprocessing }: BundleDescription): void {
  for (const [name, known] of Object.entries(PREPROCESSING)) {
    if (preprocessing?.[name] !== known) {
      throw new BundleError(`bundle ${id} prepares pictures with another ${name}, ${String(preprocessing?.[name])}`);
    }
  }
}

async function fetchDescription(source: Source, url: string, contract = ""): Promise<BundleDescription> {
  // Static servers send files without a lifetime, and browsers would go on using old ones for days: ask each time.
  const content = jsonOf(await download(url, "no-cache", source));
  return source.folder === undefined ? findListed(content, source, url, contract) : readManifest(content, url);
}

function findListed(listing: unknown, source: BundleSource, url: string, contract: string): BundleDescription {
  if (!Array.isArray(listing)) throw new ServiceError(`${url} lists no bundles; is this an edgegrain service?`);
  const bundles = listing as readonly Listed[];
  const isWanted = (listed: Listed) => source.bundle ? listed.id === source.bundle
    : ratesOf(listed).some(({ lr_contract_id }) => lr_contract_id.startsWith(contract));
  const found = bundles.find(isWanted);
  if (!found) {
    const known = bundles.map((bundle) => bundle.id).join(", ") || "none";
    throw new ServiceError(`the service has no bundle ${source.bundle ?? contract}, only: ${known}`);
  }
  return describe(found, [...(found.encoders ?? []), ...(found.contract ?? [])].map(belowService), source.service);
}

/** A listed file with a URL relative to the service: a service lists `/v1/…`, also if its own address has a path. */
function belowService(file: FileDescription): FileDescription {
  return { ...file, url: file.url.replace(/^\/(?!\/)/, "") };
}

function readManifest(manifest: unknown, url: string): BundleDescription {
  if (!isManifest(manifest)) throw new ServiceError(`${url} is no bundle's manifest; is this a bundle's folder?`);
  if (manifest.schema !== SCHEMA) {
    const found = String(manifest.schema);
    throw new BundleError(`${url} has schema ${found}, this release reads ${SCHEMA}; update this library`);
  }
  const files = Object.entries(manifest.files).map(([name, file]) => ({ name, url: name, ...file }));
  return describe(manifest, files, new URL(".", url).href);
}

function isManifest(value: unknown): value is Manifest {
  return typeof value === "object" && value !== null && "files" in value && "lr_contract_id" in value;
}

/** `facts` with those of the files that this client reads; their URLs are relative to `base`. */
function describe(facts: BundleFacts, files: readonly FileDescription[], base: string): BundleDescription {
  const { id, domain, hr, lr, lr_contract_id, rates, preprocessing } = facts;
  if (preprocessing && "tile_overlap" in preprocessing) {
    throw new BundleError(`bundle ${id} takes pictures in tiles, which this client does not; let the service compress`);
  }
  const needed = [...FILES, ...(rates ?? []).map(({ file }) => file)].map((name) => {
    const file = files.find((candidate) => candidate.name === name);
    if (!file) throw new BundleError(`bundle ${id} has no ${name}, which this client needs`);
    return { ...file, url: address(file.url, base) };
  });
  return { id, domain, hr, lr, lr_contract_id, rates, preprocessing, files: needed };
}

async function fetchFile(
  file: FileDescription, source: Source, cache: Cache | undefined,
): Promise<Uint8Array<ArrayBuffer>> {
  const kept = await cache?.match(fileKey(file));
  if (kept) {
    const data = new Uint8Array(await kept.arrayBuffer());
    if (sha256Hex(data) === file.sha256) return data;
  }
  let data = await download(file.url, "default", source);
  // The browser's HTTP cache may have answered with the file of an earlier encoder.
  if (!isListed(data, file)) data = await download(file.url, "reload", source);
  if (!isListed(data, file)) {
    throw new BundleError(`${file.name} has SHA-256 ${sha256Hex(data)}, expected ${file.sha256}; fetch it again`);
  }
  await keepFile(cache, file, data);
  return data;
}

function isListed(data: Uint8Array, file: FileDescription): boolean {
  return data.length === file.size && sha256Hex(data) === file.sha256;
}

/** The URL `path`, relative to a service or folder, whose address may end with a slash or without. */
export function address(path: string, service: string): string {
  try {
    const base = new URL(service);
    if (!base.pathname.endsWith("/")) base.pathname += "/";
    return new URL(path, base).href;
  } catch {
    throw new ServiceError(`"${service}" is no address of a service, expected the form https://host`);
  }
}

/** Where a file is kept: two versions of it have two places. */
function fileKey(file: FileDescription): string {
  return `${file.url}?sha256=${file.sha256}`;
}

/** Without room in the cache the file is fetched again the next time. */
async function keepFile(cache: Cache | undefined, file: FileDescription, data: Uint8Array<ArrayBuffer>): Promise<void> {
  await cache?.put(fileKey(file), new Response(data)).catch(() => undefined);
}

/** Keeps a description if all its files are kept, then removes their versions that no description names any more. */
async function keepDescription(cache: Cache | undefined, key: string, found: BundleDescription): Promise<void> {
  if (!cache) return;
  try {
    const kept = await Promise.all(found.files.map((file) => cache.match(fileKey(file))));
    if (kept.includes(undefined)) return; // the description that is kept stays with its files
    await cache.put(key, new Response(JSON.stringify(found)));
    const answers = await cache.matchAll(key, { ignoreSearch: true });
    const descriptions = await Promise.all(answers.map((answer) => answer.text()));
    for (const { url } of found.files) {
      for (const { url: version } of await cache.keys(url, { ignoreSearch: true })) {
        const sha256 = new URL(version).searchParams.get("sha256")!;
        if (!descriptions.some((description) => description.includes(sha256))) await cache.delete(version);
      }
    }
    await caches.delete(OLD_CACHE);
  } catch {
    // Without room the bundle is fetched again the next time.
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
  const content = jsonOf(data);
  if (content === undefined) throw new BundleError(`${name} is not JSON; fetch the bundle again`);
  return content;
}

/** The content of JSON; undefined if it is none. */
function jsonOf(data: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(data));
  } catch {
    return undefined;
  }
}

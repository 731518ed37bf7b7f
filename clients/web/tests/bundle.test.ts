import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";

import { fetchBundle, fetchTables } from "../src/bundle";
import { BundleError, ServiceError, UnreachableError } from "../src/errors";
import { sha256Hex } from "../src/golden_inputs";
import { readBytes } from "./golden";

const SERVICE = "https://service.example";
const FOLDER = "bundles/faces-256-lr16-small";
const ID = "faces-256-lr16-small";

let files: Record<string, Uint8Array>;
let fetched: string[];
let offline: boolean;
let listed: ReturnType<typeof listing>;
let kept: Map<string, Response>;
const deleteCache = vi.fn(async (_name: string) => true);
let preprocessing: Record<string, unknown> = {};
let schema: unknown;
let rates: { file: string; lr_contract_id: string; quality?: string }[] | undefined;

function describeFile(name: string) {
  return { name, url: `/v1/bundles/${ID}/${name}`, size: files[name].length, sha256: sha256Hex(files[name]) };
}

function listing() {
  const [encoders, contract] = [["encoder.onnx"], Object.keys(files).filter((name) => name.endsWith(".json"))];
  return [{
    id: ID, hr: 256, lr: 16, lr_contract_id: "f0".repeat(32), rates,
    preprocessing: { resize: "pillow-bilinear-22bit-width-first", fit_default: "pad", pad: "edge", ...preprocessing },
    encoders: encoders.map(describeFile), contract: contract.map(describeFile),
  }];
}

function manifest() {
  const [{ encoders, contract, ...rest }] = listed;
  const entries = [...encoders, ...contract].map(({ name, size, sha256 }) => [name, { size, sha256 }]);
  return { schema, ...rest, files: Object.fromEntries(entries) };
}

beforeEach(() => {
  files = { "encoder.onnx": new Uint8Array([1, 2, 3]) };
  for (const name of ["coder.json", "golden.json"]) files[name] = readBytes(`${FOLDER}/${name}`);
  preprocessing = {};
  schema = 1;
  rates = undefined;
  listed = listing();
  fetched = [];
  offline = false;
  kept = new Map();
  vi.stubGlobal("fetch", async (url: string, options: RequestInit) => {
    if (offline) throw new TypeError("no network");
    const path = new URL(url).pathname.replace(/^\/below/, "");
    fetched.push(new URL(url).pathname);
    const token = new Headers(options.headers).get("Authorization");
    if (token !== "Bearer secret") return new Response(null, { status: 401 });
    if (path === "/v1/bundles") return Response.json(listed);
    if (path === "/faces/manifest.json") return Response.json(manifest());
    const name = path.split("/").pop() ?? "";
    return new Response(files[name] as BodyInit, { headers: { ETag: `"${sha256Hex(files[name])}"` } });
  });
  vi.stubGlobal("caches", {
    delete: deleteCache,
    open: async () => ({
      match: async (url: string) => kept.get(url)?.clone(),
      matchAll: async (url: string) => versions(url).map((version) => kept.get(version)!.clone()),
      keys: async (url: string) => versions(url).map((version) => ({ url: version })),
      put: async (url: string, response: Response) => void kept.set(url, response),
      delete: async (url: string) => kept.delete(url),
    }),
  });
});

/** What is kept at a URL, with whatever query. */
function versions(url: string): string[] {
  const path = (of: string) => of.split("?")[0];
  return [...kept.keys()].filter((other) => path(other) === path(url));
}

/** The service has a new encoder from now on. */
function update(encoder: number[]): void {
  files["encoder.onnx"] = new Uint8Array(encoder);
  listed = listing();
}

/** `fetch` of a file, or what is given instead. */
function stubFetchOf(name: string, answer: (options: RequestInit) => Response | void): void {
  const whole = globalThis.fetch;
  vi.stubGlobal("fetch", async (url: string, options: RequestInit) => {
    return (url.endsWith(name) && answer(options)) || whole(url, options);
  });
}

/** An answer whose connection is lost within the body. */
function brokenOff(): Response {
  return new Response(new ReadableStream({ pull: (controller) => controller.error(new TypeError("reset")) }));
}

afterEach(() => vi.unstubAllGlobals());

const source = { service: SERVICE, bundle: ID, token: "secret" };

test("fetches what a client needs, once", async () => {
  const bundle = await fetchBundle(source);
  expect([bundle.id, bundle.hr, bundle.lr, bundle.contractId]).toEqual([ID, 256, 16, "f0".repeat(32)]);
  expect([...bundle.encoder]).toEqual([1, 2, 3]);
  expect(bundle.golden.inputs.length).toBe(12);
  expect(fetched).toHaveLength(4);

  await fetchBundle({ ...source, bundle: undefined });
  expect(fetched.slice(4)).toEqual(["/v1/bundles"]);
});

test("a new version replaces the kept one when all of it has arrived, not before", async () => {
  await fetchBundle(source);
  update([4, 5, 6]);
  let broken = true;
  stubFetchOf("encoder.onnx", () => (broken ? brokenOff() : undefined));
  expect([...(await fetchBundle(source)).encoder]).toEqual([1, 2, 3]);
  offline = true;
  expect([...(await fetchBundle(source)).encoder]).toEqual([1, 2, 3]);

  [broken, offline] = [false, false];
  expect([...(await fetchBundle(source)).encoder]).toEqual([4, 5, 6]);
  offline = true;
  expect([...(await fetchBundle(source)).encoder]).toEqual([4, 5, 6]);
  expect(versions(`${SERVICE}/v1/bundles/${ID}/encoder.onnx`)).toHaveLength(1);
  expect(deleteCache).toHaveBeenLastCalledWith("edgegrain-bundles-1"); // of earlier releases
});

test("a version stays as long as a description names it", async () => {
  await fetchBundle(source);
  update([4, 5, 6]);
  await fetchBundle({ ...source, bundle: undefined });
  offline = true;
  expect([...(await fetchBundle(source)).encoder]).toEqual([1, 2, 3]);
  expect([...(await fetchBundle({ ...source, bundle: undefined })).encoder]).toEqual([4, 5, 6]);
});

test("a signal ends the downloads, with its reason and not with the kept bundle", async () => {
  await fetchBundle(source);
  update([4, 5, 6]);
  const stop = new AbortController();
  // Chrome has it from version 100 on.
  Object.defineProperty(stop.signal, "throwIfAborted", { value: undefined });
  const sent: string[] = [];
  vi.stubGlobal("fetch", (url: string, { signal }: RequestInit) => {
    sent.push(url);
    return new Promise((_resolve, reject) => signal!.addEventListener("abort", () => reject(signal!.reason)));
  });
  const fetching = fetchBundle(source, { signal: stop.signal });
  const refused = expect(fetching).rejects.toThrow("the user left");
  await vi.waitFor(() => expect(sent).toHaveLength(1));
  stop.abort(new Error("the user left"));
  await refused;
  await expect(fetchBundle(source, { signal: stop.signal })).rejects.toThrow("the user left");
  expect(sent).toHaveLength(1);
});

test("without room for a new version the kept one stays", async () => {
  await fetchBundle(source);
  update([4, 5, 6]);
  const put = vi.spyOn(kept, "set").mockImplementation(() => {
    throw new DOMException("full", "QuotaExceededError");
  });
  expect([...(await fetchBundle(source)).encoder]).toEqual([4, 5, 6]);
  put.mockRestore();
  offline = true;
  expect([...(await fetchBundle(source)).encoder]).toEqual([1, 2, 3]);
});

test("works without a network once everything is kept", async () => {
  await fetchBundle(source);
  offline = true;
  expect((await fetchBundle(source)).id).toBe(ID);
});

test.each([429, 500, 502, 503])("works with a service that answers %i once everything is kept", async (status) => {
  await fetchBundle(source);
  stubFetchOf("/v1/bundles", () => new Response(null, { status }));
  expect((await fetchBundle(source)).id).toBe(ID);
  kept.clear();
  await expect(fetchBundle(source)).rejects.toMatchObject({ name: "ServiceError", status });
});

test.each([401, 404])("a service that answers %i refuses the kept bundle too", async (status) => {
  await fetchBundle(source);
  stubFetchOf("/v1/bundles", () => new Response(null, { status }));
  await expect(fetchBundle(source)).rejects.toMatchObject({ name: "ServiceError", status });
});

test.each(["below", "below/"])("a service at the path %s is asked there for everything", async (path) => {
  expect((await fetchBundle({ ...source, service: `${SERVICE}/${path}` })).id).toBe(ID);
  expect(fetched.sort()).toEqual(
    ["", "/coder.json", "/encoder.onnx", "/golden.json"].map((name) => `/below/v1/bundles${name && `/${ID}${name}`}`));
});

test("without a network or cache it says who could not be reached", async () => {
  offline = true;
  await expect(fetchBundle(source)).rejects.toThrow(ServiceError);
  vi.stubGlobal("caches", undefined);
  await expect(fetchBundle(source)).rejects.toThrow("https://service.example/v1/bundles cannot be reached");
});

test("works without the Cache API", async () => {
  vi.stubGlobal("caches", undefined);
  expect((await fetchBundle(source)).id).toBe(ID);
});

test("a kept file that is not the listed one is fetched again", async () => {
  await fetchBundle(source);
  const [url] = versions(`${SERVICE}/v1/bundles/${ID}/encoder.onnx`);
  kept.set(url, new Response(new Uint8Array([9])));
  expect([...(await fetchBundle(source)).encoder]).toEqual([1, 2, 3]);
  expect(fetched.filter((path) => path.endsWith("encoder.onnx"))).toHaveLength(2);
});

test("a file that the HTTP cache has of an earlier encoder is fetched past it, once", async () => {
  const modes: (RequestCache | undefined)[] = [];
  let stale = ["default"];
  stubFetchOf("encoder.onnx", ({ cache }) => {
    modes.push(cache);
    return stale.includes(cache ?? "default") ? new Response(new Uint8Array([9])) : undefined;
  });
  expect([...(await fetchBundle(source)).encoder]).toEqual([1, 2, 3]);
  expect(modes).toEqual(["default", "reload"]);
  expect([...(await fetchBundle(source)).encoder]).toEqual([1, 2, 3]);
  expect(modes).toHaveLength(2);

  kept.clear();
  stale = ["default", "reload"];
  await expect(fetchBundle(source)).rejects.toThrow(BundleError);
  expect(modes).toHaveLength(4);
});

test("an altered file is refused and not kept", async () => {
  files["encoder.onnx"] = new Uint8Array([1, 2, 4]);
  await expect(fetchBundle(source)).rejects.toThrow(BundleError);
  expect(versions(`${SERVICE}/v1/bundles/${ID}/encoder.onnx`)).toEqual([]);
});

test("a bundle that prepares pictures in another way is refused", async () => {
  preprocessing = { tile_overlap: 4 };
  listed = listing();
  listed[0].contract = listed[0].contract.filter(({ name }) => name !== "golden.json"); // these bundles have none
  await expect(fetchBundle(source)).rejects.toThrow("takes pictures in tiles");
  preprocessing = { resize: "lanczos" };
  listed = listing();
  await expect(fetchBundle(source)).rejects.toThrow("another resize, lanczos");
});

test("a cache without room is no trouble", async () => {
  vi.stubGlobal("caches", {
    open: async () => ({
      match: async () => undefined,
      put: async (_url: string, response: Response) => {
        await response.arrayBuffer();
        throw new DOMException("full", "QuotaExceededError");
      },
    }),
  });
  expect((await fetchBundle(source)).id).toBe(ID);
});

test.each<[string, () => Response]>([
  ["a page", () => new Response("<!doctype html>")],
  ["an object", () => Response.json({ detail: "other" })],
])("a service that answers with %s is none", async (_name, answer) => {
  vi.stubGlobal("fetch", async () => answer());
  await expect(fetchBundle(source)).rejects.toThrow(ServiceError);
  await expect(fetchBundle(source)).rejects.toThrow("lists no bundles; is this an edgegrain service?");
  expect(kept.size).toBe(0);
});

test("a file that breaks off is the service's trouble", async () => {
  stubFetchOf("encoder.onnx", brokenOff);
  await expect(fetchBundle(source)).rejects.toThrow("encoder.onnx broke off: reset");
});

test.each([
  ["/v1/bundles", source],
  ["/faces/manifest.json", { service: SERVICE, folder: "/faces", token: "secret" }],
])("%s that breaks off is an answer that did not come", async (path, from) => {
  stubFetchOf(path, () => (offline ? brokenOff() : undefined));
  await fetchBundle(from);
  offline = true;
  expect((await fetchBundle(from)).id).toBe(ID);
  kept.clear();
  await expect(fetchBundle(from)).rejects.toThrow(UnreachableError);
  await expect(fetchBundle(from)).rejects.toThrow("broke off: reset");
});

test.each(["/v1/bundles", "/faces/manifest.json"])("the HTTP cache answers for %s only if it has asked", async (path) => {
  const modes: (RequestCache | undefined)[] = [];
  stubFetchOf(path, ({ cache }) => void modes.push(cache));
  await fetchBundle(path === "/v1/bundles" ? source : { ...source, folder: "/faces" });
  expect(modes).toEqual(["no-cache"]);
});

describe("a service that stalls", () => {
  const overNetwork = globalThis.fetch;
  let stalling: Server;
  let begin: string | undefined;

  beforeAll(async () => {
    stalling = createServer((_request, response) => void (begin && response.write(begin))); // it never ends
    await new Promise<void>((resolve) => stalling.listen(0, "127.0.0.1", resolve));
  });

  afterAll(() => {
    stalling.closeAllConnections();
    stalling.close();
  });

  test.each([
    ["before it answers", undefined, "cannot be reached: no data for 50 ms"],
    ["within its answer", "[", "broke off: no data for 50 ms"],
  ])("%s cannot be reached", async (_when, part, complaint) => {
    await fetchBundle(source);
    begin = part;
    const { port } = stalling.address() as AddressInfo;
    vi.stubGlobal("fetch", (_url: string, options: RequestInit) => overNetwork(`http://127.0.0.1:${port}`, options));
    expect((await fetchBundle({ ...source, timeout: 50 })).id).toBe(ID);
    kept.clear();
    await expect(fetchBundle({ ...source, timeout: 50 })).rejects.toThrow(UnreachableError);
    await expect(fetchBundle({ ...source, timeout: 50 })).rejects.toThrow(complaint);
  });
});

test("news that take more than a second are for the next time", async () => {
  await fetchBundle(source);
  update([4, 5, 6]);
  const whole = globalThis.fetch;
  vi.stubGlobal("fetch", async (url: string, options: RequestInit) => {
    await new Promise((resolve) => setTimeout(resolve, url.endsWith("/v1/bundles") ? 1200 : 0));
    return whole(url, options);
  });
  expect([...(await fetchBundle(source)).encoder]).toEqual([1, 2, 3]);
  await vi.waitFor(() => expect([...kept.keys()].join()).toContain(sha256Hex(files["encoder.onnx"])));
});

test("a slow answer is none that stalls", async () => {
  const parts = [...files["encoder.onnx"]];
  stubFetchOf("encoder.onnx", ({ signal }) => new Response(new ReadableStream({
    async pull(controller) {
      await new Promise((resolve) => setTimeout(resolve, 100));
      signal?.throwIfAborted();
      if (parts.length > 0) controller.enqueue(new Uint8Array([parts.shift()!]));
      else controller.close();
    },
  })));
  expect([...(await fetchBundle({ ...source, timeout: 350 })).encoder]).toEqual([1, 2, 3]);
});

test("what is no address is refused", async () => {
  await expect(fetchBundle({ ...source, service: "host:" })).rejects.toThrow(ServiceError);
  await expect(fetchBundle({ ...source, service: "here" })).rejects.toThrow('"here" is no address of a service');
});

test("a wrong token and an unknown bundle are the service's trouble", async () => {
  await expect(fetchBundle({ ...source, token: "other" })).rejects.toThrow("answered 401");
  await expect(fetchBundle({ ...source, token: "a–b" })).rejects.toThrow("the token has characters that are not");
  await expect(fetchBundle({ ...source, bundle: "cats" })).rejects.toThrow("no bundle cats, only: faces-256-lr16-small");
});

test.each([`${SERVICE}/faces`, `${SERVICE}/faces/`, "/faces"])("fetches a bundle from the folder %s", async (folder) => {
  const inFolder = { service: SERVICE, folder, token: "secret" };
  const bundle = await fetchBundle(inFolder);
  expect([bundle.id, bundle.hr, bundle.contractId]).toEqual([ID, 256, "f0".repeat(32)]);
  expect(fetched.sort()).toEqual(
    ["coder.json", "encoder.onnx", "golden.json", "manifest.json"].map((name) => `/faces/${name}`));
  offline = true;
  expect([...(await fetchBundle(inFolder)).encoder]).toEqual([1, 2, 3]);
});

/** The bundle has a further rate from now on. */
function addRate(): void {
  const tables = JSON.parse(new TextDecoder().decode(files["coder.json"])) as object;
  files["coder_1.json"] = new TextEncoder().encode(JSON.stringify({ ...tables, step: 64 }));
  rates = [{ file: "coder_1.json", lr_contract_id: "a1".repeat(32), quality: "tiny" }];
  listed = listing();
}

test.each([undefined, "/faces"])("the tables of all rates come with the bundle: folder %s", async (folder) => {
  await fetchBundle({ ...source, folder });
  addRate();
  for (offline of [false, true]) {
    const bundle = await fetchBundle({ ...source, folder });
    expect([bundle.contractId, bundle.tables.step]).toEqual(["f0".repeat(32), 2]);
    expect(bundle.rates).toMatchObject([{ contractId: "a1".repeat(32), tables: { step: 64 } }]);
  }
  delete files["coder_1.json"];
  listed = listing();
  offline = false;
  await expect(fetchBundle({ ...source, folder })).rejects.toThrow("has no coder_1.json, which this client needs");
});

test("to read a payload only the tables of its rate are fetched", async () => {
  addRate();
  const { service, token } = source;
  const tables = await fetchTables({ service, token }, "a1a1");
  expect(tables).toMatchObject({ contractId: "a1".repeat(32), tables: { step: 64 } });
  expect(fetched).toEqual(["/v1/bundles", `/v1/bundles/${ID}/coder_1.json`]);
  await expect(fetchTables({ service, token }, "a1a2")).rejects.toThrow("the service has no bundle a1a2");
});

test("a folder whose file was altered, or that is none, is refused", async () => {
  files["encoder.onnx"] = new Uint8Array([1, 2, 4]);
  const inFolder = { service: SERVICE, folder: "/faces", token: "secret" };
  await expect(fetchBundle(inFolder)).rejects.toThrow(BundleError);
  vi.stubGlobal("fetch", async () => Response.json([]));
  await expect(fetchBundle(inFolder)).rejects.toThrow("manifest.json is no bundle's manifest");
});

test.each([2, "1", undefined])("a manifest of schema %s is refused", async (other) => {
  schema = other;
  const inFolder = { service: SERVICE, folder: "/faces", token: "secret" };
  await expect(fetchBundle(inFolder)).rejects.toThrow(BundleError);
  await expect(fetchBundle(inFolder)).rejects.toThrow(`has schema ${String(other)}, this release reads 1`);
});

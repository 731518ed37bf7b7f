/** `EdgeClient`: a worker that holds a bundle, and its verbs as promises. */

import type { BundleSource } from "./bundle.js";
import type { CompressedScene } from "./compress_scene.js";
import type { DeviceReport } from "./device_report.js";
import type { Payload } from "./encoder.js";
import { DeviceError, errorOf, ImageError, UnreachableError } from "./errors.js";
import { asFolder } from "./folder_address.js";
import type { FoundFaces } from "./faces.js";
import type { Fit } from "./fit.js";
import type { Answer, BundleInfo, Question, Result } from "./messages.js";
import type { OrientedSquare } from "./oriented_square.js";
import type { Source } from "./pixels.js";
import { type Colour, WHITE } from "./rgb.js";
import type { RuntimeOptions } from "./runtime.js";

/** How a photograph is read. */
export interface PictureOptions {
  /** What shows through transparent pixels; by default white. */
  readonly background?: Colour;
}

/** How one picture is compressed: by default its largest face, cut out as in FFHQ. */
export interface CompressOptions extends PictureOptions {
  /** False encodes the whole picture, padded to a square. Bundles of another domain than "faces" always do. */
  readonly align?: boolean;
  /** Encodes the whole picture: padded to a square, stretched, or its centre square. */
  readonly fit?: Fit;
  /** Encodes the face with this square, one of `findFaces`. */
  readonly square?: OrientedSquare;
}

/** Where the bundle comes from, and how it is run. */
export interface OpenOptions extends Partial<BundleSource>, RuntimeOptions {
  /** URL of a folder with face_detector.onnx and face_landmarks.onnx; by default the bundler's copies. */
  readonly faces?: string;
  /** Ends the opening and its worker; it rejects with the signal's reason. */
  readonly signal?: AbortSignal;
}

interface Waiting {
  readonly resolve: (result: Result) => void;
  readonly reject: (reason: unknown) => void;
}

/**
 * An encoder in a worker.
 *
 *     const client = await EdgeClient.open({ service: "https://host" });
 *     const payload = await client.compress(file);
 *     await fetch("https://host/v1/restore", { method: "POST", body: payload.bytes, headers: … });
 */
export class EdgeClient {
  /** The bundle that is open; its golden vectors came out right on this device. */
  bundle!: BundleInfo;
  private readonly worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module", name: "edgegrain" });
  private readonly waiting = new Map<number, Waiting>();
  private last = 0;
  /** Why nothing can be asked any more. */
  private ended: unknown;

  private constructor() {
    this.worker.onmessage = (event: MessageEvent<Answer>) => this.settle(event.data);
    this.worker.onerror = (event) => {
      // A script that cannot be fetched gives an event without a message.
      this.end(event.message ? new DeviceError(`the encoder's worker stopped: ${event.message}`)
        : new UnreachableError("the encoder's worker could not be loaded"));
    };
  }

  /**
   * Starts a worker, fetches the bundle into it and runs the bundle's self-test.
   *
   * Throws `ServiceError`, `BundleError`, `DeviceError` if this device computes other bytes, or the reason of
   * `options.signal`.
   */
  static async open(options: OpenOptions = {}): Promise<EdgeClient> {
    const [client, bundle] = await EdgeClient.start({ verb: "open", ...withDefaults(options) }, options.signal);
    client.bundle = bundle as BundleInfo;
    return client;
  }

  /**
   * Measures this device in a worker of its own, also if `open` throws `DeviceError`: `failed` of the report names the
   * golden vectors that came out with other bytes; see docs/devices.md.
   */
  static async report(options: OpenOptions = {}, runs = 20): Promise<DeviceReport> {
    const question = { verb: "report", ...withDefaults(options), runs } as const;
    const [client, report] = await EdgeClient.start(question, options.signal);
    client.close();
    return report as DeviceReport;
  }

  /** Asks a new worker its first question; the worker ends if that fails, or when `signal` aborts it. */
  private static async start(question: Question, signal?: AbortSignal): Promise<[EdgeClient, Result]> {
    if (signal?.aborted) throw signal.reason;
    const client = new EdgeClient();
    const abort = () => client.end(signal!.reason);
    signal?.addEventListener("abort", abort);
    try {
      return [client, await client.ask(question)];
    } catch (error) {
      client.close();
      throw error;
    } finally {
      signal?.removeEventListener("abort", abort);
    }
  }

  /** True until `close`, or until the worker breaks down. */
  get isOpen(): boolean {
    return this.ended === undefined;
  }

  /**
   * Compresses the largest face of a photograph, or the whole picture. A photograph that is framed like FFHQ's already
   * is encoded whole. The payload has the bundle's own rate, or the best that takes at most `targetBytes`, else the
   * last: see `compressWithin`.
   *
   * Throws `ImageError` if the picture cannot be read or no face is found, `DeviceError` if the client is not open any
   * more.
   */
  async compress(source: Source, options: CompressOptions = {}, targetBytes?: number): Promise<Payload> {
    const { align = true, fit, square, background = WHITE } = options;
    return (await this.ask({ verb: "compress", source, background, align, fit, square, targetBytes })) as Payload;
  }

  /** Compresses every face of at least 32 pixels, the largest first; errors as `compress`. */
  async compressFaces(source: Source, { background = WHITE }: PictureOptions = {}): Promise<readonly Payload[]> {
    return (await this.ask({ verb: "compressFaces", source, background })) as readonly Payload[];
  }

  /**
   * Compresses all faces of a photograph and a background into one file. The background takes what the faces leave of
   * `maxBytes`, by default a few dozen bytes. Errors as `compress`, also if the faces alone exceed `maxBytes`.
   */
  async compressScene(
    source: Source, options: PictureOptions & { readonly maxBytes?: number } = {},
  ): Promise<CompressedScene> {
    const { maxBytes, background = WHITE } = options;
    return (await this.ask({ verb: "compressScene", source, background, maxBytes })) as CompressedScene;
  }

  /**
   * Finds the faces of a photograph, and what would keep each from being restored well. With `every` all parts of the
   * photograph are searched, as `compressFaces` does, for small faces next to large ones.
   */
  async findFaces(
    source: Source, options: PictureOptions & { readonly every?: boolean } = {},
  ): Promise<FoundFaces> {
    const { every = false, background = WHITE } = options;
    return (await this.ask({ verb: "find", source, background, every })) as FoundFaces;
  }

  /** Proves the bundle's golden vectors again and measures the encoder; see docs/devices.md. */
  async measure(runs = 20): Promise<DeviceReport> {
    return (await this.ask({ verb: "measure", runs })) as DeviceReport;
  }

  /** Ends the worker; what was asked and not yet answered is rejected, as is what is asked later. */
  close(): void {
    this.end(new DeviceError("the encoder was closed"));
  }

  private ask(question: Question): Promise<Result> {
    if (this.ended) return Promise.reject(this.ended);
    const id = ++this.last;
    return new Promise((resolve, reject) => {
      try {
        this.worker.postMessage({ id, ...question });
      } catch (error) {
        const reason = error instanceof Error ? error.message : String(error);
        reject(new ImageError(`this cannot be handed to the encoder's worker: ${reason}`));
        return;
      }
      this.waiting.set(id, { resolve, reject });
    });
  }

  private settle(answer: Answer): void {
    const waiting = this.waiting.get(answer.id);
    this.waiting.delete(answer.id);
    if ("error" in answer) {
      const { name, message, status } = answer.error;
      waiting?.reject(errorOf(name, message, status));
    } else {
      waiting?.resolve(answer.result);
    }
  }

  private end(reason: unknown): void {
    this.ended ??= reason;
    this.worker.terminate();
    for (const { reject } of this.waiting.values()) reject(reason);
    this.waiting.clear();
  }
}

/** The options as the worker takes them; relative URLs are those of the page. */
function withDefaults(options: OpenOptions) {
  const { service = location.origin, bundle, token, timeout, threads = defaultThreads() } = options;
  const ofPage = (url: string | undefined) => url && new URL(asFolder(url), location.href).href;
  const [folder, runtime, faces] = [options.folder, options.runtime, options.faces].map(ofPage);
  return { source: { service, folder, bundle, token, timeout }, runtime: { runtime, threads }, faces };
}

/** Threads share memory, which pages may only where they are isolated from other origins. */
function defaultThreads(): number {
  return globalThis.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency || 1) : 1;
}

let shared: Promise<EdgeClient> | undefined;

/**
 * Compresses with the first bundle of the service at the root of the page's origin; opened at the first call, then
 * kept. After a failure the next call opens it again.
 */
export async function compress(source: Source, options: CompressOptions = {}): Promise<Payload> {
  shared ??= EdgeClient.open();
  const mine = shared;
  try {
    return await (await mine).compress(source, options);
  } finally {
    const open = await mine.then((client) => client.isOpen, () => false);
    if (!open && shared === mine) shared = undefined;
  }
}

/** `EdgeClient`: a worker that holds a bundle, and its two verbs as promises. */

import type { BundleSource } from "./bundle.js";
import type { DeviceReport } from "./device_report.js";
import type { Payload } from "./encoder.js";
import type { RuntimeOptions } from "./encoder_session.js";
import { DeviceError, errorOf, ImageError, UnreachableError } from "./errors.js";
import { asFolder } from "./folder_address.js";
import type { FaceProblem } from "./face_check.js";
import type { Fit } from "./fit.js";
import type { Answer, BundleInfo, Question, Result } from "./messages.js";
import type { Source } from "./pixels.js";
import { type Colour, WHITE } from "./rgb.js";

/** How one picture is compressed. */
export interface CompressOptions {
  /** By default "pad": the original's size and aspect come back. */
  readonly fit?: Fit;
  /** What shows through transparent pixels; by default white. */
  readonly background?: Colour;
}

/** Where the bundle comes from, and how it is run. */
export interface OpenOptions extends Partial<BundleSource>, RuntimeOptions {
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

  /** Compresses a picture; `ImageError` if it cannot be read, `DeviceError` if the client is not open any more. */
  async compress(source: Source, options: CompressOptions = {}): Promise<Payload> {
    const { fit = "pad", background = WHITE } = options;
    return (await this.ask({ verb: "compress", source, fit, background })) as Payload;
  }

  /**
   * What is wrong with the face in a picture that is to be compressed with `fit`; nothing if it can be restored well.
   * `detector` is the URL of `edge_encoder/faces/face_detector.onnx`, which is loaded at the first call with it.
   */
  async findFaceProblems(source: Blob, detector: string, fit: Fit = "pad"): Promise<readonly FaceProblem[]> {
    const url = new URL(detector, location.href).href;
    return (await this.ask({ verb: "faces", source, fit, detector: url })) as readonly FaceProblem[];
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

/** The options as the worker takes them. */
function withDefaults(options: OpenOptions): { readonly source: BundleSource; readonly runtime: RuntimeOptions } {
  const { service = location.origin, bundle, token, timeout, runtime, threads = defaultThreads() } = options;
  const folder = options.folder === undefined ? undefined : new URL(options.folder, location.href).href;
  const libraries = runtime === undefined ? undefined : new URL(asFolder(runtime), location.href).href;
  return { source: { service, folder, bundle, token, timeout }, runtime: { runtime: libraries, threads } };
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

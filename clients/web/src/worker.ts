/** The worker: one encoder, asked by messages. */

import { type BundleSource, fetchBundle } from "./bundle.js";
import { compressScene } from "./compress_scene.js";
import { type DeviceReport, measureDevice } from "./device_report.js";
import { Encoder } from "./encoder.js";
import { EncoderSession } from "./encoder_session.js";
import { BundleError, ServiceError } from "./errors.js";
import type { FaceFinder } from "./face_finder.js";
import { loadFaceFinder } from "./face_networks.js";
import { compressFaces, compressLargestFace, DOMAIN, findFaces } from "./faces.js";
import type { Answer, BundleInfo, PictureQuestion, Question, Request, Result } from "./messages.js";
import { readPixels } from "./pixels.js";
import type { Rgb } from "./rgb.js";
import type { RuntimeOptions } from "./runtime.js";

let encoder: Encoder | undefined;
/** Loads the networks that find faces, at the first call. */
let faceFinder: () => Promise<FaceFinder>;

/** ONNX Runtime starts its threads from the script it is bundled into, this one, and handles their messages itself. */
const isRuntimeThread = self.name.startsWith("em-pthread");
/** One request at a time: the pixels of several pictures at once may not fit the memory. */
let queue = Promise.resolve();
if (!isRuntimeThread) self.onmessage = ({ data }: MessageEvent<Request>) => (queue = queue.then(() => reply(data)));

async function reply(request: Request): Promise<void> {
  const { id } = request;
  let answer: Answer;
  try {
    answer = { id, result: await respond(request) };
  } catch (error) {
    const { name, message } = error instanceof Error ? error : new Error(String(error));
    const status = error instanceof ServiceError ? error.status : undefined;
    answer = { id, error: { name, message, status } };
  }
  self.postMessage(answer);
}

async function respond(question: Question): Promise<Result> {
  if (question.verb === "open") {
    encoder = await Encoder.open(await fetchBundle(question.source), question.runtime);
    faceFinder = loadedOnce(() => loadFaceFinder(question.faces, { timeout: question.source.timeout }));
    const { id, domain, contractId, hr, lr, golden } = encoder.bundle;
    return { id, domain, contractId, hr, lr, selfTest: golden.inputs.map((input) => input.name) } satisfies BundleInfo;
  }
  if (question.verb === "report") return reportDevice(question.source, question.runtime, question.runs);
  if (!encoder) throw new BundleError("no bundle is open");
  if (question.verb === "measure") return measureDevice(encoder, encoder.threads, question.runs);
  const start = performance.now();
  const picture = await readPixels(question.source, question.background);
  if (question.source instanceof ImageBitmap) question.source.close(); // the message brought a copy
  const decode = performance.now() - start;
  const result = await answer(encoder, picture, question);
  return "timings" in result ? { ...result, timings: { decode, ...result.timings } } : result;
}

async function answer(open: Encoder, picture: Rgb, question: PictureQuestion): Promise<Exclude<Result, BundleInfo>> {
  if (question.verb === "find") return findFaces(await faceFinder(), picture, question.every);
  if (question.verb === "compressFaces") return compressFaces(open, await faceFinder(), picture);
  if (question.verb === "compressScene") return compressScene(open, await faceFinder(), picture, question.maxBytes);
  const { square, fit, align, targetBytes } = question;
  if (targetBytes !== undefined) open = open.within(targetBytes);
  if (square) return open.compressSquare(picture, square);
  if (fit !== undefined || !align || open.bundle.domain !== DOMAIN) return open.compress(picture, fit);
  return compressLargestFace(open, await faceFinder(), picture);
}

/** What `load` gives, kept; after a failure the next call loads again. */
function loadedOnce<Type>(load: () => Promise<Type>): () => Promise<Type> {
  let loading: Promise<Type> | undefined;
  return () => {
    loading ??= load().catch((error: unknown) => {
      loading = undefined;
      throw error;
    });
    return loading;
  };
}

/** The report of an encoder that need not be exact. */
async function reportDevice(source: BundleSource, runtime: RuntimeOptions, runs: number): Promise<DeviceReport> {
  const bundle = await fetchBundle(source);
  const session = await EncoderSession.open(bundle.encoder, bundle.hr, bundle.lr, runtime);
  try {
    return await measureDevice({ bundle, encode: (picture) => session.encode(picture) }, session.threads, runs);
  } finally {
    await session.close();
  }
}

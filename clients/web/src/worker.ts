/** The worker: one encoder, asked by messages. */

import { type BundleSource, fetchBundle } from "./bundle.js";
import { type DeviceReport, measureDevice } from "./device_report.js";
import { download } from "./download.js";
import { Encoder } from "./encoder.js";
import { EncoderSession, type RuntimeOptions } from "./encoder_session.js";
import { BundleError, ServiceError } from "./errors.js";
import { type FaceProblem, faceProblems } from "./face_check.js";
import { FaceDetector } from "./face_detector.js";
import type { Fit } from "./fit.js";
import type { Answer, BundleInfo, Question, Request, Result } from "./messages.js";
import { readPixels, readReduced } from "./pixels.js";

let encoder: Encoder | undefined;
/** The face detectors by their URLs. */
const detectors = new Map<string, Promise<FaceDetector>>();

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
    const { id, contractId, hr, lr, golden } = encoder.bundle;
    return { id, contractId, hr, lr, selfTest: golden.inputs.map((input) => input.name) } satisfies BundleInfo;
  }
  if (question.verb === "report") return reportDevice(question.source, question.runtime, question.runs);
  if (!encoder) throw new BundleError("no bundle is open");
  if (question.verb === "measure") return measureDevice(encoder, encoder.threads, question.runs);
  if (question.verb === "faces") return findFaceProblems(question.source, question.detector, question.fit);
  const start = performance.now();
  const picture = await readPixels(question.source, question.background);
  if (question.source instanceof ImageBitmap) question.source.close(); // the message brought a copy
  const decode = performance.now() - start;
  const payload = await encoder.compress(picture, question.fit);
  return { ...payload, timings: { decode, ...payload.timings } };
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

async function findFaceProblems(source: Blob, url: string, fit: Fit): Promise<readonly FaceProblem[]> {
  const detector = detectors.get(url) ?? fetchDetector(url);
  detectors.set(url, detector);
  detector.catch(() => detectors.delete(url)); // the next call tries again
  const { picture, scale } = await readReduced(source, fit);
  return faceProblems(await (await detector).find(picture), picture, scale);
}

async function fetchDetector(url: string): Promise<FaceDetector> {
  return FaceDetector.open(await download(url, "default"));
}

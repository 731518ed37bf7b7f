import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { compress, EdgeClient } from "../src/client";
import { DeviceError, ImageError, UnreachableError } from "../src/errors";
import type { Answer, Request } from "../src/messages";

const BUNDLE = { id: "stub", domain: "faces", contractId: "f0".repeat(32), hr: 8, lr: 1, selfTest: ["white"] };

/** A worker that answers when it is told to; `open` it answers by itself. */
class StubWorker {
  static started: StubWorker[] = [];
  onmessage: ((event: { data: Answer }) => void) | undefined;
  onerror: ((event: { message?: string }) => void) | undefined;
  readonly asked: Request[] = [];
  terminated = false;

  constructor() {
    StubWorker.started.push(this);
  }

  postMessage(request: Request): void {
    if ("source" in request && typeof request.source === "function") throw new Error("a function cannot be cloned");
    this.asked.push(request);
    if (request.verb === "open") queueMicrotask(() => this.answer({ id: request.id, result: BUNDLE }));
  }

  answer(answer: Answer): void {
    this.onmessage?.({ data: answer });
  }

  terminate(): void {
    this.terminated = true;
  }
}

const picture = new Blob([new Uint8Array(3)]);

beforeEach(() => {
  StubWorker.started = [];
  vi.stubGlobal("Worker", StubWorker);
  vi.stubGlobal("location", { origin: "https://service.example", href: "https://service.example/app/" });
});

afterEach(() => vi.unstubAllGlobals());

async function opened(): Promise<[EdgeClient, StubWorker]> {
  const client = await EdgeClient.open();
  return [client, StubWorker.started[0]];
}

test("answers reach those who asked, in whatever order", async () => {
  const [client, worker] = await opened();
  expect(client.bundle).toEqual(BUNDLE);
  expect(worker.asked[0]).toMatchObject({ source: { service: "https://service.example" }, runtime: { threads: 1 } });
  const [first, second] = [client.compress(picture), client.compress(picture, { fit: "crop" })];
  expect(worker.asked.slice(1)).toMatchObject([{ align: true, background: [255, 255, 255] }, { fit: "crop" }]);
  const [, { id: one }, { id: two }] = worker.asked;
  worker.answer({ id: two, result: "second" as never });
  worker.answer({ id: one, error: { name: "ServiceError", message: "busy", status: 503 } });
  expect(await second).toBe("second");
  await expect(first).rejects.toMatchObject({ name: "ServiceError", message: "busy", status: 503 });
});

test("each verb asks its question", async () => {
  const [client, worker] = await opened();
  const square = { x: 8, y: 8, acrossX: 4, acrossY: 0 };
  const background = [1, 2, 3] as const;
  void client.compress(picture, { square, align: false });
  void client.findFaces(picture);
  void client.findFaces(picture, { every: true, background });
  void client.compressFaces(picture);
  void client.compressScene(picture, { maxBytes: 900 });
  void client.compress(picture, {}, 300);
  const white = [255, 255, 255];
  expect(worker.asked.slice(1)).toMatchObject([
    { verb: "compress", align: false, square, background: white },
    { verb: "find", every: false, background: white },
    { verb: "find", every: true, background },
    { verb: "compressFaces", background: white },
    { verb: "compressScene", background: white, maxBytes: 900 },
    { verb: "compress", background: white, targetBytes: 300 },
  ]);
});

test.each([
  ["https://files.example/runtime", "https://files.example/runtime/"],
  ["runtime/", "https://service.example/app/runtime/"],
])("the folder %s of the runtime or the face networks is that of the page", async (folder, url) => {
  await EdgeClient.open({ runtime: folder, faces: folder });
  expect(StubWorker.started[0].asked[0]).toMatchObject({ runtime: { runtime: url }, faces: url });
});

test("a device is measured in a worker of its own", async () => {
  const report = EdgeClient.report({ folder: "bundle/" }, 3);
  const [worker] = StubWorker.started;
  const source = { folder: "https://service.example/app/bundle/" };
  expect(worker.asked).toMatchObject([{ verb: "report", source, runtime: { threads: 1 }, runs: 3 }]);
  worker.answer({ id: worker.asked[0].id, result: { failed: ["white"] } as never });
  expect(await report).toEqual({ failed: ["white"] });
  expect(worker.terminated).toBe(true);
});

test("a closed client rejects what waits and what comes later", async () => {
  const [client, worker] = await opened();
  const waiting = client.compress(picture);
  client.close();
  await expect(waiting).rejects.toThrow(DeviceError);
  await expect(client.compress(picture)).rejects.toThrow("the encoder was closed");
  expect([worker.terminated, client.isOpen, worker.asked.length]).toEqual([true, false, 2]);
});

test("a worker that breaks down takes nobody's answer along", async () => {
  const [client, worker] = await opened();
  const waiting = client.compress(picture);
  worker.onerror?.({ message: "out of memory" });
  await expect(waiting).rejects.toThrow("the encoder's worker stopped: out of memory");
  await expect(client.measure()).rejects.toThrow(DeviceError);
  expect(worker.terminated).toBe(true);
});

test("a worker that cannot be loaded ends the opening", async () => {
  vi.stubGlobal("Worker", class extends StubWorker {
    override postMessage(): void {
      queueMicrotask(() => this.onerror?.({}));
    }
  });
  await expect(EdgeClient.open()).rejects.toThrow(UnreachableError); // the page offers to try again
  expect(StubWorker.started[0].terminated).toBe(true);
});

test.each(["open", "report"] as const)("%s can be aborted", async (verb) => {
  vi.stubGlobal("Worker", class extends StubWorker {
    override postMessage(): void {} // it is never ready
  });
  const aborting = new AbortController();
  const opening = EdgeClient[verb]({ signal: aborting.signal });
  aborting.abort(new Error("the person went away"));
  await expect(opening).rejects.toBe(aborting.signal.reason);
  expect(StubWorker.started[0].terminated).toBe(true);

  await expect(EdgeClient[verb]({ signal: aborting.signal })).rejects.toBe(aborting.signal.reason);
  expect(StubWorker.started).toHaveLength(1);
});

test("a client that is open is not aborted any more, and its timeout is the worker's", async () => {
  const aborting = new AbortController();
  const client = await EdgeClient.open({ signal: aborting.signal, timeout: 5000 });
  expect(StubWorker.started[0].asked[0]).toMatchObject({ source: { timeout: 5000 } });
  aborting.abort();
  expect(client.isOpen).toBe(true);
});

test("what cannot be sent to a worker is no picture", async () => {
  const [client, worker] = await opened();
  await expect(client.compress((() => 1) as never)).rejects.toThrow(ImageError);
  expect(client.isOpen).toBe(true);
  expect(worker.asked).toHaveLength(1);
});

test("the shared client is opened once, and again after it broke down", async () => {
  const first = compress(picture);
  await vi.waitFor(() => expect(StubWorker.started[0]?.asked).toHaveLength(2));
  const second = compress(picture);
  await vi.waitFor(() => expect(StubWorker.started[0].asked).toHaveLength(3));
  const [worker] = StubWorker.started;
  worker.answer({ id: worker.asked[1].id, result: "payload" as never });
  expect(await first).toBe("payload");
  worker.onerror?.({ message: "gone" });
  await expect(second).rejects.toThrow("gone");
  expect(StubWorker.started).toHaveLength(1);
  const third = compress(picture);
  await vi.waitFor(() => expect(StubWorker.started[1]?.asked).toHaveLength(2));
  StubWorker.started[1].answer({ id: StubWorker.started[1].asked[1].id, result: "again" as never });
  expect(await third).toBe("again");
});

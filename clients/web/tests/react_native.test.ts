// @vitest-environment happy-dom
import { createElement } from "react";
import { createRoot } from "react-dom/client";
import { afterAll, afterEach, expect, test, vi } from "vitest";

import type * as runtime from "../src/runtime";
import { fakeService, SERVICE } from "./fake_service";
import { bytesOf, defaultBundle, hexOf, type PayloadCase, pictureOf, readJson } from "./golden";
import { InferenceSession } from "./native_modules";

// As package.json has it done by the bundler of an app; the type says that the exports are the same.
vi.mock("../src/runtime", async (): Promise<typeof runtime> => import("../src/runtime_native"));
// Metro cannot read `import.meta`, which these have: they must not be imported.
vi.mock("../src/client", () => { throw new Error("imported in React Native"); });
vi.mock("../src/face_networks", () => { throw new Error("imported in React Native"); });
vi.resetModules(); // test files share modules
const { EdgegrainImage, Encoder } = await import("../src/react_native");

const [first] = readJson<{ payloads: PayloadCase[] }>("tests/golden/clients/payloads.json").payloads;

afterEach(() => {
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

afterAll(() => void vi.resetModules());

test("the encoder makes the bytes of sdk.compress on a session of React Native's interface", async () => {
  const bundle = defaultBundle();
  const create = vi.spyOn(InferenceSession, "create");
  const encoder = await Encoder.open(bundle, { threads: 2 }); // runs the bundle's golden vectors
  expect(create.mock.calls).toMatchObject([[{}, { executionProviders: ["cpu"], intraOpNumThreads: 2 }]]);
  expect(encoder.threads).toBe(2);
  expect(hexOf((await encoder.compress(pictureOf(first), first.fit)).bytes)).toBe(first.payload);
  await encoder.close();
  const broken = Encoder.open({ ...bundle, encoder: new Uint8Array(100) });
  const message = expect.stringMatching(/^the encoder cannot be loaded: ./) as string;
  await expect(broken).rejects.toMatchObject({ name: "BundleError", message });
});

test("the preview is shown, then the restored picture, without streams and object URLs", async () => {
  const { requests, paths } = fakeService();
  const { fetch } = globalThis;
  vi.stubGlobal("TransformStream", undefined);
  vi.stubGlobal("fetch", async (url: string, init: RequestInit) =>
    Object.defineProperty(await fetch(url, init), "body", { value: undefined }));
  const onRestored = vi.fn();
  const place = document.createElement("div");
  const root = createRoot(place);
  const props = { payload: bytesOf(first.payload), service: SERVICE, style: { width: 100 }, onRestored };
  root.render(createElement(EdgegrainImage, props));
  const source = () => place.querySelector("img")?.src;
  await vi.waitFor(() => expect(source()).toMatch(/^data:image\/bmp;base64,/));
  expect(paths).toHaveLength(2); // the listing and the tables
  const { style, alt } = place.querySelector("img")!;
  expect([style.width, style.aspectRatio.slice(0, 5)]).toEqual(["100px", "0.789"]);
  expect(alt).toContain("generated");
  const answer = new Response();
  answer.blob = async () => new Blob(["picture"], { type: "image/webp" });
  requests[0].answer(answer);
  await vi.waitFor(() => expect(source()).toBe(`data:image/webp;base64,${btoa("picture")}`));
  expect(onRestored).toHaveBeenCalledOnce();
  const abort = vi.spyOn(FileReader.prototype, "abort");
  root.unmount();
  await vi.waitFor(() => expect(abort).toHaveBeenCalledOnce());
});

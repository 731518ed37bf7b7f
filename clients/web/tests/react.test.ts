// @vitest-environment happy-dom
import { act, createElement, StrictMode } from "react";
import { createRoot, type Root } from "react-dom/client";
import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { EdgegrainImage, type EdgegrainImageProps } from "../src/react";
import { fakeService, SERVICE } from "./fake_service";
import { bytesOf, defaultBundle, type PayloadCase, readJson } from "./golden";

const bundle = defaultBundle();
const PAYLOADS = readJson<{ payloads: PayloadCase[] }>("tests/golden/clients/payloads.json").payloads;
const payload = () => bytesOf(PAYLOADS[0].payload);
const onRestored = vi.fn();
const onError = vi.fn();
let service: ReturnType<typeof fakeService>;
let place: HTMLElement;
let root: Root;
const image = () => place.querySelector("img")!;

beforeEach(() => {
  vi.stubGlobal("IS_REACT_ACT_ENVIRONMENT", true);
  vi.spyOn(URL, "createObjectURL").mockReturnValueOnce("blob:1").mockReturnValueOnce("blob:2");
  vi.spyOn(URL, "revokeObjectURL").mockReturnValue();
  service = fakeService();
  place = document.createElement("div");
  root = createRoot(place);
});

afterEach(() => {
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
  onRestored.mockReset();
  onError.mockReset();
});

async function render(props: Partial<EdgegrainImageProps> = {}): Promise<void> {
  const all = { payload: payload(), service: SERVICE, bundle: { ...bundle }, onRestored, onError, ...props };
  await act(async () => root.render(createElement(EdgegrainImage, all)));
}

async function answer(index: number, value: Response | Error): Promise<void> {
  await act(async () => service.requests[index].answer(value));
  await act(() => new Promise((resolve) => setTimeout(resolve, 5)));
}

test("the preview is shown, then the restored picture, until it is unmounted", async () => {
  await render({ className: "portrait", style: { width: 100 } });
  expect(image().src).toMatch(/^data:image\/bmp;base64,/);
  expect([image().className, image().style.width, image().dataset.step]).toEqual(["portrait", "100px", "preview"]);
  expect(image().alt).toContain("generated");
  await answer(0, new Response("picture"));
  expect([image().src, image().dataset.step]).toEqual(["blob:1", "restored"]);
  expect(onRestored).toHaveBeenCalledExactlyOnceWith(expect.any(Blob));
  expect(URL.revokeObjectURL).not.toHaveBeenCalled();
  await act(async () => root.unmount());
  expect(URL.revokeObjectURL).toHaveBeenCalledExactlyOnceWith("blob:1");
  expect(onError).not.toHaveBeenCalled();
});

test("equal properties do not start again", async () => {
  await render({ onRestored: () => undefined });
  await render({ alt: "me", onRestored });
  expect(image().alt).toBe("me");
  expect(service.requests).toHaveLength(1);
  await answer(0, new Response("picture"));
  const late = vi.fn();
  await render({ alt: "me", onRestored: late });
  expect([onRestored, late].map(({ mock }) => mock.calls.length)).toEqual([1, 0]);
  expect(service.requests).toHaveLength(1);
});

test("another payload ends the request, and another size gives back the first picture", async () => {
  await render();
  await render({ payload: bytesOf(PAYLOADS[1].payload) });
  expect(service.requests.map(({ init }) => init.signal!.aborted)).toEqual([true, false]);
  await answer(1, new Response("picture"));
  expect(image().src).toBe("blob:1");
  await render({ payload: bytesOf(PAYLOADS[1].payload), size: 512 });
  expect(URL.revokeObjectURL).toHaveBeenCalledExactlyOnceWith("blob:1");
  expect([image().src.slice(0, 14), image().dataset.step]).toEqual(["data:image/bmp", "preview"]);
  await answer(2, new Response("larger"));
  expect(image().src).toBe("blob:2");
});

test("an error leaves the preview", async () => {
  await render();
  await answer(0, Response.json({ detail: "no" }, { status: 422 }));
  expect(onError).toHaveBeenCalledExactlyOnceWith(expect.objectContaining({ message: "no", status: 422 }));
  expect([image().src.slice(0, 14), image().dataset.step]).toEqual(["data:image/bmp", "error"]);
  await act(async () => root.unmount());
  expect(onRestored).not.toHaveBeenCalled();
});

test("strict mode leaves one request, and unmounting ends it", async () => {
  const element = createElement(EdgegrainImage, { payload: payload(), service: SERVICE, bundle, onError });
  await act(async () => root.render(createElement(StrictMode, null, element)));
  expect(service.requests.map(({ init }) => init.signal!.aborted)).toEqual([true, false]);
  await act(async () => root.unmount());
  expect(service.requests[1].init.signal!.aborted).toBe(true);
  expect(onError).not.toHaveBeenCalled();
});

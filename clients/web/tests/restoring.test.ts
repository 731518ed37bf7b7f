import { createElement } from "react";
import { renderToString } from "react-dom/server";
import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { PayloadError, ServiceError, UnreachableError } from "../src/errors";
import { preview } from "../src/fit";
import { decodePayload } from "../src/payload";
import { payloadToText } from "../src/payload_text";
import { EdgegrainImage } from "../src/react";
import { aspectOf, type Restoring, restoring } from "../src/restoring";
import type { Rgb } from "../src/rgb";
import { fakeService, SERVICE } from "./fake_service";
import { bytesOf, defaultBundle, type PayloadCase, readJson } from "./golden";

const bundle = defaultBundle();
const PAYLOADS = readJson<{ payloads: PayloadCase[] }>("tests/golden/clients/payloads.json").payloads;
const payload = bytesOf(PAYLOADS[0].payload);
const shown = preview(decodePayload(payload, bundle));
let service: ReturnType<typeof fakeService>;
let states: Restoring[];
const show = (state: Restoring) => void states.push(state);

/** The picture of a data URI, which is a BMP whose rows go downwards. */
function pictureOf(uri = ""): Rgb {
  const file = Buffer.from(uri.replace("data:image/bmp;base64,", ""), "base64");
  const [width, height] = [file.readInt32LE(18), -file.readInt32LE(22)];
  const row = Math.ceil((3 * width) / 4) * 4;
  expect([file.toString("latin1", 0, 2), file.readInt32LE(2), file.readInt16LE(28)]).toEqual(["BM", file.length, 24]);
  const at = (index: number) => file[54 + row * Math.floor(index / (3 * width)) + (index % (3 * width))];
  const data = Uint8Array.from({ length: 3 * width * height }, (_, index) => at(index + 2 - 2 * (index % 3)));
  return { width, height, data };
}

beforeEach(() => {
  service = fakeService();
  states = [];
});

afterEach(() => vi.unstubAllGlobals());

test("a preview is shown, then the restored picture; the tables are fetched once", async () => {
  for (const source of [payload, payloadToText(payload, "base45")]) {
    states = [];
    restoring(source, { service: SERVICE, size: 512, token: "secret" }, show);
    expect(states).toEqual([{ step: "preview" }]);
    await vi.waitFor(() => expect(states).toHaveLength(2));
    expect(states[1].step).toBe("preview");
    expect(pictureOf(states[1].preview)).toEqual(shown);
    const { url, init, answer } = service.requests.pop()!;
    expect(url).toBe(`${SERVICE}/v1/restore?size=512`);
    expect(init.headers).toMatchObject({ "Content-Type": "application/vnd.edgegrain", Authorization: "Bearer secret" });
    expect(new Uint8Array(init.body as Uint8Array)).toEqual(payload);
    answer(new Response("picture"));
    await vi.waitFor(() => expect(states).toHaveLength(3));
    expect(states[2]).toMatchObject({ step: "restored", preview: states[1].preview });
    expect(await states[2].restored!.text()).toBe("picture");
  }
  expect(service.paths).toEqual(["/below/v1/bundles", `/below/v1/bundles/${bundle.id}/coder.json`]);
});

test("with tables at hand the preview is there at once, in every aspect", () => {
  for (const { payload, fit, original_size: [width, height] } of PAYLOADS) {
    restoring(bytesOf(payload), { service: SERVICE, bundle }, show);
    const { width: across, height: down } = pictureOf(states.pop()!.preview);
    expect(aspectOf(bytesOf(payload))).toBe(fit === "crop" ? 1 : width / height);
    expect(Math.abs(across * height - down * width)).toBeLessThan(fit === "crop" ? Infinity : Math.max(width, height));
  }
  expect(service.paths).toEqual([]);
  expect(service.requests[0].url).toBe(`${SERVICE}/v1/restore`);
});

test.each([
  [Response.json({ detail: "overloaded" }, { status: 503 }), ServiceError, "overloaded"],
  [new Response("<html>", { status: 502 }), ServiceError, "the service answered 502"],
  [new TypeError("no network"), UnreachableError, "cannot be reached: TypeError: no network"],
])("an error leaves the preview: %s", async (answer, kind, message) => {
  restoring(payload, { service: SERVICE, bundle }, show);
  service.requests[0].answer(answer);
  await vi.waitFor(() => expect(states).toHaveLength(2));
  expect(states[1]).toMatchObject({ step: "error", preview: states[0].preview });
  expect(states[1].error).toBeInstanceOf(kind);
  expect(states[1].error!.message).toContain(message);
});

test("a text that is none is an error without a request", async () => {
  restoring("7W%", { service: SERVICE, bundle }, show);
  await vi.waitFor(() => expect(states).toHaveLength(2));
  expect(states[1].error).toBeInstanceOf(PayloadError);
  expect(service.requests).toEqual([]);
  expect(aspectOf("7W%")).toBeUndefined();
});

test("what cannot be read here is restored without a preview", async () => {
  const { payloads } = readJson<{ payloads: { payload: string }[] }>("tests/golden/clients/unsupported.json");
  restoring(bytesOf(payloads[0].payload), { service: SERVICE, bundle }, show);
  service.requests[0].answer(new Response("picture"));
  await vi.waitFor(() => expect(states).toMatchObject([{ step: "preview" }, { step: "restored" }]));
  expect(states[1].preview).toBeUndefined();
});

test("nothing is shown any more after the end, which ends the request", async () => {
  const stop = restoring(payload, { service: `${SERVICE}?another`, bundle }, show);
  stop();
  expect(service.requests[0].init.signal!.aborted).toBe(true);
  await new Promise((resolve) => setTimeout(resolve, 5));
  expect(states).toHaveLength(1);
});

test("a server renders the preview", () => {
  const props = { payload, service: SERVICE, bundle, className: "portrait", style: { width: 256 } };
  const html = renderToString(createElement(EdgegrainImage, props));
  expect(html).toMatch(/^<img src="data:image\/bmp;base64,[^"]+" alt="[^"]*generated" class="portrait"/);
  expect(html).toContain('style="aspect-ratio:0.789473684210526');
  const junk = renderToString(createElement(EdgegrainImage, { payload: "junk", service: "" }));
  expect(junk).toContain('data-step="preview"');
  expect(service.requests).toEqual([]);
});

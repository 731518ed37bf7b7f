import { beforeAll, expect, test, vi } from "vitest";

import { measureDevice } from "../src/device_report";
import { Encoder } from "../src/encoder";
import { EncoderSession } from "../src/encoder_session";
import { BundleError, DeviceError, ImageError } from "../src/errors";
import { fitPicture } from "../src/fit";
import { sha256Hex } from "../src/golden_inputs";
import { decodePayload } from "../src/payload";
import { defaultBundle, hexOf, type PayloadCase, pictureOf, readJson } from "./golden";

const PAYLOADS = readJson<{ payloads: PayloadCase[] }>("tests/golden/clients/payloads.json").payloads;
let encoder: Encoder;

beforeAll(async () => {
  const bundle = defaultBundle();
  const rates = [8, 64, 1].map((step, index) => {
    return { contractId: `${index}`.repeat(64), tables: { ...bundle.tables, step } };
  });
  encoder = await Encoder.open({ ...bundle, rates }); // runs the bundle's golden vectors
});

test.each(PAYLOADS)("compresses $original_size, $fit, to the bytes of sdk.compress", async (expected) => {
  const picture = pictureOf(expected);
  expect(sha256Hex(fitPicture(picture, encoder.bundle.hr, expected.fit).data)).toBe(expected.fitted_sha256);
  const payload = await encoder.compress(picture, expected.fit);
  expect(hexOf(payload.lr.data)).toBe(expected.lr);
  expect(hexOf(payload.bytes)).toBe(expected.payload);
});

test("the best rate is taken that fits into a number of bytes, else the last; the encoder runs once", async () => {
  const encode = vi.spyOn(EncoderSession.prototype, "encode");
  const picture = pictureOf(PAYLOADS[0]);
  const first = await encoder.compress(picture);
  const second = await encoder.within(first.bytes.length - 1).compress(picture);
  const last = await encoder.within(second.bytes.length - 1).compress(picture);
  const { contractId } = encoder.bundle;
  expect([first, second, last].map(({ header }) => header.contract)).toEqual([contractId.slice(0, 4), "0000", "1111"]);
  expect(last.bytes.length).toBeLessThan(second.bytes.length);
  expect((await encoder.within(0).compress(picture)).bytes).toEqual(last.bytes);
  expect((await encoder.within(first.bytes.length).compress(picture)).bytes).toEqual(first.bytes);
  const finest = await encoder.within(10_000).compress(picture);
  expect(finest.header.contract).toBe("2222");
  expect((await encoder.within(finest.bytes.length - 1).compress(picture)).bytes).toEqual(first.bytes);
  expect(encode).toHaveBeenCalledTimes(7);
  for (const { bytes, lr } of [finest, first, second, last]) expect(decodePayload(bytes, encoder.bundle).lr).toEqual(lr);
  const { rates: _, ...alone } = encoder.bundle;
  expect(() => decodePayload(last.bytes, alone)).toThrow("made under LR contract 1111, available: ");
});

test("an encoder that computes other bytes is refused", async () => {
  const bundle = defaultBundle();
  const [first] = bundle.golden.inputs;
  const golden = { ...bundle.golden, inputs: [{ ...first, lr_sha256: "0".repeat(64) }] };
  await expect(Encoder.open({ ...bundle, golden })).rejects.toThrow(DeviceError);
});

test("a picture of another size is refused", async () => {
  const picture = { width: 255, height: 256, data: new Uint8Array(3 * 255 * 256) };
  await expect(encoder.encode(picture)).rejects.toThrow("the encoder takes 256 x 256 pixels, got 255 x 256");
  await expect(encoder.encode(picture)).rejects.toThrow(ImageError);
});

test("what is no encoder is refused", async () => {
  await expect(Encoder.open({ ...defaultBundle(), encoder: new Uint8Array(100) })).rejects.toThrow(BundleError);
});

test("a device reports what it proved and measured", async () => {
  vi.stubGlobal("navigator", { userAgent: `a|${"b".repeat(300)}` });
  const report = await measureDevice(encoder, 1, 3);
  vi.unstubAllGlobals();
  expect(report.device).toBe(`a ${"b".repeat(198)}`); // the longest that docs/devices.md takes
  expect(report).toMatchObject({ schema: 1, bundle: encoder.bundle.id, checked: 12, failed: [], threads: 1 });
  const { runs, least, median, most } = report.encode_ms;
  expect(runs).toBe(3);
  expect(least).toBeGreaterThan(0);
  expect(median).toBeGreaterThanOrEqual(least);
  expect(most).toBeGreaterThanOrEqual(median);
});

import { describe, expect, test } from "vitest";

import { readCoderTables, rounded } from "../src/coder_tables";
import { BundleError, PayloadError } from "../src/errors";
import { sha256Hex } from "../src/golden_inputs";
import { decodeLr, encodeLr } from "../src/lr_coder";
import { crc32, decodePayload, encodePayload, parseHeader } from "../src/payload";
import { bytesOf, defaultBundle, hexOf, type PayloadCase, readBytes, readJson, type SquareNumbers, squareOf } from "./golden";

interface StoredPayload {
  readonly file: string;
  readonly lr_size: [number, number];
  readonly lr_sha256: string;
  readonly original_size: [number, number];
  readonly fit: string;
}

const { tables, contractId } = defaultBundle();
const GENERIC = readCoderTables(readJson("codec_contract/lr_coder/default_coder.json"));
interface BodyCase {
  readonly size: [number, number];
  readonly lr: string;
  readonly body: string;
}

const { bodies: BODIES, coarse_bodies: COARSE_BODIES } = readJson<{
  bodies: BodyCase[];
  coarse_bodies: (BodyCase & { step: number; stored: string })[];
}>("tests/golden/clients/bodies.json");
const PAYLOADS = readJson<{ payloads: PayloadCase[] }>("tests/golden/clients/payloads.json").payloads;
const DAMAGED = readJson<{ payloads: { name: string; payload: string }[] }>(
  "tests/golden/clients/damaged.json",
).payloads;
const UNSUPPORTED = readJson<{ payloads: { name: string; payload: string }[] }>(
  "tests/golden/clients/unsupported.json",
).payloads;
const ALIGNED = readJson<{ payloads: { name: string; payload: string; lr_sha256: string; square: SquareNumbers }[] }>(
  "tests/golden/clients/aligned.json",
).payloads;
const STORED = readJson<{ contract_id: string; payloads: StoredPayload[] }>("tests/golden/contract/payloads.json");

test("CRC-32 is that of zlib", () => {
  expect(crc32(new TextEncoder().encode("123456789"))).toBe(0xcbf43926);
});

test.each(BODIES)("codes an LR of $size to the pinned body and back", ({ size: [width, height], lr, body }) => {
  const picture = { width, height, data: bytesOf(lr) };
  expect(hexOf(encodeLr(picture, tables))).toBe(body);
  expect(decodeLr(bytesOf(body), width, height, tables)).toEqual(picture);
});

test.each(COARSE_BODIES)("codes an LR of $size in steps of $step", ({ step, size: [width, height], lr, stored, body }) => {
  const coarse = { ...tables, step };
  const picture = { width, height, data: bytesOf(lr) };
  expect(hexOf(rounded(picture, coarse).data)).toBe(stored);
  expect(hexOf(encodeLr(picture, coarse))).toBe(body);
  expect(hexOf(decodeLr(bytesOf(body), width, height, coarse).data)).toBe(stored);
  if (lr !== COARSE_BODIES.find((other) => other.step === step)!.lr) return; // one whole payload of each step
  const payload = encodePayload(picture, { contractId, tables: coarse, originalSize: [640, 480] });
  expect(hexOf(decodePayload(payload, contractId, coarse).lr.data)).toBe(stored);
});

test.each(STORED.payloads)("reads the stored $file and writes it again", (stored) => {
  const data = readBytes(`tests/golden/contract/${stored.file}`);
  const { lr, header } = decodePayload(data, STORED.contract_id, GENERIC);
  expect([lr.width, lr.height]).toEqual(stored.lr_size);
  expect(sha256Hex(lr.data)).toBe(stored.lr_sha256);
  expect([header.originalWidth, header.originalHeight, header.fit]).toEqual([...stored.original_size, stored.fit]);
  const again = encodePayload(lr, {
    contractId: STORED.contract_id,
    tables: GENERIC,
    originalSize: stored.original_size,
    fit: header.fit,
    square: header.square,
    coding: header.coding,
  });
  expect(hexOf(again)).toBe(hexOf(data));
});

test.each(PAYLOADS)("packs the LR of $original_size, $fit, as Python does", ({ lr, original_size, fit, payload }) => {
  const picture = { width: 16, height: 16, data: bytesOf(lr) };
  const data = encodePayload(picture, { contractId, tables, originalSize: original_size, fit });
  expect(hexOf(data)).toBe(payload);
  expect(decodePayload(data, contractId, tables).lr).toEqual(picture);
  expect(parseHeader(data).contract).toBe(contractId.slice(0, 8));
});

test("the LR of a raw payload is a copy, also of Node's Buffer", () => {
  const lr = { width: 2, height: 1, data: new Uint8Array([0, 51, 102, 153, 204, 255]) };
  const payload = Buffer.from(encodePayload(lr, { contractId, tables: GENERIC, originalSize: [2, 1], coding: 0 }));
  const decoded = decodePayload(payload, contractId, GENERIC).lr;
  payload.fill(0);
  expect(decoded).toEqual(lr);
});

test.each(DAMAGED)("refuses a payload: $name", ({ payload }) => {
  expect(() => decodePayload(bytesOf(payload), contractId, tables)).toThrow(PayloadError);
});

test.each(ALIGNED)("reads and writes: $name", ({ payload, lr_sha256, square: numbers }) => {
  const { lr, header } = decodePayload(bytesOf(payload), contractId, tables);
  expect(sha256Hex(lr.data)).toBe(lr_sha256);
  expect(header.square).toEqual(squareOf(numbers));
  const { fit, square, coding, originalWidth, originalHeight } = header;
  const originalSize = [originalWidth, originalHeight] as const;
  expect(hexOf(encodePayload(lr, { contractId, tables, originalSize, fit, square, coding }))).toBe(payload);
});

test.each(UNSUPPORTED)("says that it does not read: $name", ({ payload }) => {
  expect(() => parseHeader(bytesOf(payload))).toThrow(PayloadError);
  expect(() => parseHeader(bytesOf(payload))).toThrow(/ not read here/);
});

test("every byte of a payload matters", () => {
  const data = bytesOf(PAYLOADS[0].payload);
  for (let index = 0; index < data.length; index++) {
    const changed = data.slice();
    changed[index] ^= 0x40;
    expect(() => parseHeader(changed), `byte ${index}`).toThrow(PayloadError);
  }
});

describe("refuses to write", () => {
  const lr = { width: 1, height: 1, data: new Uint8Array(3) };
  const right = { contractId, tables, originalSize: [1, 1] as [number, number] };

  test.each([
    ["a wide LR", { ...lr, width: 257, data: new Uint8Array(3 * 257) }, right],
    ["an original without height", lr, { ...right, originalSize: [1, 0] as [number, number] }],
    ["an original of 2^32 pixels", lr, { ...right, originalSize: [65535, 65535] as [number, number] }],
    ["an unknown coding", lr, { ...right, coding: 2 as 1 }],
    ["an aligned picture without its square", lr, { ...right, fit: "align" as const }],
    ["a square of a padded picture", lr, { ...right, square: { x: 2, y: 2, acrossX: 4, acrossY: 0 } }],
    ["a square outside", lr, { ...right, fit: "align" as const, square: { x: 5, y: 2, acrossX: 4, acrossY: 0 } }],
    ["half a contract id", lr, { ...right, contractId: contractId.slice(0, 32) }],
  ])("%s", (_name, picture, options) => {
    expect(() => encodePayload(picture, options)).toThrow(PayloadError);
  });
});

describe("refuses coder tables", () => {
  const good = () => structuredClone(readJson<any>("codec_contract/lr_coder/default_coder.json"));

  test.each<[string, (tables: any) => void]>([
    ["of another format", (source) => (source.format = "edgegrain coder tables 2")],
    ["of two channels", (source) => source.channels.pop()],
    ["without hidden layers", (source) => (source.channels[0].hidden = [])],
    ["with a shift of 25", (source) => (source.channels[1].hidden[0].shift[0] = 25)],
    ["with a weight too few", (source) => (source.channels[2].output.weight = btoa("abc"))],
    ["with a bias that lets a sum overflow", (source) => (source.channels[0].output.bias[1] = 2 ** 30)],
    ["with a bias of a half", (source) => (source.channels[0].output.bias[0] = 0.5)],
  ])("%s", (_name, damage) => {
    const source = good();
    damage(source);
    expect(() => readCoderTables(source)).toThrow(BundleError);
  });
});

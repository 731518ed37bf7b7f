import { describe, expect, test } from "vitest";

import { readCoderTables, rounded } from "../src/coder_tables";
import { BundleError, PayloadError } from "../src/errors";
import { sha256Hex } from "../src/golden_inputs";
import { decodeLr, encodeLr } from "../src/lr_coder";
import { crc32, decodePayload, encodePayload, parseHeader } from "../src/payload";
import { bytesOf, defaultBundle, hexOf, type PayloadCase, readBytes, readJson, type SquareNumbers, squareOf } from "./golden";

interface StoredPayload {
  readonly file: string;
  readonly coding: number;
  readonly lr_size: [number, number];
  readonly lr_sha256: string;
  readonly original_size: [number, number];
  readonly fit: string;
  readonly version: number;
  readonly square: SquareNumbers | null;
}

const BUNDLE = defaultBundle();
const { tables, contractId } = BUNDLE;
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
interface AlignedCase {
  readonly name: string;
  readonly version: number;
  readonly payload: string;
  readonly lr_sha256: string;
  readonly square: SquareNumbers;
}

const ALIGNED = readJson<{ payloads: AlignedCase[] }>("tests/golden/clients/aligned.json").payloads;
const STORED = readJson<{ contract_id: string; payloads: StoredPayload[] }>("tests/golden/contract/payloads.json");
/** Without those of pictures in tiles. */
const READ = STORED.payloads.filter(({ coding, lr_size }) => coding < 2 && Math.max(...lr_size) <= 256);

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
  expect(hexOf(decodePayload(payload, { contractId, tables: coarse }).lr.data)).toBe(stored);
});

test.each(READ)("reads the stored $file, and writes it again in version 2", (stored) => {
  const data = readBytes(`tests/golden/contract/${stored.file}`);
  const header = parseHeader(data);
  expect([header.lrWidth, header.lrHeight]).toEqual(stored.lr_size);
  expect([header.originalWidth, header.originalHeight, header.fit]).toEqual([...stored.original_size, stored.fit]);
  expect([header.version, header.coding]).toEqual([stored.version, stored.coding]);
  expect(header.square).toEqual(stored.square ? squareOf(stored.square) : undefined);
  expect(header.contract).toBe(STORED.contract_id.slice(0, stored.version === 1 ? 8 : 4));
  if (header.lrWidth > 128) return; // its body takes many seconds
  const { lr } = decodePayload(data, { contractId: STORED.contract_id, tables: GENERIC });
  expect([lr.width, lr.height, sha256Hex(lr.data)]).toEqual([...stored.lr_size, stored.lr_sha256]);
  const again = encodePayload(lr, {
    contractId: STORED.contract_id,
    tables: GENERIC,
    originalSize: stored.original_size,
    fit: header.fit,
    square: header.square,
    coding: header.coding,
  });
  if (stored.version === 2) expect(hexOf(again)).toBe(hexOf(data));
  else expect(parseHeader(again)).toEqual({ ...header, version: 2, contract: header.contract.slice(0, 4) });
});

test.each(PAYLOADS)("packs the LR of $original_size, $fit, as Python does", ({ lr, original_size, fit, payload }) => {
  const picture = { width: 16, height: 16, data: bytesOf(lr) };
  const data = encodePayload(picture, { contractId, tables, originalSize: original_size, fit });
  expect(hexOf(data)).toBe(payload);
  expect(decodePayload(data, BUNDLE).lr).toEqual(picture);
  expect(parseHeader(data).contract).toBe(contractId.slice(0, 4));
});

test("the LR of a raw payload is a copy, also of Node's Buffer", () => {
  const lr = { width: 2, height: 1, data: new Uint8Array([0, 51, 102, 153, 204, 255]) };
  const payload = Buffer.from(encodePayload(lr, { contractId, tables: GENERIC, originalSize: [2, 1], coding: 0 }));
  const decoded = decodePayload(payload, { contractId, tables: GENERIC }).lr;
  payload.fill(0);
  expect(decoded).toEqual(lr);
});

test.each(DAMAGED)("refuses a payload: $name", ({ payload }) => {
  expect(() => decodePayload(bytesOf(payload), BUNDLE)).toThrow(PayloadError);
});

test.each(ALIGNED)("reads, and writes in version 2: $name", ({ version, payload, lr_sha256, square: numbers }) => {
  const { lr, header } = decodePayload(bytesOf(payload), BUNDLE);
  expect(sha256Hex(lr.data)).toBe(lr_sha256);
  expect([header.version, header.square]).toEqual([version, squareOf(numbers)]);
  const { fit, square, coding, originalWidth, originalHeight } = header;
  const originalSize = [originalWidth, originalHeight] as const;
  const newest = ALIGNED.find(({ name }) => name === `version 2: fit 3, aligned${coding ? "" : ", raw"}`)!.payload;
  expect(hexOf(encodePayload(lr, { contractId, tables, originalSize, fit, square, coding }))).toBe(newest);
});

test.each(UNSUPPORTED)("says that it does not read: $name", ({ payload }) => {
  expect(() => parseHeader(bytesOf(payload))).toThrow(PayloadError);
  expect(() => parseHeader(bytesOf(payload))).toThrow(/ not read here/);
});

const OLD = ALIGNED.find(({ version }) => version === 1)!;

test.each([PAYLOADS[0], OLD])("every byte of a payload matters: $#", (whole) => {
  const data = bytesOf(whole.payload);
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

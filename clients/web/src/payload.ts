/** The payload, docs/payload.md: what a picture becomes on the wire. */

import { type CoderTables, type ContractTables, rounded } from "./coder_tables.js";
import { PayloadError } from "./errors.js";
import { type Fit, FITS } from "./fit.js";
import { readLeb128, writeLeb128 } from "./leb128.js";
import { decodeLr, encodeLr } from "./lr_coder.js";
import { checkSquare, type OrientedSquare, readSquare, type Size, writeSquare } from "./oriented_square.js";
import { checkRgb, type Rgb } from "./rgb.js";

export const MAX_LR_SIDE = 256;
export const MAX_ORIGINAL_SIDE = 65535;
export const MAX_ORIGINAL_PIXELS = 2 ** 28;

/** Of an LR of 16 x 16; the next ones are those of the other `LR_SIDES`, the one after them that of any other size. */
const FIRST_BYTE = 0xa8;
const LR_SIDES = [16, 32, 64, 128];
const CONTRACT_BYTES = 2;
const FIXED_BYTES = 4;
/** Of the CRC-32. */
const CRC_BYTES = 3;
const HAS_ORIGINAL = 16;
const DEFAULT_ORIGINAL = 256;
const MIN_BYTES = 7;
export const MAX_PAYLOAD_BYTES = 196_640;

/** The beginning of a scene, and of a payload of version 1, which is only read. */
export const MAGIC = [0xed, 0x6e];
export const SCENE_VERSION = 2;
/** Of a scene, and of a payload of version 1. */
export const LONG_CRC_BYTES = 4;
const LONG_CONTRACT_BYTES = 4;
const LONG_FIXED_BYTES = 8;
const LONG_MIN_BYTES = 14;
const EXPLICIT_SIZE = 15;

/** Their position is their code on the wire. */
const WIRE_FITS: readonly WireFit[] = [...FITS, "align"];

/** How the original was brought to the encoder's square: fitted, or cut out at `Header.square`. */
export type WireFit = Fit | "align";

/** 0: the LR's bytes; 1: the range coder. */
export type Coding = 0 | 1;

/** What a payload says about itself; every field was checked against its range. */
export interface Header {
  readonly version: 1 | 2;
  readonly coding: Coding;
  /** The first two bytes of the LR contract id, in hex; four in version 1. */
  readonly contract: string;
  readonly lrWidth: number;
  readonly lrHeight: number;
  readonly originalWidth: number;
  readonly originalHeight: number;
  readonly fit: WireFit;
  /** The square that was cut out of the original; only with the fit "align". */
  readonly square?: OrientedSquare;
}

/** What a payload is made from, beside the LR. */
export interface PayloadOptions {
  /** The LR contract id, 64 hex digits, or its first four. */
  readonly contractId: string;
  readonly tables: CoderTables;
  /** Width and height before fitting, in pixels. */
  readonly originalSize: Size;
  readonly fit?: WireFit;
  /** The square that was cut out, with the fit "align" only. */
  readonly square?: OrientedSquare;
  /** 1 by default; a body that the range coder cannot shorten is stored raw. */
  readonly coding?: Coding;
}

/** Packs an LR with sides of 1 to 256; `PayloadError` for what the format cannot say. */
export function encodePayload(lr: Rgb, options: PayloadOptions): Uint8Array<ArrayBuffer> {
  checkRgb(lr);
  if (Math.max(lr.width, lr.height) > MAX_LR_SIDE) {
    throw new PayloadError(`an LR has sides of 1 to ${MAX_LR_SIDE}, got ${lr.width} x ${lr.height}`);
  }
  const [width, height] = options.originalSize;
  checkOriginal(width, height);
  const { fit = "pad", square } = options;
  const fitCode = WIRE_FITS.indexOf(fit);
  if (fitCode < 0) throw new PayloadError(`unknown fit ${String(fit)}, expected one of ${WIRE_FITS.join(", ")}`);
  if ((fit === "align") !== (square !== undefined)) {
    throw new PayloadError(`the fit align needs a square, no other fit has one; got ${fit}`);
  }
  if (square) checkSquare(square, options.originalSize);
  let coding = options.coding ?? 1;
  if (coding !== 0 && coding !== 1) {
    throw new PayloadError(`unknown coding ${String(coding)}, expected 0 (raw) or 1 (range coder)`);
  }
  let body = rounded(lr, options.tables).data;
  if (coding === 1) {
    const coded = encodeLr(lr, options.tables);
    if (coded.length < body.length) body = coded;
    else coding = 0;
  }
  const hasOriginal = !isDefault(width, height);
  const sizeCode = lrSizeCode(lr.width, lr.height);
  const flags = fitCode | (coding << 2) | (hasOriginal ? HAS_ORIGINAL : 0);
  const head = [FIRST_BYTE + sizeCode, ...contractBytes(options.contractId), flags];
  if (sizeCode === LR_SIDES.length) head.push(...writeLeb128(lr.width), ...writeLeb128(lr.height));
  if (hasOriginal) head.push(...writeLeb128(width), ...writeLeb128(height));
  if (square) head.push(...writeSquare(square));
  return withCrc([Uint8Array.from(head), body], CRC_BYTES);
}

/** Checks a payload's length, CRC and every claim, without decoding its body; else `PayloadError`. */
export function parseHeader(data: Uint8Array): Header {
  return parse(data).header;
}

/** Unpacks a payload of one of a bundle's rates into its LR; `PayloadError` if it is damaged or of another contract. */
export function decodePayload(
  data: Uint8Array, bundle: ContractTables,
): { readonly lr: Rgb; readonly header: Header } {
  const { header, body } = parse(data);
  const rates = [bundle, ...(bundle.rates ?? [])];
  const rate = rates.find(({ contractId }) => contractId.startsWith(header.contract));
  if (!rate) {
    throw new PayloadError(
      `the payload was made under LR contract ${header.contract}, available: ` +
        `${rates.map(({ contractId }) => contractId.slice(0, 8)).join(", ")}; load the bundle it was made with`,
    );
  }
  const { tables } = rate;
  const { lrWidth: width, lrHeight: height } = header;
  if (header.coding === 1) return { lr: decodeLr(body, width, height, tables), header };
  const lr = { width, height, data: Uint8Array.from(body) }; // of a Buffer, `slice` is a view
  const stored = rounded(lr, tables).data;
  if (lr.data.some((level, at) => level !== stored[at])) {
    throw new PayloadError(`the payload is corrupt: its LR has levels that are no multiples of ${tables.step}`);
  }
  return { lr, header };
}

/** CRC-32 of zlib and PNG. */
export function crc32(data: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of data) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc >>> 0;
}

/** The parts one after the other, and the low `bytes` bytes of their CRC-32. */
export function withCrc(parts: readonly Uint8Array[], bytes: number): Uint8Array<ArrayBuffer> {
  const end = parts.reduce((sum, part) => sum + part.length, 0);
  const data = new Uint8Array(end + bytes);
  let position = 0;
  for (const part of parts) {
    data.set(part, position);
    position += part.length;
  }
  data.set(lowBytes(crc32(data.subarray(0, end)), bytes), end);
  return data;
}

/** Position of the `bytes` bytes of CRC-32 at the end; `PayloadError` unless they are those of what is before them. */
export function checkCrc(data: Uint8Array, bytes: number): number {
  const end = data.length - bytes;
  if (lowBytes(crc32(data.subarray(0, end)), bytes).some((byte, index) => byte !== data[end + index])) {
    throw new PayloadError("the payload is corrupt or truncated (CRC-32)");
  }
  return end;
}

function lowBytes(value: number, count: number): number[] {
  return Array.from({ length: count }, (_, index) => (value >>> (8 * index)) & 255);
}

/** What both versions say, in an order of their own, and the position after it. */
interface Start extends Pick<Header, "version" | "lrWidth" | "lrHeight"> {
  readonly coding: number;
  readonly contract: Uint8Array;
  readonly fit: number;
  readonly hasOriginal: boolean;
  readonly position: number;
  /** Position of the CRC. */
  readonly end: number;
}

function parse(data: Uint8Array): { header: Header; body: Uint8Array } {
  if (data.length < MIN_BYTES || data.length > MAX_PAYLOAD_BYTES) {
    throw new PayloadError(`a payload has ${MIN_BYTES} to ${MAX_PAYLOAD_BYTES} bytes, got ${data.length}`);
  }
  const isLong = data[0] < FIRST_BYTE || data[0] > FIRST_BYTE + LR_SIDES.length;
  const start = isLong ? readLongStart(data) : readStart(data);
  const { version, coding, lrWidth, lrHeight, end } = start;
  if (coding > 1) {
    throw new PayloadError(`payload coding ${coding} is not read here, only 0 (raw) and 1 (range coder)`);
  }
  let { position } = start;
  let [originalWidth, originalHeight] = [DEFAULT_ORIGINAL, DEFAULT_ORIGINAL];
  if (start.hasOriginal) {
    [originalWidth, position] = readLeb128(data, position, end, "original width");
    [originalHeight, position] = readLeb128(data, position, end, "original height");
    if (version === 2 && isDefault(originalWidth, originalHeight)) {
      throw new PayloadError("the original size 256 x 256 is written, though it is the one that is left out");
    }
  }
  checkOriginal(originalWidth, originalHeight);
  const fit = WIRE_FITS[start.fit];
  let square: OrientedSquare | undefined;
  if (fit === "align") [square, position] = readSquare(data, position, end, [originalWidth, originalHeight]);
  const body = data.subarray(position, end);
  const raw = 3 * lrWidth * lrHeight;
  if (coding === 0 ? body.length !== raw : body.length >= raw) {
    throw new PayloadError(
      `a body of coding ${coding} of an LR of ${lrWidth} x ${lrHeight} has ${coding ? "fewer than " : ""}${raw} ` +
        `bytes, this one ${body.length}`,
    );
  }
  const contract = Array.from(start.contract, (byte) => byte.toString(16).padStart(2, "0")).join("");
  const header: Header = {
    version, coding: coding as Coding, contract, lrWidth, lrHeight, originalWidth, originalHeight, fit, square,
  };
  return { header, body };
}

function readStart(data: Uint8Array): Start {
  const end = checkCrc(data, CRC_BYTES);
  const flags = data[FIXED_BYTES - 1];
  if (flags >> 5) throw new PayloadError("reserved flag bits are set; a newer edgegrain may read this");
  let position = FIXED_BYTES;
  const sizeCode = data[0] - FIRST_BYTE;
  let lrWidth = LR_SIDES[sizeCode];
  let lrHeight = lrWidth;
  if (sizeCode === LR_SIDES.length) {
    [lrWidth, position] = readLeb128(data, position, end, "LR width");
    [lrHeight, position] = readLeb128(data, position, end, "LR height");
    if (Math.min(lrWidth, lrHeight) < 1 || Math.max(lrWidth, lrHeight) > MAX_LR_SIDE) {
      throw new PayloadError(`an LR of ${lrWidth} x ${lrHeight} is not read here, only sides of 1 to ${MAX_LR_SIDE}`);
    }
    if (lrSizeCode(lrWidth, lrHeight) !== sizeCode) throw new PayloadError(unusedCode(lrWidth, lrHeight));
  }
  const contract = data.subarray(1, 1 + CONTRACT_BYTES);
  const coding = (flags >> 2) & 3;
  const hasOriginal = (flags & HAS_ORIGINAL) !== 0;
  return { version: 2, coding, contract, lrWidth, lrHeight, fit: flags & 3, hasOriginal, position, end };
}

/** Of version 1. */
function readLongStart(data: Uint8Array): Start {
  if (data[0] !== MAGIC[0] || data[1] !== MAGIC[1]) throw new PayloadError("not a payload: its first bytes are others");
  const version = data[2] >> 4;
  if (version === SCENE_VERSION) throw new PayloadError("this is a scene of several faces; parseScene reads it");
  if (version !== 1) throw new PayloadError(`payload version ${version} is unknown, this release reads 1 and 2`);
  if (data.length < LONG_MIN_BYTES) throw new PayloadError(`the payload is cut off after ${data.length} bytes`);
  const end = checkCrc(data, LONG_CRC_BYTES);
  const flags = data[LONG_FIXED_BYTES - 1];
  if (flags >> 6) throw new PayloadError("reserved flag bits are set; a newer edgegrain may read this");
  let position = LONG_FIXED_BYTES;
  const sizeCode = flags >> 2;
  let lrWidth = 1 << sizeCode;
  let lrHeight = lrWidth;
  if (sizeCode === EXPLICIT_SIZE) {
    lrWidth = data[position++] + 1;
    lrHeight = data[position++] + 1;
    if (lrWidth === lrHeight && (lrWidth & (lrWidth - 1)) === 0) throw new PayloadError(unusedCode(lrWidth, lrHeight));
  } else if (sizeCode > 8) {
    throw new PayloadError(`LR size code ${sizeCode} is not read here, only 0 to 8 and 15`);
  }
  const contract = data.subarray(3, 3 + LONG_CONTRACT_BYTES);
  return {
    version, coding: data[2] & 15, contract, lrWidth, lrHeight, fit: flags & 3, hasOriginal: true, position, end,
  };
}

export function checkOriginal(width: number, height: number): void {
  for (const side of [width, height]) {
    if (!Number.isInteger(side) || side < 1 || side > MAX_ORIGINAL_SIDE) {
      throw new PayloadError(`an original has sides of 1 to ${MAX_ORIGINAL_SIDE} pixels, got ${width} x ${height}`);
    }
  }
  if (width * height > MAX_ORIGINAL_PIXELS) {
    throw new PayloadError(`the original size ${width} x ${height} exceeds ${MAX_ORIGINAL_PIXELS} pixels`);
  }
}

function contractBytes(contractId: string): number[] {
  if (!/^([0-9a-f]{4}|[0-9a-f]{64})$/.test(contractId)) {
    throw new PayloadError(`a contract id has 64 hex digits, or 4 for its beginning, got "${contractId}"`);
  }
  return Array.from({ length: CONTRACT_BYTES }, (_, index) => parseInt(contractId.slice(2 * index, 2 * index + 2), 16));
}

/** Position in `LR_SIDES`, or after its end for another size. */
function lrSizeCode(width: number, height: number): number {
  const code = width === height ? LR_SIDES.indexOf(width) : -1;
  return code < 0 ? LR_SIDES.length : code;
}

function isDefault(originalWidth: number, originalHeight: number): boolean {
  return originalWidth === DEFAULT_ORIGINAL && originalHeight === DEFAULT_ORIGINAL;
}

function unusedCode(width: number, height: number): string {
  return `the LR size ${width} x ${height} has a short code that was not used`;
}

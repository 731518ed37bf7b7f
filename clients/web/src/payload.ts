/** The payload, docs/payload.md: what a picture becomes on the wire. */

import { type CoderTables, rounded } from "./coder_tables.js";
import { PayloadError } from "./errors.js";
import { type Fit, FITS } from "./fit.js";
import { readLeb128, writeLeb128 } from "./leb128.js";
import { decodeLr, encodeLr } from "./lr_coder.js";
import { checkSquare, type OrientedSquare, readSquare, type Size, writeSquare } from "./oriented_square.js";
import { checkRgb, type Rgb } from "./rgb.js";

export const MAX_LR_SIDE = 256;
export const MAX_ORIGINAL_SIDE = 65535;
export const MAX_ORIGINAL_PIXELS = 2 ** 28;

export const MAGIC = [0xed, 0x6e];
const VERSION = 1;
/** The version of scenes, which have the same magic. */
export const SCENE_VERSION = 2;
const CONTRACT_BYTES = 4;
const FIXED_BYTES = 8;
export const CRC_BYTES = 4;
const EXPLICIT_SIZE = 15;
const MIN_BYTES = 14;
export const MAX_PAYLOAD_BYTES = 196_640;
/** Their position is their code on the wire. */
const WIRE_FITS: readonly WireFit[] = [...FITS, "align"];

/** How the original was brought to the encoder's square: fitted, or cut out at `Header.square`. */
export type WireFit = Fit | "align";

/** 0: the LR's bytes; 1: the range coder. */
export type Coding = 0 | 1;

/** What a payload says about itself; every field was checked against its range. */
export interface Header {
  readonly coding: Coding;
  /** The first four bytes of the LR contract id, in hex. */
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
  /** The LR contract id, 64 hex digits, or its first eight. */
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
  const sizeCode = lrSizeCode(lr.width, lr.height);
  const head = [...MAGIC, (VERSION << 4) | coding, ...contractBytes(options.contractId), fitCode | (sizeCode << 2)];
  if (sizeCode === EXPLICIT_SIZE) head.push(lr.width - 1, lr.height - 1);
  head.push(...writeLeb128(width), ...writeLeb128(height), ...(square ? writeSquare(square) : []));
  return withCrc([Uint8Array.from(head), body]);
}

/** Checks a payload's length, CRC and every claim, without decoding its body; else `PayloadError`. */
export function parseHeader(data: Uint8Array): Header {
  return parse(data).header;
}

/** Unpacks a payload into its LR; `PayloadError` if it is damaged or of another contract. */
export function decodePayload(
  data: Uint8Array,
  contractId: string,
  tables: CoderTables,
): { readonly lr: Rgb; readonly header: Header } {
  const { header, body } = parse(data);
  if (!contractId.startsWith(header.contract)) {
    throw new PayloadError(
      `the payload was made under LR contract ${header.contract}, available: ${contractId.slice(0, 8)}; ` +
        "load the bundle it was made with",
    );
  }
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

/** The parts one after the other, and their CRC-32. */
export function withCrc(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const end = parts.reduce((sum, part) => sum + part.length, 0);
  const data = new Uint8Array(end + CRC_BYTES);
  let position = 0;
  for (const part of parts) {
    data.set(part, position);
    position += part.length;
  }
  new DataView(data.buffer).setUint32(end, crc32(data.subarray(0, end)), true);
  return data;
}

/** Position of the CRC-32 at the end; `PayloadError` unless it is that of the bytes before it. */
export function checkCrc(data: Uint8Array): number {
  const end = data.length - CRC_BYTES;
  const stored = new DataView(data.buffer, data.byteOffset).getUint32(end, true);
  if (stored !== crc32(data.subarray(0, end))) throw new PayloadError("the payload is corrupt or truncated (CRC-32)");
  return end;
}

function parse(data: Uint8Array): { header: Header; body: Uint8Array } {
  if (data.length < MIN_BYTES || data.length > MAX_PAYLOAD_BYTES) {
    throw new PayloadError(`a payload has ${MIN_BYTES} to ${MAX_PAYLOAD_BYTES} bytes, got ${data.length}`);
  }
  if (data[0] !== MAGIC[0] || data[1] !== MAGIC[1]) throw new PayloadError("not a payload: its first bytes are others");
  if (data[2] >> 4 === SCENE_VERSION) throw new PayloadError("this is a scene of several faces; parseScene reads it");
  if (data[2] >> 4 !== VERSION) {
    throw new PayloadError(`payload version ${data[2] >> 4} is unknown, this release reads version ${VERSION}`);
  }
  const end = checkCrc(data);

  const coding = data[2] & 15;
  if (coding > 1) {
    throw new PayloadError(`payload coding ${coding} is not read here, only 0 (raw) and 1 (range coder)`);
  }
  const flags = data[7];
  if (flags >> 6) throw new PayloadError("reserved flag bits are set; a newer edgegrain may read this");
  let position = FIXED_BYTES;
  const sizeCode = (flags >> 2) & 15;
  let lrWidth = 1 << sizeCode;
  let lrHeight = lrWidth;
  if (sizeCode === EXPLICIT_SIZE) {
    lrWidth = data[position++] + 1;
    lrHeight = data[position++] + 1;
    if (lrSizeCode(lrWidth, lrHeight) !== EXPLICIT_SIZE) {
      throw new PayloadError(`the LR size ${lrWidth} x ${lrHeight} has a short code that was not used`);
    }
  } else if (sizeCode > 8) {
    throw new PayloadError(`LR size code ${sizeCode} is not read here, only 0 to 8 and 15`);
  }
  const sides: number[] = [];
  for (const name of ["original width", "original height"]) {
    const [value, next] = readLeb128(data, position, end, name);
    sides.push(value);
    position = next;
  }
  const [originalWidth, originalHeight] = sides;
  checkOriginal(originalWidth, originalHeight);
  const fit = WIRE_FITS[flags & 3];
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
  const contract = Array.from(data.subarray(3, 3 + CONTRACT_BYTES), (byte) => byte.toString(16).padStart(2, "0"));
  const header: Header = {
    coding: coding as Coding, contract: contract.join(""), lrWidth, lrHeight, originalWidth, originalHeight, fit, square,
  };
  return { header, body };
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
  if (!/^([0-9a-f]{8}|[0-9a-f]{64})$/.test(contractId)) {
    throw new PayloadError(`a contract id has 64 hex digits, or 8 for its beginning, got "${contractId}"`);
  }
  return Array.from({ length: CONTRACT_BYTES }, (_, index) => parseInt(contractId.slice(2 * index, 2 * index + 2), 16));
}

function lrSizeCode(width: number, height: number): number {
  return width === height && (width & (width - 1)) === 0 ? 31 - Math.clz32(width) : EXPLICIT_SIZE;
}

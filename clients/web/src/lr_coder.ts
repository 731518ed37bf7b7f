/**
 * The lossless coder of an LR, docs/lr_coder.md: a prediction from earlier samples, then eight binary decisions.
 *
 * Encoder and decoder are one walk over the samples; only the coder they are given differs.
 */

import { type CoderTables, CONTEXT_SIZES, indexOf, levelOf, predict } from "./coder_tables.js";
import { PayloadError } from "./errors.js";
import { type BitCoder, RangeDecoder, RangeEncoder } from "./range_coder.js";
import type { Rgb } from "./rgb.js";

/** (dx, dy) of the earlier pixels around one; the first is the left one, the second the upper one. */
const NEIGHBOURS = [
  [-1, 0], [0, -1], [-1, -1], [1, -1], [-2, 0], [0, -2], [-2, -1], [2, -1], [-1, -2], [1, -2],
] as const;
const SLANT = 3;
const MIDDLE = 128;

/** round(2^20 / (1 + e^(-i/8))), i = 0...96; the last one twice, for interpolation. */
const SIGMOID = [
  524288, 557013, 589485, 621456, 652696, 682995, 712170, 740069, 766570, 791586, 815058, 836959, 857289, 876068,
  893337, 909153, 923583, 936703, 948595, 959343, 969033, 977748, 985571, 992579, 998846, 1004444, 1009436, 1013883,
  1017840, 1021358, 1024482, 1027256, 1029716, 1031897, 1033829, 1035540, 1037055, 1038396, 1039582, 1040631, 1041558,
  1042378, 1043102, 1043743, 1044308, 1044808, 1045249, 1045639, 1045983, 1046287, 1046556, 1046793, 1047002, 1047187,
  1047350, 1047494, 1047621, 1047733, 1047832, 1047919, 1047996, 1048064, 1048125, 1048178, 1048224, 1048266, 1048302,
  1048334, 1048363, 1048388, 1048410, 1048429, 1048447, 1048462, 1048475, 1048487, 1048498, 1048507, 1048515, 1048522,
  1048528, 1048534, 1048539, 1048543, 1048547, 1048551, 1048554, 1048556, 1048558, 1048561, 1048562, 1048564, 1048565,
  1048567, 1048568, 1048569, 1048570, 1048570,
];
/** round(2^16 * 2^(-i/8)), i = 0...7. */
const EIGHTH_OCTAVES = [65536, 60097, 55109, 50535, 46341, 42495, 38968, 35734];

/** Codes an LR into a body, with its levels rounded to multiples of the step. */
export function encodeLr(lr: Rgb, tables: CoderTables): Uint8Array {
  const encoder = new RangeEncoder();
  codeSamples(encoder, lr.data.map((level) => indexOf(level, tables)), lr.width, lr.height, tables);
  return encoder.finish();
}

/** The LR that `encodeLr` turned into `body`; `PayloadError` if no LR of that size has this body. */
export function decodeLr(body: Uint8Array, width: number, height: number, tables: CoderTables): Rgb {
  const decoder = new RangeDecoder(body);
  const indices = codeSamples(decoder, new Uint8Array(3 * width * height), width, height, tables);
  decoder.finish();
  if (indices.some((index) => index > indexOf(255, tables))) {
    throw new PayloadError("the payload is corrupt: a level is above 255");
  }
  return { width, height, data: indices.map((index) => levelOf(index, tables)) };
}

/** Encodes `levels`, or decodes and returns some, whatever they hold. */
function codeSamples(
  coder: BitCoder,
  levels: Uint8Array,
  width: number,
  height: number,
  tables: CoderTables,
): Uint8Array {
  const coded = new Uint8Array(3 * width * height);
  const contexts = CONTEXT_SIZES.map((size) => new Int32Array(size));
  for (let line = 0; line <= width - 1 + SLANT * (height - 1); line++) {
    const top = Math.max(0, Math.ceil((line - width + 1) / SLANT));
    const bottom = Math.min(height - 1, Math.floor(line / SLANT));
    for (let channel = 0; channel < 3; channel++) {
      for (let y = top; y <= bottom; y++) {
        const x = line - SLANT * y;
        const context = contexts[channel];
        const reference = readContext(context, coded, x, y, width, height, channel);
        const [difference, scale] = predict(tables.channels[channel], context);
        const at = 3 * (width * y + x) + channel;
        coded[at] = codeLevel(coder, clamp(16 * reference + difference, 0, 4080), clamp(scale, 0, 63), levels[at]);
      }
    }
  }
  return coded;
}

/** Fills in the context of a sample and returns its reference. */
function readContext(
  context: Int32Array,
  coded: Uint8Array,
  x: number,
  y: number,
  width: number,
  height: number,
  channel: number,
): number {
  const here = width * y + x;
  const west = x > 0 ? here - 1 : y > 0 ? here - width : -1;
  let at = 0;
  for (const [dx, dy] of NEIGHBOURS) {
    const near = Math.max(y + dy, 0) * width + clamp(x + dx, 0, width - 1);
    const pixel = near < here ? near : west;
    for (let other = 0; other < 3; other++) context[at++] = pixel < 0 ? MIDDLE : coded[3 * pixel + other];
  }
  const reference = (context[channel] + context[3 + channel] + 1) >> 1;
  for (let before = 0; before < channel; before++) context[at++] = coded[3 * here + before];
  for (let index = 0; index < at; index++) context[index] -= reference;
  const u = Math.floor(((2 * x + 1) * 128) / width) - 128;
  const v = Math.floor(((2 * y + 1) * 128) / height) - 128;
  context[at++] = reference - MIDDLE;
  context[at++] = u;
  context[at++] = v;
  context[at++] = (u * u) >> 7;
  context[at++] = (v * v) >> 7;
  context[at++] = (u * v) >> 7;
  context[at++] = y === 0 ? 128 : 0;
  context[at++] = x === 0 ? 128 : 0;
  context[at++] = x === width - 1 ? 128 : 0;
  return reference;
}

/** Encodes `level`, or decodes and returns one, by halving 0...255 eight times. */
function codeLevel(coder: BitCoder, mean: number, scale: number, level: number): number {
  let low = 0;
  let belowLow = massBelow(0, mean, scale);
  let belowHigh = massBelow(256, mean, scale);
  for (let size = 128; size; size >>= 1) {
    const middle = low + size;
    const belowMiddle = massBelow(middle, mean, scale);
    const probability = Math.floor(((belowHigh - belowMiddle) * 65536) / (belowHigh - belowLow));
    if (coder.code(level >= middle, clamp(probability, 1, 65535))) {
      low = middle;
      belowLow = belowMiddle;
    } else {
      belowHigh = belowMiddle;
    }
  }
  return low;
}

/** C(v): the mass of the levels below `level`, in parts of 2^20, and one part a level. */
function massBelow(level: number, mean: number, scale: number): number {
  const distance = 16 * level - 8 - mean;
  const product = Math.abs(distance) * EIGHTH_OCTAVES[scale & 7]; // up to 2^28
  const argument = Math.min(product >> (6 + (scale >> 3)), 96 * 512);
  const index = argument >> 9;
  const mass = SIGMOID[index] + (((SIGMOID[index + 1] - SIGMOID[index]) * (argument & 511)) >> 9);
  return (distance >= 0 ? mass : 2 ** 20 - mass) + level;
}

function clamp(value: number, low: number, high: number): number {
  return Math.min(Math.max(value, low), high);
}

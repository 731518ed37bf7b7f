/** A bundle's coder.json: the three small integer networks of docs/lr_coder.md, checked before use. */

import { BundleError } from "./errors.js";
import type { Rgb } from "./rgb.js";

/** Length of the context of a red, green and blue sample. */
export const CONTEXT_SIZES = [39, 40, 41] as const;

const FORMAT = "edgegrain coder tables 1";
/** Of tables with a step above 1. */
const FORMAT_WITH_STEP = "edgegrain coder tables 2";
const MAX_STEP = 64;
const ACTIVATION_MAX = 4095;
const INPUT_LIMIT = 255;
const ACCUMULATOR_LIMIT = 2 ** 30;
const MAX_WIDTH = 256;
const MAX_HIDDEN_LAYERS = 4;
const MAX_SHIFT = 24;
const MAX_BIAS = 2 ** 30;

/** An integer layer; weights row by row, one row an output. */
interface Layer {
  readonly inputs: number;
  readonly outputs: number;
  readonly weight: Int8Array;
  /** With the rounding half added. */
  readonly bias: Int32Array;
  readonly shift: Int32Array;
}

/** The network of one channel. */
export interface ChannelNetwork {
  readonly hidden: readonly Layer[];
  readonly output: Layer;
}

export interface CoderTables {
  /** One network for red, green and blue. */
  readonly channels: readonly [ChannelNetwork, ChannelNetwork, ChannelNetwork];
  /** Payloads store levels as multiples of it, 1 to 64. */
  readonly step: number;
}

/** What payloads of an encoder are read with. */
export interface ContractTables {
  /** 64 hex digits; a payload names the first four. */
  readonly contractId: string;
  readonly tables: CoderTables;
  /** Further rates of the same encoder, with finer or coarser levels, each with an LR contract of its own. */
  readonly rates?: readonly ContractTables[];
}

/** Reads the parsed coder.json; `BundleError` if a shape is wrong or an accumulator could leave 2^30. */
export function readCoderTables(source: unknown): CoderTables {
  const record = source as { format?: unknown; step?: unknown; channels?: unknown };
  const formats: unknown[] = [FORMAT, FORMAT_WITH_STEP];
  if (typeof source !== "object" || source === null || !formats.includes(record.format)) {
    throw new BundleError(`coder tables must be a JSON object of format "${FORMAT}" or "${FORMAT_WITH_STEP}"`);
  }
  const step = record.format === FORMAT ? 1 : (record.step as number);
  if (record.format === FORMAT_WITH_STEP && !(Number.isInteger(step) && step > 1 && step <= MAX_STEP)) {
    throw new BundleError(`coder tables: the step of the levels must be an integer of 2 to ${MAX_STEP}`);
  }
  if (!Array.isArray(record.channels) || record.channels.length !== 3) {
    throw new BundleError("coder tables must list three channels");
  }
  const [red, green, blue] = record.channels.map((channel, index) => readNetwork(channel, CONTEXT_SIZES[index]));
  return { channels: [red, green, blue], step };
}

/** The LR as a payload stores it: levels rounded to multiples of the step, halves up. */
export function rounded(lr: Rgb, tables: CoderTables): Rgb {
  return { ...lr, data: lr.data.map((level) => levelOf(indexOf(level, tables), tables)) };
}

/** What the coder codes: the level divided by the step, halves rounded up. */
export function indexOf(level: number, tables: CoderTables): number {
  return Math.floor((level + (tables.step >> 1)) / tables.step);
}

/** The level of a coded index. */
export function levelOf(index: number, tables: CoderTables): number {
  return Math.min(index * tables.step, 255);
}

/** Mean, in sixteenths of a level and before clamping, minus that of the reference; and scale index. */
export function predict(network: ChannelNetwork, context: Int32Array): [number, number] {
  let values = context;
  for (const layer of network.hidden) {
    values = accumulate(layer, values);
    for (let index = 0; index < values.length; index++) {
      values[index] = Math.min(Math.max(values[index], 0), ACTIVATION_MAX);
    }
  }
  const joined = new Int32Array(context.length + values.length);
  joined.set(context);
  joined.set(values, context.length);
  const [mean, scale] = accumulate(network.output, joined);
  return [mean, scale];
}

function accumulate(layer: Layer, values: Int32Array): Int32Array {
  const sums = new Int32Array(layer.outputs);
  let at = 0;
  for (let output = 0; output < layer.outputs; output++) {
    let sum = layer.bias[output];
    for (let input = 0; input < layer.inputs; input++) sum += layer.weight[at++] * values[input];
    sums[output] = sum >> layer.shift[output];
  }
  return sums;
}

function readNetwork(source: unknown, contextSize: number): ChannelNetwork {
  const record = source as { hidden?: unknown; output?: unknown };
  if (typeof source !== "object" || source === null || !Array.isArray(record.hidden)) {
    throw new BundleError("coder tables: a channel must be an object with a list of hidden layers");
  }
  if (record.hidden.length < 1 || record.hidden.length > MAX_HIDDEN_LAYERS) {
    throw new BundleError(`coder tables: 1 to ${MAX_HIDDEN_LAYERS} hidden layers are allowed`);
  }
  const context = new Array<number>(contextSize).fill(INPUT_LIMIT);
  let limits = context;
  const hidden = record.hidden.map((layer) => {
    const read = readLayer(layer, limits);
    limits = new Array<number>(read.outputs).fill(ACTIVATION_MAX);
    return read;
  });
  const output = readLayer(record.output, [...context, ...limits]);
  if (output.outputs !== 2) throw new BundleError("coder tables: a network has two outputs, mean and scale");
  return { hidden, output };
}

/** A layer whose inputs have at most the magnitudes `limits`. */
function readLayer(source: unknown, limits: readonly number[]): Layer {
  const record = (source ?? {}) as { bias?: unknown; shift?: unknown; weight?: unknown };
  const bias = readIntegers(record.bias, "bias", -MAX_BIAS, MAX_BIAS);
  const shift = readIntegers(record.shift, "shift", 0, MAX_SHIFT);
  const weight = readWeights(record.weight);
  const inputs = limits.length;
  if (shift.length !== bias.length || weight.length !== inputs * bias.length || weight.includes(-128)) {
    throw new BundleError(
      `coder tables: ${bias.length} outputs of ${inputs} inputs need as many shifts and ${inputs * bias.length} ` +
        `weights of magnitude at most 127, got ${shift.length} and ${weight.length}`,
    );
  }
  for (let output = 0; output < bias.length; output++) {
    let bound = Math.abs(bias[output]) + 2 ** shift[output];
    for (let input = 0; input < inputs; input++) bound += Math.abs(weight[output * inputs + input]) * limits[input];
    if (bound >= ACCUMULATOR_LIMIT) {
      throw new BundleError(`coder tables: a sum can reach ${bound}, the limit is ${ACCUMULATOR_LIMIT}`);
    }
    bias[output] += (1 << shift[output]) >> 1;
  }
  return { inputs, outputs: bias.length, weight, bias, shift };
}

function readIntegers(value: unknown, name: string, least: number, most: number): Int32Array {
  const right = (item: unknown) => Number.isInteger(item) && (item as number) >= least && (item as number) <= most;
  if (!Array.isArray(value) || value.length < 1 || value.length > MAX_WIDTH || !value.every(right)) {
    throw new BundleError(`coder tables: "${name}" must list 1 to ${MAX_WIDTH} integers of ${least} to ${most}`);
  }
  return Int32Array.from(value as number[]);
}

function readWeights(value: unknown): Int8Array {
  try {
    return Int8Array.from(atob(value as string), (character) => character.charCodeAt(0));
  } catch {
    throw new BundleError('coder tables: "weight" must be base64');
  }
}

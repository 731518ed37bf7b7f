/** A bundle's golden.json: inputs any language can generate, and the SHA-256 of their LRs. */

import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex } from "@noble/hashes/utils.js";

import { BundleError } from "./errors.js";
import type { Colour, Rgb } from "./rgb.js";

/** One input; `parameters` depend on the kind, see edge_encoder/golden_inputs.py. */
export interface GoldenInput {
  readonly name: string;
  readonly kind: string;
  readonly parameters: Record<string, unknown>;
  readonly lr_sha256: string;
}

/** The content of golden.json. */
export interface Golden {
  readonly hr: number;
  readonly inputs: readonly GoldenInput[];
}

/** SHA-256 in hex; in JavaScript, because `crypto.subtle` exists in secure contexts only. */
export function sha256Hex(data: Uint8Array): string {
  return bytesToHex(sha256(data));
}

/** The first `count` bytes of the linear congruential generator that every client shares. */
export function generatorBytes(seed: number, count: number): Uint8Array {
  const bytes = new Uint8Array(count);
  let state = seed >>> 0;
  for (let index = 0; index < count; index++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes[index] = state >>> 24;
  }
  return bytes;
}

/** One input of side `hr`; `BundleError` for an unknown kind. */
export function goldenInput(kind: string, parameters: Record<string, unknown>, hr: number): Rgb {
  const level = levels(kind, parameters, hr);
  const data = new Uint8Array(3 * hr * hr);
  let at = 0;
  for (let y = 0; y < hr; y++) {
    for (let x = 0; x < hr; x++) {
      for (let channel = 0; channel < 3; channel++) data[at++] = level(x, y, channel);
    }
  }
  return { width: hr, height: hr, data };
}

/** Runs every input of a bundle; returns the names of those whose LR is another. */
export async function checkGolden(golden: Golden, encode: (picture: Rgb) => Promise<Rgb>): Promise<string[]> {
  if (!Array.isArray(golden.inputs) || golden.inputs.length === 0) {
    throw new BundleError("the golden vectors hold no inputs; fetch the bundle again");
  }
  const failed: string[] = [];
  for (const input of golden.inputs) {
    const lr = await encode(goldenInput(input.kind, input.parameters, golden.hr));
    if (sha256Hex(lr.data) !== input.lr_sha256) failed.push(input.name);
  }
  return failed;
}

type Level = (x: number, y: number, channel: number) => number;

function levels(kind: string, parameters: Record<string, unknown>, hr: number): Level {
  const colour = (name: string) => parameters[name] as Colour;
  const whole = (name: string) => parameters[name] as number;
  switch (kind) {
    case "constant": {
      const constant = colour("colour");
      return (_x, _y, channel) => constant[channel];
    }
    case "gradient": {
      const [from, to, axis] = [colour("from"), colour("to"), parameters["axis"]];
      const steps = axis === "diagonal" ? 2 * hr - 2 : hr - 1;
      return (x, y, channel) => {
        const t = axis === "diagonal" ? x + y : axis === "x" ? x : y;
        return Math.floor((from[channel] * (steps - t) + to[channel] * t + (steps >> 1)) / steps);
      };
    }
    case "checkerboard": {
      const [period, first, second] = [whole("period"), colour("first"), colour("second")];
      const cell = (position: number) => Math.floor(position / period);
      return (x, y, channel) => ((cell(x) + cell(y)) % 2 === 0 ? first : second)[channel];
    }
    case "noise": {
      const [block, low, high] = [whole("block"), whole("low"), whole("high")];
      const cells = Math.ceil(hr / block);
      const values = generatorBytes(whole("seed"), 3 * cells * cells);
      return (x, y, channel) => {
        const value = values[3 * (cells * Math.floor(y / block) + Math.floor(x / block)) + channel];
        return low + ((value * (high - low + 1)) >> 8);
      };
    }
    default:
      throw new BundleError(`unknown kind of golden input "${kind}"; update this library`);
  }
}

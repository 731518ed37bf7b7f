/** The golden files all clients share, tests/golden/ of the repository, and the default bundle. */

import { readFileSync } from "node:fs";
import { join } from "node:path";

import type { Bundle } from "../src/bundle";
import { readCoderTables } from "../src/coder_tables";
import type { Fit } from "../src/fit";
import { cutSquare } from "../src/exact_square";
import { exactResize } from "../src/exact_resize";
import { generatorBytes } from "../src/golden_inputs";
import type { OrientedSquare } from "../src/oriented_square";
import type { Rgb } from "../src/rgb";

const REPOSITORY = join(import.meta.dirname, "../../../");

export interface Generated {
  readonly seed: number;
  readonly block: number;
  readonly size: [number, number];
}

export interface PayloadCase extends Partial<Generated> {
  readonly file?: string;
  readonly fit: Fit;
  readonly original_size: [number, number];
  readonly fitted_sha256: string;
  readonly lr: string;
  readonly payload: string;
}

/** Centre x, y and edge x, y in quarters of a pixel. */
export type SquareNumbers = readonly [number, number, number, number];

interface Pasted {
  readonly file: string;
  /** 1, or 6 for a picture that is to be turned clockwise. */
  readonly orientation: number;
  readonly size: [number, number];
  readonly at: [number, number];
}

/** A photograph with its faces, as tests/golden/recorded_faces.py says. */
export interface PhotoCase extends Partial<Generated> {
  readonly name: string;
  readonly every: boolean;
  readonly pasted?: readonly Pasted[];
  readonly file?: string;
  readonly cut?: SquareNumbers;
  readonly side?: number;
  readonly faces: readonly {
    readonly centre: [number, number];
    readonly side: number;
    readonly roll: number;
    readonly yaw: number;
    readonly score: number;
    readonly problems: readonly string[];
    readonly square: SquareNumbers;
  }[];
}

export function readBytes(path: string): Uint8Array {
  return new Uint8Array(readFileSync(REPOSITORY + path));
}

export function readJson<T>(path: string): T {
  return JSON.parse(readFileSync(REPOSITORY + path, "utf8")) as T;
}

export function bytesOf(hex: string): Uint8Array {
  return new Uint8Array(Buffer.from(hex, "hex"));
}

export function hexOf(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}

/** Cells of noise, as tests/golden/regenerate_clients.py says. */
export function generatedLevels({ seed, block, size: [width, height] }: Generated, channels: number): Uint8Array {
  const across = Math.ceil(width / block);
  const cells = generatorBytes(seed, across * Math.ceil(height / block) * channels);
  const data = new Uint8Array(width * height * channels);
  let at = 0;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const cell = channels * (across * Math.floor(y / block) + Math.floor(x / block));
      for (let channel = 0; channel < channels; channel++) data[at++] = cells[cell + channel];
    }
  }
  return data;
}

export function generatedPicture(source: Generated): Rgb {
  return { width: source.size[0], height: source.size[1], data: generatedLevels(source, 3) };
}

/** The picture of a payload case: generated, or the binary PPM it names. */
export function pictureOf(source: Partial<Generated> & { readonly file?: string }): Rgb {
  if (!source.file) return generatedPicture(source as Generated);
  const file = readBytes(`tests/golden/clients/${source.file}`);
  const header = /^P6\n(\d+) (\d+)\n255\n/.exec(Buffer.from(file.subarray(0, 40)).toString("latin1"));
  if (!header) throw new Error(`${source.file} is no PPM`);
  return { width: Number(header[1]), height: Number(header[2]), data: file.subarray(header[0].length) };
}

export function squareOf([x, y, acrossX, acrossY]: SquareNumbers): OrientedSquare {
  return { x, y, acrossX, acrossY };
}

export function photoOf(photo: PhotoCase): Rgb {
  if (photo.cut) return cutSquare(pictureOf(photo), squareOf(photo.cut), photo.side!);
  const { width, height, data } = generatedPicture(photo as Generated);
  for (const { file, orientation, size, at: [left, top] } of photo.pasted!) {
    const upright = orientation === 6 ? turnedClockwise(pictureOf({ file })) : pictureOf({ file });
    const part = exactResize(upright, ...size);
    for (let y = Math.max(0, -top); y < Math.min(part.height, height - top); y++) {
      const first = Math.max(0, -left);
      const row = part.data.subarray(3 * part.width * y).subarray(3 * first, 3 * Math.min(part.width, width - left));
      data.set(row, 3 * (width * (top + y) + left + first));
    }
  }
  return { width, height, data };
}

function turnedClockwise({ width, height, data }: Rgb): Rgb {
  const turned = new Uint8Array(data.length);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const from = 3 * (width * y + x);
      turned.set(data.subarray(from, from + 3), 3 * (height * x + height - 1 - y));
    }
  }
  return { width: height, height: width, data: turned };
}

export function defaultBundle(): Bundle {
  const folder = "bundles/faces-256-lr16-small";
  const manifest = readJson<{ id: string; domain: string; lr_contract_id: string; hr: number; lr: number }>(`${folder}/manifest.json`);
  return {
    id: manifest.id,
    domain: manifest.domain,
    contractId: manifest.lr_contract_id,
    hr: manifest.hr,
    lr: manifest.lr,
    encoder: readBytes(`${folder}/encoder.onnx`),
    tables: readCoderTables(readJson(`${folder}/coder.json`)),
    golden: readJson(`${folder}/golden.json`),
  };
}

/** A picture to search for faces: squares of it are sampled as a network's input, large ones from a reduced copy. */

import { type Outside, reducePicture, sampleSquare } from "./exact_square.js";
import { type Point, rint, UNITS } from "./oriented_square.js";
import type { Rgb } from "./rgb.js";

/** A square of a picture, in pixels: its centre and its upper edge, a vector from its left to its right end. */
export interface Region {
  readonly centre: Point;
  readonly across: Point;
}

/** Least longest side of the reduced copy. */
const WORKING_SIDE = 1024;

export class Photograph {
  private readonly factor: number;
  private readonly reduced: Rgb;

  constructor(readonly rgb: Rgb) {
    this.factor = Math.max(1, Math.floor(Math.max(rgb.width, rgb.height) / WORKING_SIDE));
    this.reduced = reducePicture(rgb, this.factor);
  }

  /** A region with `side` x `side` samples. */
  sample({ centre, across }: Region, side: number, outside: Outside): Rgb {
    const factor = Math.hypot(...across) >= this.factor * side ? this.factor : 1;
    const [x, y, acrossX, acrossY] = [...centre, ...across].map((value) => rint((UNITS * value) / factor));
    return sampleSquare(factor === 1 ? this.rgb : this.reduced, { x, y, acrossX, acrossY }, side, outside);
  }

  contains([x, y]: Point): boolean {
    return x > 0 && y > 0 && x < this.rgb.width && y < this.rgb.height;
  }
}

/** The square around a centre whose upper edge has a direction. */
export function squareAround(centre: Point, [x, y]: Point, side: number): Region {
  const scale = side / Math.hypot(x, y);
  return { centre, across: [scale * x, scale * y] };
}

/** A position in a region, 0 to 1 from its upper left corner, in pixels of the picture. */
export function place({ centre, across }: Region, right: number, down: number): Point {
  const [a, b] = [right - 0.5, down - 0.5];
  return [centre[0] + a * across[0] - b * across[1], centre[1] + a * across[1] + b * across[0]];
}

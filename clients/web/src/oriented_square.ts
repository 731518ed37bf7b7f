/** A square at any angle in a picture, and its encoding (docs/payload.md, "Aligned pictures"). */

import { ImageError, PayloadError } from "./errors.js";
import { readLeb128, writeLeb128 } from "./leb128.js";

/** Pixels from the picture's upper left corner. */
export type Point = readonly [x: number, y: number];

/** Width and height, in pixels. */
export type Size = readonly [width: number, height: number];

/** A square in an upright picture, in quarters of a pixel; x runs right and y down from its upper left corner. */
export interface OrientedSquare {
  /** The centre. */
  readonly x: number;
  readonly y: number;
  /** The upper edge, a vector from its left to its right end, as long as the square's side. */
  readonly acrossX: number;
  readonly acrossY: number;
}

/** Units of a coordinate per pixel. */
export const UNITS = 4;
/** Longest side of a square, in longest sides of the picture. */
const MAX_SIDE_FACTOR = 4;
// Limits of a picture that is framed already: the distance of the centres and the difference of the sides, in sides of
// the picture, and the roll in degrees.
const FRAMED_CENTRE = 0.03;
const FRAMED_SIDE = 0.08;
const FRAMED_ROLL = 4;

/** The side in whole pixels, rounded, at least 1. */
export function squareSide({ acrossX, acrossY }: OrientedSquare): number {
  const doubled = Math.floor(Math.sqrt(4 * (acrossX ** 2 + acrossY ** 2)));
  return Math.max(1, Math.floor((doubled + UNITS) / (2 * UNITS)));
}

/** The upper left, lower left, lower right and upper right corner. */
export function squareCorners({ x, y, acrossX, acrossY }: OrientedSquare): [Point, Point, Point, Point] {
  const corner = (right: number, down: number): Point => [
    (x + (right * acrossX - down * acrossY) / 2) / UNITS, (y + (right * acrossY + down * acrossX) / 2) / UNITS,
  ];
  return [corner(-1, -1), corner(-1, 1), corner(1, 1), corner(1, -1)];
}

/**
 * The square that FFHQ cuts out around a face, of the midpoints of its eyes and of its mouth.
 *
 * Throws `ImageError` if a point is not finite, the face is too small, or its square too large for the picture or
 * outside of it.
 */
export function ffhqSquare(leftEye: Point, rightEye: Point, mouth: Point, size: Size): OrientedSquare {
  if (![...leftEye, ...rightEye, ...mouth].every(Number.isFinite)) {
    throw new ImageError(`the points of a face are finite numbers, got ${[leftEye, rightEye, mouth].join("; ")}`);
  }
  const eyes = [(leftEye[0] + rightEye[0]) / 2, (leftEye[1] + rightEye[1]) / 2];
  const toEye = [rightEye[0] - leftEye[0], rightEye[1] - leftEye[1]];
  const toMouth = [mouth[0] - eyes[0], mouth[1] - eyes[1]];
  // From eye to eye, and from the eyes to the mouth, rotated to that direction.
  const across = [toEye[0] + toMouth[1], toEye[1] - toMouth[0]];
  const length = Math.hypot(...across);
  if (!length) throw new ImageError("the points of the face coincide; it is too small to be aligned");
  const scale = (2 * Math.max(2 * Math.hypot(...toEye), 1.8 * Math.hypot(...toMouth))) / length;
  const square = {
    x: rint(UNITS * (eyes[0] + 0.1 * toMouth[0])),
    y: rint(UNITS * (eyes[1] + 0.1 * toMouth[1])),
    acrossX: rint(UNITS * scale * across[0]),
    acrossY: rint(UNITS * scale * across[1]),
  };
  try {
    checkSquare(square, size);
  } catch (error) {
    throw new ImageError(`the face cannot be aligned: ${(error as Error).message}`);
  }
  return square;
}

/** True for a picture that is already framed like FFHQ's: its face's square is the picture. */
export function isFramed({ x, y, acrossX, acrossY }: OrientedSquare, [width, height]: Size): boolean {
  const side = Math.hypot(acrossX, acrossY) / UNITS;
  return (
    Math.hypot(x / UNITS / width - 0.5, y / UNITS / height - 0.5) <= FRAMED_CENTRE &&
    Math.abs((Math.atan2(acrossY, acrossX) * 180) / Math.PI) <= FRAMED_ROLL &&
    Math.abs(side / width - 1) <= FRAMED_SIDE &&
    Math.abs(side / height - 1) <= FRAMED_SIDE
  );
}

/** The bytes of a square. */
export function writeSquare({ x, y, acrossX, acrossY }: OrientedSquare): number[] {
  return [x, y, zigzag(acrossX), zigzag(acrossY)].flatMap(writeLeb128);
}

/** Reads and checks a square; returns it and the position after it. */
export function readSquare(data: Uint8Array, position: number, end: number, size: Size): [OrientedSquare, number] {
  const values: number[] = [];
  for (const name of ["square's x", "square's y", "square's edge", "square's slope"]) {
    const [value, next] = readLeb128(data, position, end, name);
    values.push(value);
    position = next;
  }
  const [x, y, acrossX, acrossY] = values;
  const square = { x, y, acrossX: unzigzag(acrossX), acrossY: unzigzag(acrossY) };
  checkSquare(square, size);
  return [square, position];
}

/**
 * Throws `PayloadError` unless the square's centre lies in the picture and its side has at least a pixel and at most
 * four times the picture's longest side.
 */
export function checkSquare(square: OrientedSquare, [width, height]: Size): void {
  const { x, y, acrossX, acrossY } = square;
  if (![x, y, acrossX, acrossY].every(Number.isSafeInteger)) {
    throw new PayloadError(`a square has whole quarters of a pixel, got ${[x, y, acrossX, acrossY].join(", ")}`);
  }
  if (x < 0 || y < 0 || x > UNITS * width || y > UNITS * height) {
    const centre = `(${x / UNITS}, ${y / UNITS})`;
    throw new PayloadError(`the square's centre ${centre} lies outside of the picture of ${width} x ${height}`);
  }
  const longest = MAX_SIDE_FACTOR * Math.max(width, height);
  const length = Math.hypot(acrossX, acrossY) / UNITS;
  if (acrossX ** 2 + acrossY ** 2 < UNITS ** 2 || acrossX ** 2 + acrossY ** 2 > (UNITS * longest) ** 2) {
    throw new PayloadError(`the square's side of ${length} pixels must be 1 to ${longest} pixels long`);
  }
}

/** The nearest integer, of two the even one, as numpy rounds. */
export function rint(value: number): number {
  const floor = Math.floor(value);
  const rounded = value - floor === 0.5 ? floor + (floor & 1) : Math.round(value);
  return rounded + 0; // not -0
}

/** Maps 0, -1, 1, -2, 2, ... to 0, 1, 2, 3, 4, ... */
function zigzag(value: number): number {
  return value >= 0 ? 2 * value : -2 * value - 1;
}

function unzigzag(code: number): number {
  return code & 1 ? -(code >> 1) - 1 : code >> 1;
}

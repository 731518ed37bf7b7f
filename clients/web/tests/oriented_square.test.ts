import { describe, expect, test } from "vitest";

import { ImageError, PayloadError } from "../src/errors";
import { cutSquare } from "../src/exact_square";
import { sha256Hex } from "../src/golden_inputs";
import { ffhqSquare, isFramed, type Point, type Size, squareCorners, squareSide } from "../src/oriented_square";
import { generatedPicture, readJson, type SquareNumbers, squareOf } from "./golden";

interface SquareCase {
  readonly seed: number;
  readonly size: [number, number];
  readonly square: SquareNumbers;
  readonly side: number;
  readonly sha256: string;
}

interface PointsCase {
  readonly size: Size;
  readonly left_eye: Point;
  readonly right_eye: Point;
  readonly mouth: Point;
}

const { cases: CASES } = readJson<{ cases: SquareCase[] }>("tests/golden/contract/squares.json");
const { points: POINTS, refused_points: REFUSED_POINTS } = readJson<{
  points: (PointsCase & { square: SquareNumbers; framed: boolean })[];
  refused_points: PointsCase[];
}>("tests/golden/clients/aligned.json");

test.each(CASES)("cuts $square out of $size as pinned", ({ seed, size, square, side, sha256 }) => {
  const cut = cutSquare(generatedPicture({ seed, block: 1, size }), squareOf(square), side);
  expect([cut.width, cut.height]).toEqual([side, side]);
  expect(sha256Hex(cut.data)).toBe(sha256);
});

test("the square of docs/payload.md has a side of 250 pixels and these corners", () => {
  const square = squareOf([1280, 800, 800, 600]);
  expect(squareSide(square)).toBe(250);
  expect(squareCorners(square)).toEqual([[295, 25], [145, 225], [345, 375], [495, 175]]);
});

test.each(POINTS)("the eyes $left_eye, $right_eye and mouth $mouth have this square", (points) => {
  const square = ffhqSquare(points.left_eye, points.right_eye, points.mouth, points.size);
  expect(square).toEqual(squareOf(points.square));
  expect(isFramed(square, points.size)).toBe(points.framed);
});

test.each(REFUSED_POINTS)("the eyes $left_eye, $right_eye and mouth $mouth have none", (points) => {
  expect(() => ffhqSquare(points.left_eye, points.right_eye, points.mouth, points.size)).toThrow(ImageError);
});

test.each([NaN, Infinity])("a point at %s has no square", (x) => {
  expect(() => ffhqSquare([x, 100], [120, 100], [100, 140], [400, 300])).toThrow("finite numbers");
});

test("a square is cut only where a payload can say it", () => {
  const picture = generatedPicture({ seed: 1, block: 1, size: [8, 8] });
  for (const square of [[33, 16, 16, 0], [16, 16, 2, 3], [16, 16, 129, 0], [16.5, 16, 16, 0]] as const) {
    expect(() => cutSquare(picture, squareOf(square), 4)).toThrow(PayloadError);
  }
});

describe("framed like FFHQ's", () => {
  test.each<[boolean, string, SquareNumbers, [number, number]]>([
    [true, "the picture", [512, 512, 1024, 0], [256, 256]],
    [true, "a little beside it", [530, 500, 980, 40], [256, 256]],
    [false, "a smaller one", [512, 512, 920, 0], [256, 256]],
    [false, "a shifted one", [560, 512, 1024, 0], [256, 256]],
    [false, "a turned one", [512, 512, 1020, 80], [256, 256]],
    [false, "a part of a wider picture", [640, 512, 1024, 0], [320, 256]],
  ])("%s: %s", (framed, _name, square, size) => {
    expect(isFramed(squareOf(square), size)).toBe(framed);
  });
});

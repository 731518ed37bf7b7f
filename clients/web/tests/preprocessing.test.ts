import { describe, expect, test } from "vitest";

import { ImageError } from "../src/errors";
import { exactResize } from "../src/exact_resize";
import { contentSize, type Fit, fitPicture, preview } from "../src/fit";
import { generatorBytes, sha256Hex } from "../src/golden_inputs";
import { type Colour, flatten } from "../src/rgb";
import { type Generated, generatedLevels, generatedPicture, readJson } from "./golden";

interface ResizeCase {
  readonly seed: number;
  readonly size: [number, number];
  readonly new_size: [number, number];
  readonly sha256: string;
}

const RESIZES = readJson<{ cases: ResizeCase[] }>("tests/golden/contract/resize.json").cases;
const FITS = readJson<{
  fits: (Generated & { hr: number; fit: Fit; sha256: string })[];
  content_sizes: { size: [number, number]; hr: number; content_size: [number, number] }[];
}>("tests/golden/clients/fits.json");
const TRANSPARENT = readJson<{ pictures: (Generated & { background: Colour; sha256: string })[] }>(
  "tests/golden/clients/transparency.json",
).pictures;

test("the generator is that of Numerical Recipes", () => {
  expect([...generatorBytes(0, 5)]).toEqual([0x3c, 0x47, 0xd1, 0xaa, 0x62]);
});

test.each(RESIZES)("resizes $size to $new_size as pinned", ({ seed, size, new_size, sha256 }) => {
  const resized = exactResize(generatedPicture({ seed, block: 1, size }), ...new_size);
  expect([resized.width, resized.height]).toEqual(new_size);
  expect(sha256Hex(resized.data)).toBe(sha256);
});

test("docs/exact_square.md: 10 and 21 become 16", () => {
  const pair = { width: 2, height: 1, data: Uint8Array.from([10, 10, 10, 21, 21, 21]) };
  expect([...exactResize(pair, 1, 1).data]).toEqual([16, 16, 16]);
});

test.each(FITS.fits)("fits $size by $fit into $hr", (source) => {
  expect(sha256Hex(fitPicture(generatedPicture(source), source.hr, source.fit).data)).toBe(source.sha256);
});

test.each(["pad", "stretch", "crop"] as const)("a preview has the original's aspect: %s", (fit) => {
  const rgb = { width: 6, height: 3, data: Uint8Array.from({ length: 54 }, (_, index) => 3 * index) };
  const sizes = { lrWidth: 4, lrHeight: 4, originalWidth: 6, originalHeight: 3 };
  const header = { version: 2, coding: 0, contract: "", ...sizes, fit } as const;
  const shown = preview({ lr: fitPicture(rgb, 4, fit), header });
  expect([shown.width, shown.height]).toEqual(fit === "crop" ? [4, 4] : [4, 2]);
  if (fit === "pad") expect(shown).toEqual(exactResize(rgb, 4, 2));
});

test.each(FITS.content_sizes)("scales $size to $content_size", ({ size, hr, content_size }) => {
  expect(contentSize(...size, hr)).toEqual(content_size);
});

test.each(TRANSPARENT)("composites $size on $background", (source) => {
  const [width, height] = source.size;
  const rgba = { width, height, data: generatedLevels(source, 4) };
  expect(sha256Hex(flatten(rgba, source.background).data)).toBe(source.sha256);
});

describe("refuses", () => {
  const pixel = { width: 1, height: 1, data: new Uint8Array(3) };

  test.each([0, -1, 1.5, 65536, NaN])("a side of %s", (side) => {
    expect(() => exactResize(pixel, side, 1)).toThrow(ImageError);
  });

  test("pixels that are not as many as the size says", () => {
    expect(() => fitPicture({ ...pixel, width: 2 }, 8)).toThrow("has 6 bytes, got 3");
    expect(() => flatten({ ...pixel, data: new Uint8Array(3) })).toThrow(ImageError);
  });

  test("an unknown fit", () => {
    expect(() => fitPicture(pixel, 8, "zoom" as Fit)).toThrow("unknown fit zoom");
  });
});

import { expect, test } from "vitest";

import { ImageError } from "../src/errors";
import { longerJpeg, pictureFile } from "../src/picture_file";
import { readBytes } from "./golden";

// Decoded pictures are compared with Python's in Chromium: tests/integration/test_demo_page.py.
const bytes = (...parts: (string | number[])[]) =>
  Uint8Array.from(parts.flatMap((part) => (typeof part === "string" ? [...part].map((c) => c.charCodeAt(0)) : part)));
const chunk = (kind: string, ...data: number[]) => bytes([0, 0, 0, data.length], kind, data, [0, 0, 0, 0]);
const png = (...chunks: Uint8Array[]) => bytes([0x89], "PNG\r\n\x1a\n", ...chunks.map((each) => [...each]));
const EXIF = [..."II*\0"].map((c) => c.charCodeAt(0)).concat([8, 0, 0, 0, 1, 0, 0x12, 1, 3, 0, 1, 0, 0, 0, 6, 0, 0, 0]);

test("a JPEG without its end marker gets one", () => {
  const whole = Uint8Array.from(readBytes("edgegrain/demo/portrait.jpg"));
  expect(pictureFile(whole)).toEqual({ orientation: 1, end: whole.length - 2, changed: undefined });
  const { changed, end } = pictureFile(whole.slice(0, -2));
  expect([changed?.length, end]).toEqual([whole.length, whole.length - 2]);
  expect(longerJpeg(whole, whole.length - 2).subarray(-2)).toEqual(whole.subarray(-2));
  const next = longerJpeg(bytes([0xff, 0xd8, 7, 0xff, 0xd2, 7, 0xff, 0xd9]), 6);
  expect([...next].flatMap((byte, at) => (next[at - 1] === 0xff ? [byte] : []))).toEqual([
    0xd8, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xd0, 0xd1, 0xd2, 0xd9,
  ]);
});

test("a JPEG without its last scans is refused", () => {
  const frame = [0xff, 0xc2, 0, 11, 8, 0, 8, 0, 8, 1, 1, 0x11, 0];
  const scan = (last: number, bits: number) => [0xff, 0xda, 0, 8, 1, 1, 0, last && 1, last, bits, 0x7f];
  const jpeg = (...scans: number[][]) => bytes([0xff, 0xd8], frame, ...scans, [0xff, 0xd9]);
  expect(pictureFile(jpeg(scan(0, 0), scan(63, 2), scan(63, 0x21), scan(63, 0x10))).orientation).toBe(1);
  for (const scans of [[scan(0, 0)], [scan(0, 0), scan(63, 2)], [scan(0, 1), scan(63, 0)]]) {
    expect(() => pictureFile(jpeg(...scans))).toThrow("its last scans are missing");
  }
});

test.each([
  ["PNG", (transfer: number) => png(chunk("cICP", 9, transfer, 0, 1))],
  ["AVIF", (transfer: number) => bytes([0, 0, 0, 8], "ftypavif", [0, 0, 0, 19], "colrnclx", [0, 9, 0, transfer, 0, 9, 0])],
])("%s with PQ or HLG is refused", (_format, file) => {
  for (const transfer of [16, 18]) expect(() => pictureFile(file(transfer))).toThrow(ImageError);
  expect(pictureFile(file(13))).toEqual({ orientation: 1 });
});

test("of an animation with a picture for others, that is shown", () => {
  const [animation, frame, data] = [chunk("acTL", 1, 2), chunk("fcTL"), chunk("IDAT", 3)];
  expect(pictureFile(png(animation, data)).changed).toEqual(png(data));
  expect(pictureFile(png(animation, frame, data)).changed).toBeUndefined();
});

test("WebP is turned by its EXIF here only", () => {
  const file = bytes("RIFF", [0, 0, 0, 0], "WEBPVP8 ", [1, 0, 0, 0, 7, 0], "EXIF", [EXIF.length, 0, 0, 0], EXIF);
  const { orientation, changed } = pictureFile(file);
  expect(orientation).toBe(6);
  expect(pictureFile(changed!)).toEqual({ orientation: 1 });
});

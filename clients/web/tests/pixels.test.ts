import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { ImageError } from "../src/errors";
import { readPixels } from "../src/pixels";
import { WHITE } from "../src/rgb";

class FakeImageData {
  constructor(
    readonly colorSpace: string | undefined,
    readonly data: Uint8ClampedArray | Float32Array,
    readonly width = 1,
    readonly height = 1,
  ) {}
}

class FakeBitmap {
  readonly close = vi.fn();
  constructor(
    readonly width = 1,
    readonly height = 1,
  ) {}
}

/** A canvas whose pixel is what the browser has converted. */
class FakeCanvas {
  getContext() {
    const data = Uint8ClampedArray.of(40, 50, 60, 255);
    return { clearRect() {}, drawImage() {}, getImageData: () => ({ data }) };
  }
}

const createImageBitmap = vi.fn();
const BYTES = Uint8ClampedArray.of(10, 20, 30, 255);

beforeEach(() => {
  vi.stubGlobal("ImageData", FakeImageData);
  vi.stubGlobal("ImageBitmap", FakeBitmap);
  vi.stubGlobal("OffscreenCanvas", FakeCanvas);
  vi.stubGlobal("createImageBitmap", createImageBitmap.mockReset().mockImplementation(async () => new FakeBitmap()));
});
afterEach(() => void vi.unstubAllGlobals());

const read = (source: FakeImageData) => readPixels(source as unknown as ImageData, WHITE);

test.each(["srgb", undefined])("levels of the colour space %s are taken as they are", async (space) => {
  expect([...(await read(new FakeImageData(space, BYTES))).data]).toEqual([10, 20, 30]);
  expect(createImageBitmap).not.toHaveBeenCalled();
});

test.each([
  ["display-p3", BYTES],
  ["srgb", Float32Array.of(0.1, 0.2, 0.3, 1)],
])("pixels in %s that are no sRGB bytes are converted by the browser", async (space, data) => {
  expect([...(await read(new FakeImageData(space, data))).data]).toEqual([40, 50, 60]);
  createImageBitmap.mockRejectedValue(new Error("not supported"));
  await expect(read(new FakeImageData(space, data))).rejects.toThrow(
    new ImageError("this browser cannot decode the picture of 1 x 1 pixels: not supported"),
  );
});

test("a file is decoded without options, which older browsers refuse", async () => {
  const file = new Blob(["a picture"]);
  expect([...(await readPixels(file, WHITE)).data]).toEqual([40, 50, 60]);
  expect(createImageBitmap).toHaveBeenCalledExactlyOnceWith(file);
});

test.each([
  [65536, 1],
  [16385, 16384],
])("a picture of %i x %i pixels is refused before memory is allocated", async (width, height) => {
  const bitmap = new FakeBitmap(width, height);
  createImageBitmap.mockResolvedValue(bitmap);
  const reason = new RegExp(`^the picture has ${width} x ${height} pixels; a payload describes at most 268435456`);
  await expect(readPixels(new Blob(), WHITE)).rejects.toThrow(reason);
  expect(bitmap.close).toHaveBeenCalledOnce();
  await expect(read(new FakeImageData("srgb", BYTES, width, height))).rejects.toThrow(ImageError);
});

test.each([undefined, {}, "file.png"])("%s is no picture", async (source) => {
  const reason = `a picture is a File, Blob, ImageBitmap or ImageData, got ${String(source)}`;
  await expect(readPixels(source as never, WHITE)).rejects.toThrow(new ImageError(reason));
});

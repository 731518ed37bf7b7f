import { afterEach, beforeAll, describe, expect, test, vi } from "vitest";

import { compressScene } from "../src/compress_scene";
import { Encoder } from "../src/encoder";
import { BundleError, ImageError } from "../src/errors";
import { cutSquare } from "../src/exact_square";
import { faceProblems, yaw } from "../src/face_check";
import type { DetectedFace } from "../src/face_detector";
import { FaceFinder } from "../src/face_finder";
import { compressFaces, compressLargestFace, findFaces } from "../src/faces";
import { sha256Hex } from "../src/golden_inputs";
import type { Point, Size } from "../src/oriented_square";
import { decodePayload } from "../src/payload";
import type { Rgb } from "../src/rgb";
import { parseScene } from "../src/scene";
import {
  defaultBundle, type Generated, hexOf, type PhotoCase, photoOf, pictureOf, readBytes, readJson, type SquareNumbers,
  squareOf,
} from "./golden";

interface EncodingCase extends Partial<Generated> {
  readonly file?: string;
  readonly square: SquareNumbers;
  readonly fitted_sha256: string;
  readonly payload: string;
}

const { photos: PHOTOS } = readJson<{ photos: PhotoCase[] }>("tests/golden/clients/photos.json");
const { encodings: ENCODINGS } = readJson<{ encodings: EncodingCase[] }>("tests/golden/clients/aligned.json");
const [DETECTOR, LANDMARKS] = ["detector", "landmarks"].map((name) => readBytes(`edge_encoder/faces/face_${name}.onnx`));

let encoder: Encoder;
let finder: FaceFinder;

beforeAll(async () => {
  finder = await FaceFinder.open(DETECTOR, LANDMARKS);
  encoder = await Encoder.open(defaultBundle());
});
afterEach(() => void vi.unstubAllGlobals());

const named = (name: string) => photoOf(PHOTOS.find((photo) => photo.name === name)!);

/** A finder that knows all faces of one photograph: a search takes a second. */
async function searchedOnce(photo: Rgb): Promise<FaceFinder> {
  const found = await finder.find(photo, true);
  return { find: async () => found } as unknown as FaceFinder;
}

test.each(PHOTOS)("finds $name as Python does", async (photo) => {
  const { faces, problems } = await findFaces(finder, photoOf(photo), photo.every);
  expect(problems).toEqual(photo.faces.length ? photo.faces[0].problems : ["none"]);
  expect(faces).toHaveLength(photo.faces.length);
  faces.forEach((face, index) => {
    const expected = photo.faces[index];
    const [left, top, right, bottom] = face.box;
    expect(right - left).toBeCloseTo(bottom - top, 6);
    expect(Math.abs((right - left) / expected.side - 1)).toBeLessThan(0.01);
    expect(Math.hypot((left + right) / 2 - expected.centre[0], (top + bottom) / 2 - expected.centre[1]))
      .toBeLessThan(0.01 * expected.side);
    expect(Math.abs(face.roll - expected.roll)).toBeLessThan(1);
    expect(Math.abs(face.yaw - expected.yaw)).toBeLessThan(1);
    expect(Math.abs(face.score - expected.score)).toBeLessThan(0.01);
    expect(face.problems).toEqual(expected.problems);
    const [x, y, acrossX, acrossY] = expected.square;
    const side = Math.hypot(acrossX, acrossY);
    expect(Math.hypot(face.square!.x - x, face.square!.y - y)).toBeLessThan(0.01 * side);
    expect(Math.hypot(face.square!.acrossX - acrossX, face.square!.acrossY - acrossY)).toBeLessThan(0.01 * side);
  });
});

test.each(ENCODINGS)("encodes the square $square to Python's bytes", async (source) => {
  const picture = pictureOf(source);
  const square = squareOf(source.square);
  expect(sha256Hex(cutSquare(picture, square, encoder.bundle.hr).data)).toBe(source.fitted_sha256);
  const { bytes, header } = await encoder.compressSquare(picture, square);
  expect(hexOf(bytes)).toBe(source.payload);
  expect([header.fit, header.square]).toEqual(["align", square]);
});

test("a photograph's largest face is encoded, or every face, the largest first", async () => {
  const photo = named("two faces");
  const faces = await compressFaces(encoder, finder, photo);
  expect(faces.map(({ header }) => header.fit)).toEqual(["align", "align"]);
  const [largest, small] = faces.map(({ header }) => header.square!.acrossX);
  expect(largest).toBeGreaterThan(small);
  const only = await compressLargestFace(encoder, finder, photo);
  expect(Math.abs(only.header.square!.acrossX / largest - 1)).toBeLessThan(0.01); // another search may have found it
  expect(only.timings.find).toBeGreaterThan(0);
});

test("a picture that is framed like FFHQ's is encoded whole, as ever", async () => {
  const framed = named("a framed face");
  const whole = hexOf((await encoder.compress(framed)).bytes);
  expect(hexOf((await compressLargestFace(encoder, finder, framed)).bytes)).toBe(whole);
  expect((await compressFaces(encoder, finder, framed)).map(({ bytes }) => hexOf(bytes))).toEqual([whole]);
});

test("without a face the error says what else can be done", async () => {
  const empty = named("no face");
  const searched = await searchedOnce(empty);
  for (const encode of [compressLargestFace, compressFaces, compressScene]) {
    await expect(encode(encoder, searched, empty)).rejects.toThrow(/^no face was found .* align: false$/);
    await expect(encode(encoder, searched, empty)).rejects.toThrow(ImageError);
  }
});

describe("the points of an app's own face finder", () => {
  const size: Size = [640, 480];
  const photo = () => named("two faces");

  test("give the payload of their square", async () => {
    const { header, bytes } = await encoder.compressFace(photo(), [290, 210], [350, 214], [318, 280]);
    expect(header.square).toEqual(squareOf([1279, 875, 979, 46]));
    const { lr } = decodePayload(bytes, encoder.bundle);
    expect([lr.width, lr.height, header.originalWidth, header.originalHeight]).toEqual([16, 16, ...size]);
  });

  test.each<[string, Point, Point, Point]>([
    ["not finite", [NaN, 210], [350, 214], [318, 280]],
    ["in one place", [300, 200], [300, 200], [300, 200]],
    ["far outside", [-900, 200], [-800, 200], [-850, 300]],
  ])("are refused where they are %s", async (_name, left, right, mouth) => {
    await expect(encoder.compressFace(photo(), left, right, mouth)).rejects.toThrow(ImageError);
  });
});

describe("a scene", () => {
  /** A canvas that writes WebP files whose frames have as many bytes as the picture has pixels on its longest side. */
  class StubCanvas {
    constructor(readonly width: number, readonly height: number) {}
    getContext() {
      return { createImageData: (width: number, height: number) => ({ data: new Uint8Array(4 * width * height) }),
               putImageData() {} };
    }
    async convertToBlob({ type }: { type: string }): Promise<Blob> {
      const frame = new Uint8Array(Math.max(this.width, this.height));
      frame.set([0, 0, 0, 0x9d, 0x01, 0x2a, this.width & 255, this.width >> 8, this.height & 255, this.height >> 8]);
      const length = new Uint8Array(Uint32Array.of(frame.length).buffer);
      return new Blob(["RIFF....WEBPVP8X\x02\0\0\0..VP8 ", length, frame], { type });
    }
  }

  test("has all faces, and a background of what is left", async () => {
    vi.stubGlobal("OffscreenCanvas", StubCanvas);
    const photo = named("two faces");
    const searched = await searchedOnce(photo);
    const tiny = await compressScene(encoder, searched, photo);
    const { faces, originalSize, background } = parseScene(tiny.bytes);
    expect(originalSize).toEqual([640, 480]);
    expect(faces.map(({ bytes }) => hexOf(bytes))).toEqual(tiny.faces.map(({ bytes }) => hexOf(bytes)));
    expect(background).toHaveLength(20 + 24);
    const alone = tiny.bytes.length - 24;
    for (const [budget, taken] of [[600, 512], [200, 192], [24, 24], [15, 0], [0, 0]]) {
      const scene = await compressScene(encoder, searched, photo, alone + budget);
      expect(scene.bytes).toHaveLength(alone + taken);
    }
    await expect(compressScene(encoder, searched, photo, alone - 1)).rejects.toThrow(ImageError);
  });

  test("has no background where nothing writes WebP", async () => {
    const scene = await compressScene(encoder, finder, named("a framed face"));
    expect(parseScene(scene.bytes)).toMatchObject({ background: undefined, faces: [{ header: { fit: "align" } }] });
  });
});

test("networks that are none are refused", async () => {
  await expect(FaceFinder.open(new Uint8Array(100), LANDMARKS)).rejects.toThrow(BundleError);
});

describe("the limits of a face", () => {
  /** A face whose eyes are 80 pixels apart; its nose is `turned` pixels from the middle. */
  function face({ x = 200, y = 150, side = 200, turned = 0, degrees = 0 } = {}): DetectedFace {
    const [cos, sin] = [Math.cos((degrees * Math.PI) / 180), Math.sin((degrees * Math.PI) / 180)];
    const at = (across: number, down: number): Point => [x + cos * across - sin * down, y + sin * across + cos * down];
    return { centre: [x, y], side, points: [at(-40, -30), at(40, -30), at(turned, 10)], score: 0.9 };
  }

  test.each([
    ["a face from the front", face(), []],
    ["of 32 pixels", face({ side: 32 }), []],
    ["of 31 pixels", face({ side: 31 }), ["too-small"]],
    ["a view from the side", face({ turned: 60 }), ["turned-away"]],
    ["a view from the other side, tilted", face({ turned: -60, degrees: 80 }), ["turned-away"]],
    ["a view a little from the side", face({ turned: 58 }), []],
    ["one third outside", face({ x: 33 }), ["cut-off"]],
    ["one quarter outside", face({ x: 50 }), []],
    ["partly outside at a corner", face({ x: 60, y: 260 }), ["cut-off"]],
  ])("%s", (_name, found, problems) => {
    expect(faceProblems(found, [400, 300])).toEqual(problems);
  });

  test("the yaw is positive towards the picture's right", () => {
    expect(yaw(face({ turned: 30 }))).toBeGreaterThan(20);
  });
});

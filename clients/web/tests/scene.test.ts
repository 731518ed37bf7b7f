import { expect, test } from "vitest";

import { PayloadError } from "../src/errors";
import { parseHeader } from "../src/payload";
import { encodeScene, parseScene, sceneBytes } from "../src/scene";
import { bytesOf, hexOf, readJson } from "./golden";

const { scenes: SCENES, damaged: DAMAGED } = readJson<{
  scenes: { scene: string; original_size: [number, number]; faces: string[]; background_webp: string }[];
  damaged: { name: string; scene: string }[];
}>("tests/golden/contract/scenes.json");

test.each(SCENES)("scene $# is written and read as in Python", (golden) => {
  const faces = golden.faces.map(bytesOf);
  const background = golden.background_webp ? bytesOf(golden.background_webp) : undefined;
  const data = encodeScene(faces, golden.original_size, background);
  expect(hexOf(data)).toBe(golden.scene);
  const scene = parseScene(data);
  expect(scene.originalSize).toEqual(golden.original_size);
  expect(scene.faces.map(({ bytes }) => hexOf(bytes))).toEqual(golden.faces);
  expect(scene.background && hexOf(scene.background)).toBe(golden.background_webp || undefined);
  if (!background) expect(sceneBytes(faces, golden.original_size)).toBe(data.length);
});

test.each(DAMAGED)("refuses a scene: $name", ({ scene }) => {
  expect(() => parseScene(bytesOf(scene))).toThrow(PayloadError);
});

test("a scene is no payload, and a picture of another kind no background", () => {
  expect(() => parseHeader(bytesOf(SCENES[0].scene))).toThrow("this is a scene of several faces");
  const [face] = SCENES[0].faces.map(bytesOf);
  expect(() => encodeScene([face], SCENES[0].original_size, bytesOf("89504e47"))).toThrow(PayloadError);
});

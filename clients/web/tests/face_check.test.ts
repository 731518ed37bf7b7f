import { expect, test } from "vitest";

import { faceProblems } from "../src/face_check";
import type { DetectedFace, Point } from "../src/face_detector";

const PICTURE = { width: 400, height: 300 };

/** A face whose eyes are 80 pixels apart; its nose is `turned` pixels from the middle. */
function face({ x = 200, y = 150, side = 200, turned = 0, degrees = 0 } = {}): DetectedFace {
  const [cos, sin] = [Math.cos((degrees * Math.PI) / 180), Math.sin((degrees * Math.PI) / 180)];
  const place = (across: number, down: number): Point => [x + cos * across - sin * down, y + sin * across + cos * down];
  return { x, y, side, points: [place(-40, -30), place(40, -30), place(turned, 10)], score: 0.9 };
}

test.each([
  ["a face from the front", [face()], []],
  ["no face", [], ["none"]],
  ["a second one of half the size", [face(), face({ x: 350, side: 100 })], ["several"]],
  ["a passer-by", [face(), face({ x: 350, side: 99 })], []],
  ["less than 45 % of the longer side", [face({ side: 179 })], ["too-small"]],
  ["a view from the side", [face({ turned: 60 })], ["turned-away"]],
  ["a view from the other side", [face({ turned: -60 })], ["turned-away"]],
  ["a view a little from the side", [face({ turned: 58 })], []],
  ["turned to the side and in the picture", [face({ turned: -60, degrees: 25 })], ["turned-away", "tilted"]],
  ["tilted a little", [face({ degrees: -19 })], []],
  ["one fifth outside", [face({ x: 60 })], ["cut-off"]],
  ["one twentieth outside", [face({ x: 90 })], []],
  ["partly outside at a corner", [face({ x: 90, y: 230 })], ["cut-off"]],
] as const)("%s", (_, faces, problems) => {
  expect(faceProblems(faces, PICTURE)).toEqual(problems);
});

test("the pixels are those of the original", () => {
  const picture = { width: 30, height: 30 };
  const small = face({ x: 15, y: 15, side: 20 });
  expect(faceProblems([small], picture)).toEqual(["too-small"]);
  expect(faceProblems([small], picture, 2)).toEqual([]);
});

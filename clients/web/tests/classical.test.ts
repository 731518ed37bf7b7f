import { afterEach, expect, test, vi } from "vitest";

import { drawn } from "../page/classical";

afterEach(() => vi.unstubAllGlobals());

test.each([
  ["pad", [0, 0, 7, 4]],
  ["stretch", [0, 0, 7, 4]],
  ["crop", [1, 0, 4, 4]],
] as const)("with %s, that part of a picture is drawn, once, on white", (fit, part) => {
  const steps: unknown[][] = [];
  const context = {
    fillStyle: "black",
    fillRect: (...rectangle: number[]) => steps.push([context.fillStyle, ...rectangle]),
    drawImage: (...drawing: unknown[]) => steps.push(drawing),
  };
  vi.stubGlobal("document", { createElement: () => ({ getContext: () => context }) });
  const picture = { width: 7, height: 4 } as ImageBitmap;
  expect(drawn(picture, 8, 8, fit)).toMatchObject({ width: 8, height: 8 });
  expect(steps).toEqual([["white", 0, 0, 8, 8], [picture, ...part, 0, 0, 8, 8]]);
});

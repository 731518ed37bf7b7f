import { expect, test } from "vitest";

import type { Payload } from "../src/encoder";
import { ImageError } from "../src/errors";
import { compressWithin } from "../src/rate_control";

const picture = new Blob([new Uint8Array(3)]);

/** Clients whose payloads for a limit have these lengths, and the lengths of those that were asked. */
function clients(limit: number, ...lengths: number[]) {
  const asked: number[] = [];
  const found = lengths.map((length) => ({
    compress: async (_source: unknown, _options: unknown, targetBytes?: number) => {
      expect(targetBytes).toBe(limit);
      asked.push(length);
      return { bytes: new Uint8Array(length) } as Payload;
    },
  }));
  return { found, asked };
}

test("the first payload that fits is taken, and later clients are not asked", async () => {
  const { found, asked } = clients(360, 900, 360, 180);
  expect((await compressWithin(found, picture, 360)).bytes.length).toBe(360);
  expect(asked).toEqual([900, 360]);
});

test("a picture that fits nowhere is refused with its smallest size", async () => {
  const { found } = clients(100, 900, 180, 360);
  await expect(compressWithin(found, picture, 100)).rejects.toThrow(
    new ImageError("no quality fits into 100 bytes: the smallest payload of this picture has 180"),
  );
});

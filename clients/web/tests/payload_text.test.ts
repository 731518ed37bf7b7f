import { expect, test } from "vitest";

import { PayloadError } from "../src/errors";
import { payloadFromText, payloadToText } from "../src/payload_text";
import { bytesOf, hexOf, readJson } from "./golden";

interface TextCase {
  readonly bytes: string;
  readonly base64url: string;
  readonly base45: string;
  readonly base64: string;
}

const { texts, refused } = readJson<{ texts: TextCase[]; refused: string[] }>("tests/golden/clients/texts.json");

test.each(texts)("writes the pinned texts and reads them: $base64url", ({ bytes, base64url, base45, base64 }) => {
  expect(payloadToText(bytesOf(bytes))).toBe(base64url);
  expect(payloadToText(bytesOf(bytes), "base45")).toBe(base45);
  const uri = `data:application/vnd.edgegrain;base64,${base64}`;
  for (const text of [base64url, base45, base45.trim(), base64, ` ${base45}\r\n`, uri]) {
    expect(hexOf(payloadFromText(text))).toBe(bytes);
  }
});

test.each(refused)("refuses %j", (text) => {
  expect(() => payloadFromText(text)).toThrow(PayloadError);
});

/** Payloads and scenes as text, docs/sending.md: base64url for most places, base45 (RFC 9285) for QR codes. */

import { PayloadError } from "./errors.js";

/** The beginning of a scene or a payload of version 1, or of a payload of version 2, in each form. */
const BASE64 = /^(7W4|q|r[A-P])/;
const BASE45 = /^(W0U|[\dA-Z $%*+./:-][A-Z $%*]L)/;
const DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:";

export type TextForm = "base64url" | "base45";

/** The bytes of a payload or scene as text. */
export function payloadToText(bytes: Uint8Array, form: TextForm = "base64url"): string {
  let text = "";
  if (form === "base64url") {
    for (const byte of bytes) text += String.fromCharCode(byte);
    return btoa(text).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
  }
  for (let at = 0; at < bytes.length; at += 2) {
    const pair = at + 1 < bytes.length ? 256 * bytes[at] + bytes[at + 1] : bytes[at];
    text += DIGITS[pair % 45] + DIGITS[Math.floor(pair / 45) % 45];
    if (at + 1 < bytes.length) text += DIGITS[Math.floor(pair / 2025)];
  }
  return text;
}

/**
 * The bytes of a text of either form, of standard base64 or of a data URI; else `PayloadError`. Only the form is
 * checked: `parseHeader` and `parseScene` check the bytes.
 */
export function payloadFromText(text: string): Uint8Array<ArrayBuffer> {
  const found = text.trim().replace(/^data:[^,]*,/, "");
  // base45 may begin with one or two spaces, which get lost or have others before them.
  const base45 = [text.trimEnd(), found, ` ${found}`, `  ${found}`].find((candidate) => BASE45.test(candidate));
  try {
    if (BASE64.test(found)) {
      const characters = atob(found.replace(/-/g, "+").replace(/_/g, "/"));
      return Uint8Array.from(characters, (character) => character.charCodeAt(0));
    }
    if (base45 !== undefined) return fromBase45(base45);
  } catch {
    throw new PayloadError("the payload's text was altered or cut off");
  }
  throw new PayloadError(`not a payload's text: it begins with "${found.slice(0, 4)}"`);
}

function fromBase45(text: string): Uint8Array<ArrayBuffer> {
  const bytes: number[] = [];
  for (let at = 0; at < text.length; at += 3) {
    const digits = Array.from(text.slice(at, at + 3), (digit) => DIGITS.indexOf(digit));
    const value = digits.reduceRight((sum, digit) => 45 * sum + digit, 0);
    if (digits.length === 1 || digits.includes(-1) || value >= 256 ** (digits.length - 1)) throw new RangeError();
    if (digits.length === 3) bytes.push(value >> 8);
    bytes.push(value & 255);
  }
  return Uint8Array.from(bytes);
}

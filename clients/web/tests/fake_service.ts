/** A service on a stubbed `fetch`: it lists the default bundle, has its files, and restores when it is told to. */

import { vi } from "vitest";

import { sha256Hex } from "../src/golden_inputs";
import { defaultBundle, readBytes } from "./golden";

export const SERVICE = "https://service.example/below";

export interface Request {
  readonly url: string;
  readonly init: RequestInit;
  readonly answer: (answer: Response | Error) => void;
}

/** Stubs `fetch`; the requests to restore, and the paths of all others. */
export function fakeService(): { readonly requests: Request[]; readonly paths: string[] } {
  const { id, contractId, encoder, hr, lr } = defaultBundle();
  const describe = (name: string, data: Uint8Array) =>
    ({ name, url: `/v1/bundles/${id}/${name}`, size: data.length, sha256: sha256Hex(data) });
  const files = ["coder.json", "golden.json"].map((name) => [name, readBytes(`bundles/${id}/${name}`)] as const);
  const bundle = {
    id, hr, lr, lr_contract_id: contractId,
    preprocessing: { resize: "pillow-bilinear-22bit-width-first", pad: "edge" },
    encoders: [describe("encoder.onnx", encoder)], contract: files.map(([name, data]) => describe(name, data)),
  };
  const requests: Request[] = [];
  const paths: string[] = [];
  vi.stubGlobal("fetch", (url: string, init: RequestInit) => {
    if (init.method === "POST") {
      return new Promise<Response>((resolve, reject) => {
        init.signal!.addEventListener("abort", () => reject(init.signal!.reason as Error));
        const answer = (value: Response | Error) => (value instanceof Error ? reject(value) : resolve(value));
        requests.push({ url, init, answer });
      });
    }
    const path = new URL(url).pathname;
    paths.push(path);
    const other = { ...bundle, lr_contract_id: "0".repeat(64) };
    if (path === "/below/v1/bundles") return Promise.resolve(Response.json([other, bundle]));
    const [, data] = files.find(([name]) => path === `/below/v1/bundles/${id}/${name}`)!;
    return Promise.resolve(new Response(data as BodyInit));
  });
  return { requests, paths };
}

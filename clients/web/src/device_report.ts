/** What a device proves and measures about itself: device-report.json, docs/devices.md. */

import type { Bundle } from "./bundle.js";
import { checkGolden, goldenInput } from "./golden_inputs.js";
import type { Rgb } from "./rgb.js";

/** The content of device-report.json. */
export interface DeviceReport {
  readonly schema: 1;
  readonly platform: "web";
  readonly device: string;
  readonly runtime: string;
  readonly threads: number;
  readonly bundle: string;
  readonly lr_contract_id: string;
  /** Golden inputs that were encoded, and the names of those with another LR. */
  readonly checked: number;
  readonly failed: readonly string[];
  /** Milliseconds for one picture: the network alone. */
  readonly encode_ms: { readonly runs: number; readonly median: number; readonly least: number; readonly most: number };
}

/** Readers of reports take no longer name of a device, and no `|`, which ends a cell of docs/devices.md. */
const LONGEST_NAME = 200;

/** An encoder that is measured; it need not be exact. */
export interface Measured {
  readonly bundle: Bundle;
  encode(picture: Rgb): Promise<Rgb>;
}

/** Runs the golden vectors, then one of them `runs` times, at least once. */
export async function measureDevice(encoder: Measured, threads: number, runs: number): Promise<DeviceReport> {
  const { id, contractId, golden } = encoder.bundle;
  const failed = await checkGolden(golden, (picture) => encoder.encode(picture));
  const last = golden.inputs[golden.inputs.length - 1];
  const picture = goldenInput(last.kind, last.parameters, golden.hr);
  const times: number[] = [];
  for (let run = 0; run < Math.max(1, runs); run++) {
    const start = performance.now();
    await encoder.encode(picture);
    times.push(performance.now() - start);
  }
  times.sort((first, second) => first - second);
  const rounded = (milliseconds: number) => Math.round(milliseconds * 100) / 100;
  return {
    schema: 1,
    platform: "web",
    device: (globalThis.navigator?.userAgent ?? "no browser").replace(/\|/g, " ").slice(0, LONGEST_NAME),
    runtime: "onnxruntime-web, WebAssembly",
    threads,
    bundle: id,
    lr_contract_id: contractId,
    checked: golden.inputs.length,
    failed,
    encode_ms: {
      runs: times.length,
      median: rounded(times[times.length >> 1]),
      least: rounded(times[0]),
      most: rounded(times[times.length - 1]),
    },
  };
}

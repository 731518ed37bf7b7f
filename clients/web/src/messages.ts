/** What page and worker say to each other. */

import type { BundleSource } from "./bundle.js";
import type { DeviceReport } from "./device_report.js";
import type { Payload } from "./encoder.js";
import type { RuntimeOptions } from "./encoder_session.js";
import type { FaceProblem } from "./face_check.js";
import type { Fit } from "./fit.js";
import type { Source } from "./pixels.js";
import type { Colour } from "./rgb.js";

/** What is known of a bundle once it is open. */
export interface BundleInfo {
  readonly id: string;
  readonly contractId: string;
  readonly hr: number;
  readonly lr: number;
  /** Names of the golden vectors that this device has encoded to the right bytes. */
  readonly selfTest: readonly string[];
}

export type Question =
  | { readonly verb: "open"; readonly source: BundleSource; readonly runtime: RuntimeOptions }
  | { readonly verb: "measure"; readonly runs: number }
  | {
      readonly verb: "report";
      readonly source: BundleSource;
      readonly runtime: RuntimeOptions;
      readonly runs: number;
    }
  | { readonly verb: "faces"; readonly source: Blob; readonly fit: Fit; readonly detector: string }
  | { readonly verb: "compress"; readonly source: Source; readonly fit: Fit; readonly background: Colour };

export type Result = BundleInfo | Payload | DeviceReport | readonly FaceProblem[];

export type Request = { readonly id: number } & Question;

export type Answer =
  | { readonly id: number; readonly result: Result }
  | {
      readonly id: number;
      readonly error: { readonly name: string; readonly message: string; readonly status?: number };
    };

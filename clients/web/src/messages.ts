/** What page and worker say to each other. */

import type { BundleSource } from "./bundle.js";
import type { CompressedScene } from "./compress_scene.js";
import type { DeviceReport } from "./device_report.js";
import type { Payload } from "./encoder.js";
import type { FoundFaces } from "./faces.js";
import type { Fit } from "./fit.js";
import type { OrientedSquare } from "./oriented_square.js";
import type { Source } from "./pixels.js";
import type { Colour } from "./rgb.js";
import type { RuntimeOptions } from "./runtime.js";

/** What is known of a bundle once it is open. */
export interface BundleInfo {
  readonly id: string;
  /** What its pictures show: "faces", or another word. */
  readonly domain: string;
  readonly contractId: string;
  readonly hr: number;
  readonly lr: number;
  /** Names of the golden vectors that this device has encoded to the right bytes. */
  readonly selfTest: readonly string[];
}

interface Pictured {
  readonly source: Source;
  /** What shows through transparent pixels. */
  readonly background: Colour;
}

/** A question about a picture. */
export type PictureQuestion =
  | (Pictured & { readonly verb: "find"; readonly every: boolean })
  | (Pictured & {
      readonly verb: "compress";
      readonly align: boolean;
      readonly fit?: Fit;
      readonly square?: OrientedSquare;
      readonly targetBytes?: number;
    })
  | (Pictured & { readonly verb: "compressFaces" })
  | (Pictured & { readonly verb: "compressScene"; readonly maxBytes?: number });

interface Opening {
  readonly source: BundleSource;
  readonly runtime: RuntimeOptions;
  /** URL of the folder with the networks that find faces. */
  readonly faces?: string;
}

export type Question =
  | (Opening & { readonly verb: "open" })
  | (Opening & { readonly verb: "report"; readonly runs: number })
  | { readonly verb: "measure"; readonly runs: number }
  | PictureQuestion;

export type Result = BundleInfo | DeviceReport | FoundFaces | Payload | readonly Payload[] | CompressedScene;

export type Request = { readonly id: number } & Question;

export type Answer =
  | { readonly id: number; readonly result: Result }
  | {
      readonly id: number;
      readonly error: { readonly name: string; readonly message: string; readonly status?: number };
    };

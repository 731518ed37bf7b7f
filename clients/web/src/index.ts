/** Portraits in under a kilobyte, encoded in the browser to the same bytes as everywhere. */

export { type Bundle, type BundleSource, fetchBundle } from "./bundle";
export { compress, type CompressOptions, EdgeClient, type OpenOptions } from "./client";
export { type CoderTables, readCoderTables } from "./coder_tables";
export type { DeviceReport } from "./device_report";
export { Encoder, type Payload, type Timings } from "./encoder";
export type { RuntimeOptions } from "./encoder_session";
export {
  BundleError,
  DeviceError,
  EdgegrainError,
  ImageError,
  PayloadError,
  ServiceError,
  UnreachableError,
} from "./errors";
export { exactResize } from "./exact_resize";
export type { FaceProblem } from "./face_check";
export { type Fit, fitPicture } from "./fit";
export type { BundleInfo } from "./messages";
export { decodePayload, encodePayload, type Header, parseHeader } from "./payload";
export type { Source } from "./pixels";
export { type Colour, flatten, type Rgb, type Rgba } from "./rgb";

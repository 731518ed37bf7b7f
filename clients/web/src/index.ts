/** Portraits in under a kilobyte, encoded in the browser to the same bytes as everywhere. */

export { type Bundle, type BundleSource, fetchBundle } from "./bundle.js";
export { compress, type CompressOptions, EdgeClient, type OpenOptions } from "./client.js";
export { type CoderTables, readCoderTables } from "./coder_tables.js";
export type { DeviceReport } from "./device_report.js";
export { Encoder, type Payload, type Timings } from "./encoder.js";
export type { RuntimeOptions } from "./encoder_session.js";
export {
  BundleError,
  DeviceError,
  EdgegrainError,
  ImageError,
  PayloadError,
  ServiceError,
  UnreachableError,
} from "./errors.js";
export { exactResize } from "./exact_resize.js";
export type { FaceProblem } from "./face_check.js";
export { type Fit, fitPicture } from "./fit.js";
export type { BundleInfo } from "./messages.js";
export { decodePayload, encodePayload, type Header, parseHeader } from "./payload.js";
export type { Source } from "./pixels.js";
export { compressWithin } from "./rate_control.js";
export { type Colour, flatten, type Rgb, type Rgba } from "./rgb.js";

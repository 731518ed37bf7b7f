/** Faces of photographs in under a kilobyte, encoded in the browser to the same bytes as everywhere. */

export { type Bundle, type BundleSource, fetchBundle } from "./bundle.js";
export { compress, type CompressOptions, EdgeClient, type OpenOptions, type PictureOptions } from "./client.js";
export { type CoderTables, type ContractTables, readCoderTables } from "./coder_tables.js";
export { type CompressedScene, compressScene } from "./compress_scene.js";
export type { DeviceReport } from "./device_report.js";
export { Encoder, type Payload, type Timings } from "./encoder.js";
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
export { cutSquare } from "./exact_square.js";
export type { FaceProblem } from "./face_check.js";
export { FaceFinder } from "./face_finder.js";
export { compressFaces, compressLargestFace, type Face, findFaces, type FoundFaces } from "./faces.js";
export { type Fit, fitPicture, preview } from "./fit.js";
export type { BundleInfo } from "./messages.js";
export {
  ffhqSquare, isFramed, type OrientedSquare, type Point, type Size, squareCorners, squareSide,
} from "./oriented_square.js";
export { decodePayload, encodePayload, type Header, parseHeader } from "./payload.js";
export { payloadFromText, payloadToText, type TextForm } from "./payload_text.js";
export type { Source } from "./pixels.js";
export { compressWithin } from "./rate_control.js";
export { type Colour, flatten, type Rgb, type Rgba } from "./rgb.js";
export type { RuntimeOptions } from "./runtime.js";
export { encodeScene, parseScene, type Scene } from "./scene.js";

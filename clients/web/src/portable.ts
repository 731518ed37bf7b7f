/** The public part that needs no browser: all of it is also for React Native, on `runtime_native.ts`. */

export { type Bundle, type BundleSource, fetchBundle } from "./bundle.js";
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
export {
  ffhqSquare, isFramed, type OrientedSquare, type Point, type Size, squareCorners, squareSide,
} from "./oriented_square.js";
export { decodePayload, encodePayload, type Header, parseHeader } from "./payload.js";
export { payloadFromText, payloadToText, type TextForm } from "./payload_text.js";
export { type Colour, flatten, type Rgb, type Rgba } from "./rgb.js";
export type { RuntimeOptions } from "./runtime.js";
export { encodeScene, parseScene, type Scene } from "./scene.js";

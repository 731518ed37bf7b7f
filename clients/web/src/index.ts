/** Faces of photographs in under a kilobyte, encoded in the browser to the same bytes as everywhere. */

export { compress, type CompressOptions, EdgeClient, type OpenOptions, type PictureOptions } from "./client.js";
export type { BundleInfo } from "./messages.js";
export type { Source } from "./pixels.js";
export * from "./portable.js";
export { compressWithin } from "./rate_control.js";

/** The two networks that find faces, loaded from next to this module or from a folder on any web server. */

import { download, type DownloadOptions } from "./download.js";
import { FaceFinder } from "./face_finder.js";

/** Loads both; `folder` is the URL of a folder that has them, by default the bundler's copies are used. */
export async function loadFaceFinder(folder?: string, options: DownloadOptions = {}): Promise<FaceFinder> {
  const urls = folder === undefined
    ? [new URL("./face_detector.onnx", import.meta.url), new URL("./face_landmarks.onnx", import.meta.url)]
    : ["face_detector.onnx", "face_landmarks.onnx"].map((name) => new URL(name, folder));
  const [detector, landmarks] = await Promise.all(urls.map(({ href }) => download(href, "default", options)));
  return FaceFinder.open(detector, landmarks);
}

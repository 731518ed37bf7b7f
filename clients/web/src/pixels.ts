/**
 * From what a page has in its hands to RGB: the browser decodes, turns upright and converts to sRGB.
 *
 * Browsers and Python decode most JPEG files to the same pixels, but nobody promises that; equality of bytes begins at
 * the RGB that comes out here.
 */

import { ImageError } from "./errors.js";
import { MAX_ORIGINAL_PIXELS, MAX_ORIGINAL_SIDE } from "./payload.js";
import { type Colour, flatten, flattenInto, type Rgb } from "./rgb.js";

/** What can be compressed. */
export type Source = ImageBitmap | Blob | ImageData;

/** Rows of at most this many pixels are drawn at once: some browsers have no canvas of more than 16 million. */
const STRIP_PIXELS = 1 << 22;

/** The pixels of a source on a background; `ImageError` if it cannot be decoded or is too large for a payload. */
export async function readPixels(source: Source, background: Colour): Promise<Rgb> {
  if (source instanceof ImageData && hasSrgbBytes(source)) {
    checkSize(source.width, source.height);
    return flatten(source, background);
  }
  if (source instanceof ImageBitmap) return readBitmap(source, background);
  const bitmap = await decode(source);
  try {
    return readBitmap(bitmap, background);
  } finally {
    bitmap.close();
  }
}

/** False for pixels that the browser converts first: of another colour space, such as display-p3, or float16. */
function hasSrgbBytes({ colorSpace = "srgb", data }: ImageData): boolean {
  return colorSpace === "srgb" && data instanceof Uint8ClampedArray;
}

async function decode(source: Blob | ImageData): Promise<ImageBitmap> {
  if (!(source instanceof Blob || source instanceof ImageData)) {
    throw new ImageError(`a picture is a File, Blob, ImageBitmap or ImageData, got ${String(source)}`);
  }
  try {
    // Upright by default: Chrome before 112 and old Safari refuse the option "from-image", which says so.
    return await createImageBitmap(source);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    const size = source instanceof Blob ? `${source.size} bytes` : `${source.width} x ${source.height} pixels`;
    throw new ImageError(`this browser cannot decode the picture of ${size}: ${reason}`);
  }
}

/** Before memory is allocated for the pixels. */
function checkSize(width: number, height: number): void {
  if (Math.max(width, height) > MAX_ORIGINAL_SIDE || width * height > MAX_ORIGINAL_PIXELS) {
    throw new ImageError(
      `the picture has ${width} x ${height} pixels; a payload describes at most ${MAX_ORIGINAL_PIXELS}, ` +
        `with sides of at most ${MAX_ORIGINAL_SIDE}: reduce it first`,
    );
  }
}

function readBitmap(bitmap: ImageBitmap, background: Colour): Rgb {
  const { width, height } = bitmap;
  if (width === 0 || height === 0) throw new ImageError("the picture is empty, or was closed or transferred");
  checkSize(width, height);
  const rows = Math.min(height, Math.max(1, Math.floor(STRIP_PIXELS / width)));
  const canvas = new OffscreenCanvas(width, rows);
  const context = canvas.getContext("2d", { colorSpace: "srgb", willReadFrequently: true });
  if (!context) throw new ImageError("this browser gives no 2D canvas to read pixels from");
  context.imageSmoothingEnabled = false;
  const data = new Uint8Array(3 * width * height);
  for (let top = 0; top < height; top += rows) {
    const count = Math.min(rows, height - top);
    context.clearRect(0, 0, width, rows);
    context.drawImage(bitmap, 0, top, width, count, 0, 0, width, count);
    flattenInto(data, 3 * width * top, context.getImageData(0, 0, width, count).data, background);
  }
  return { width, height, data };
}

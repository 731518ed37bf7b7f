/**
 * From what a page has in its hands to RGB: the browser decodes, turns upright and converts to sRGB.
 *
 * Browsers and Python decode most files to the same pixels, but nobody promises that; equality of bytes begins at the
 * RGB that comes out here.
 */

import { ImageError } from "./errors.js";
import { MAX_ORIGINAL_PIXELS, MAX_ORIGINAL_SIDE } from "./payload.js";
import { longerJpeg, pictureFile } from "./picture_file.js";
import { type Colour, flatten, flattenInto, type Rgb, WHITE } from "./rgb.js";

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
  if (!(source instanceof Blob || source instanceof ImageData)) {
    throw new ImageError(`a picture is a File, Blob, ImageBitmap or ImageData, got ${String(source)}`);
  }
  return readClosing(source instanceof Blob ? await decodeFile(source) : await decode(source), background);
}

/** Decodes a file, upright; `ImageError` if it cannot be decoded, is truncated or an HDR picture. */
export async function decodeFile(file: Blob): Promise<ImageBitmap> {
  const buffer = file.arrayBuffer();
  const data = new Uint8Array(await buffer.catch((error: unknown): never => { throw unreadable(file, error); }));
  const { changed, orientation, end } = pictureFile(data);
  const bitmap = await decode(changed ? new Blob([changed]) : file);
  if (end !== undefined && endsGrey(bitmap)) {
    const pixels = await readClosing(await createImageBitmap(bitmap), WHITE);
    const longer = await readClosing(await decode(new Blob([longerJpeg(changed ?? data, end)])), WHITE);
    if (pixels.data.some((level, index) => level !== longer.data[index])) {
      bitmap.close();
      throw unreadable(file, new Error("it is damaged or truncated, its last pixels are missing"));
    }
  }
  return orientation === 1 ? bitmap : turned(bitmap, orientation);
}

/** True for the grey that decoders put in the place of missing data of a JPEG, or of one in CMYK. */
function endsGrey(bitmap: ImageBitmap): boolean {
  const context = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  context?.drawImage(bitmap, bitmap.width - 1, bitmap.height - 1, 1, 1, 0, 0, 1, 1);
  const levels = [...(context?.getImageData(0, 0, 1, 1).data.subarray(0, 3) ?? [])];
  return [128, 64].some((grey) => levels.every((level) => Math.abs(level - grey) <= 1));
}

/** An upright copy of a bitmap with an EXIF orientation of 2 to 8. */
function turned(bitmap: ImageBitmap, orientation: number): ImageBitmap {
  const { width: w, height: h } = bitmap;
  const canvas = orientation < 5 ? new OffscreenCanvas(w, h) : new OffscreenCanvas(h, w);
  const context = canvas.getContext("2d", { colorSpace: "srgb" })!;
  const transforms: Readonly<Record<number, [number, number, number, number, number, number]>> = {
    2: [-1, 0, 0, 1, w, 0], 3: [-1, 0, 0, -1, w, h], 4: [1, 0, 0, -1, 0, h], 5: [0, 1, 1, 0, 0, 0],
    6: [0, 1, -1, 0, h, 0], 7: [0, -1, -1, 0, h, w], 8: [0, -1, 1, 0, 0, w],
  };
  context.setTransform(...transforms[orientation]);
  context.imageSmoothingEnabled = false;
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return canvas.transferToImageBitmap();
}

async function readClosing(bitmap: ImageBitmap, background: Colour): Promise<Rgb> {
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
  try {
    // Upright by default: Chrome before 112 and old Safari refuse the option "from-image", which says so.
    return await createImageBitmap(source);
  } catch (error) {
    throw unreadable(source, error);
  }
}

function unreadable(source: Blob | ImageData, error: unknown): ImageError {
  const reason = error instanceof Error ? error.message : String(error);
  const size = source instanceof Blob ? `${source.size} bytes` : `${source.width} x ${source.height} pixels`;
  return new ImageError(`this browser cannot decode the picture of ${size}: ${reason}`);
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

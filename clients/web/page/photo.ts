/** The photograph on the page: with the squares of its faces, and with a restored face in its place. */

import { sampleSquare } from "../src/exact_square";
import { type OrientedSquare, squareCorners, squareSide, UNITS } from "../src/oriented_square";
import { decodeFile } from "../src/pixels";
import { flatten, type Rgb } from "../src/rgb";
import { drawn } from "./classical";

/** A photograph, reduced for the screen. */
export interface Photo {
  readonly canvas: HTMLCanvasElement;
  /** Of the photograph itself, upright, in pixels. */
  readonly width: number;
  readonly height: number;
}

const LONGEST_SIDE = 2048;
/** Width of the border in which a face fades into the photograph, in sides of its square. */
const FEATHER = 0.1;
const SVG = "http://www.w3.org/2000/svg";

/** Decodes a photograph for the screen. */
export async function readPhoto(picture: Blob): Promise<Photo> {
  const bitmap = await decodeFile(picture);
  const { width, height } = bitmap;
  const scale = Math.min(1, LONGEST_SIDE / Math.max(width, height));
  const side = (length: number) => Math.max(1, Math.round(scale * length));
  const canvas = drawn(bitmap, side(width), side(height));
  bitmap.close();
  return { canvas, width, height };
}

/**
 * A square of a photograph, `side` x `side` pixels, as the encoder sees it, so with the photograph's edge repeated
 * outside. `picture` may be reduced; `width` is that of the photograph whose coordinates the square has.
 */
export function cutOut(
  picture: ImageBitmap | HTMLCanvasElement, width: number, square: OrientedSquare, side: number,
): HTMLCanvasElement {
  // The part of the picture around the square, reduced to about the result's resolution.
  const reduction = picture.width / width;
  const corners = squareCorners(square).map(([x, y]) => [x * reduction, y * reduction]);
  const [left, right] = ends(corners.map(([x]) => x), picture.width);
  const [top, bottom] = ends(corners.map(([, y]) => y), picture.height);
  const scale = Math.min(1, side / (reduction * squareSide(square)));
  const length = (from: number, to: number) => Math.max(1, Math.round(scale * (to - from)));
  const part = blank(length(left, right), length(top, bottom));
  const context = part.getContext("2d", { willReadFrequently: true })!;
  context.fillStyle = "white"; // as the encoder does
  context.fillRect(0, 0, part.width, part.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, left, top, right - left, bottom - top, 0, 0, part.width, part.height);
  const rgb = flatten(context.getImageData(0, 0, part.width, part.height));

  const units = (value: number, start = 0) => Math.round(scale * (reduction * value - UNITS * start));
  const moved = {
    x: units(square.x, left), y: units(square.y, top), acrossX: units(square.acrossX), acrossY: units(square.acrossY),
  };
  return canvasOf(sampleSquare(rgb, moved, side));
}

/** The photograph with a restored face drawn into its square. */
export function withFace(photo: Photo, face: HTMLCanvasElement, square: OrientedSquare): HTMLCanvasElement {
  const canvas = drawn(photo.canvas, photo.canvas.width, photo.canvas.height);
  const scale = photo.canvas.width / photo.width;
  const side = Math.max(1, Math.min(face.width, Math.round(scale * squareSide(square))));
  const faded = drawn(face, side, side);
  const mask = blank(side);
  mask.getContext("2d")!.putImageData(fade(side), 0, 0);
  const context = faded.getContext("2d")!;
  context.globalCompositeOperation = "destination-in";
  context.drawImage(mask, 0, 0);
  const [[left, top], , , [right, upperRight]] = squareCorners(square);
  const [across, down] = [(scale * (right - left)) / side, (scale * (upperRight - top)) / side];
  const target = canvas.getContext("2d")!;
  target.imageSmoothingQuality = "high";
  target.setTransform(across, down, -down, across, scale * left, scale * top);
  target.drawImage(faded, 0, 0);
  return canvas;
}

/** Draws the outlines of squares over the photograph; a click chooses one. */
export function drawOutlines(
  svg: SVGSVGElement, photo: Photo, squares: readonly OrientedSquare[], choose: (index: number) => void,
): void {
  svg.setAttribute("viewBox", `0 0 ${photo.width} ${photo.height}`);
  svg.replaceChildren(
    ...squares.map((square, index) => {
      const outline = document.createElementNS(SVG, "polygon");
      outline.setAttribute("points", squareCorners(square).map((corner) => corner.join(",")).join(" "));
      outline.addEventListener("click", () => choose(index));
      return outline;
    }),
  );
}

/** A picture on a canvas of its own. */
export function canvasOf({ width, height, data }: Rgb): HTMLCanvasElement {
  const canvas = blank(width, height);
  const image = new ImageData(width, height);
  image.data.fill(255);
  for (let pixel = 0; pixel < width * height; pixel++) image.data.set(data.subarray(3 * pixel, 3 * pixel + 3), 4 * pixel);
  canvas.getContext("2d", { willReadFrequently: true })!.putImageData(image, 0, 0);
  return canvas;
}

function blank(width: number, height = width): HTMLCanvasElement {
  return Object.assign(document.createElement("canvas"), { width, height });
}

/** Whole pixels that cover positions, within a side of a picture. */
function ends(positions: readonly number[], length: number): [number, number] {
  const first = Math.min(length - 1, Math.max(0, Math.floor(Math.min(...positions))));
  return [first, Math.max(first + 1, Math.min(length, Math.ceil(Math.max(...positions))))];
}

/** Opaque in the middle, transparent at the edge, smooth at both ends of the border. */
function fade(side: number): ImageData {
  const image = new ImageData(side, side);
  for (let y = 0, at = 3; y < side; y++) {
    for (let x = 0; x < side; x++, at += 4) {
      const inset = (Math.min(x, y, side - 1 - x, side - 1 - y) + 0.5) / side;
      const ramp = Math.min(1, inset / FEATHER);
      image.data[at] = Math.round(255 * ramp * ramp * (3 - 2 * ramp));
    }
  }
  return image;
}

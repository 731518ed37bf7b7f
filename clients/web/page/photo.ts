/** The photograph on the page: with the squares of its faces, and with a restored face in its place. */

import { type OrientedSquare, type Point, squareCorners, squareSide } from "../src/oriented_square";
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
  const bitmap = await createImageBitmap(picture);
  const { width, height } = bitmap;
  const scale = Math.min(1, LONGEST_SIDE / Math.max(width, height));
  const side = (length: number) => Math.max(1, Math.round(scale * length));
  const canvas = drawn(bitmap, side(width), side(height));
  bitmap.close();
  return { canvas, width, height };
}

/** A square of a photograph, `side` x `side` pixels; `width` is that of the photograph whose coordinates it has. */
export function cutOut(
  picture: ImageBitmap | HTMLCanvasElement, width: number, square: OrientedSquare, side: number,
): HTMLCanvasElement {
  const canvas = blank(side);
  const context = canvas.getContext("2d", { willReadFrequently: true })!;
  context.fillStyle = "white";
  context.fillRect(0, 0, side, side);
  context.imageSmoothingQuality = "high";
  const [[left, top], , , [right, upperRight]] = squareCorners(square);
  const edge = new DOMMatrix([right - left, upperRight - top, top - upperRight, right - left, left, top]);
  const scale = width / picture.width;
  context.setTransform(new DOMMatrix().scale(side).multiply(edge.inverse()).scale(scale));
  context.drawImage(picture, 0, 0);
  return canvas;
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
      outline.setAttribute("points", squareCorners(square).map((corner: Point) => corner.join(",")).join(" "));
      outline.addEventListener("click", () => choose(index));
      return outline;
    }),
  );
}

function blank(side: number): HTMLCanvasElement {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = side;
  return canvas;
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

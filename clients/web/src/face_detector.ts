/**
 * Faces, found by MediaPipe's BlazeFace (Bazarevsky et al., 2019), as `edge_encoder/faces/detection.py` finds them, with
 * two differences: that also searches parts of the picture, for very small faces, and its first look sees mirrored
 * pixels around the picture, this one grey. Faces near an edge can therefore differ in `cut-off`.
 */

import * as ort from "onnxruntime-web/wasm";

/** A face; positions in pixels, left and right as seen in the picture. */
export interface DetectedFace {
  readonly x: number;
  readonly y: number;
  /** Side of its box, from the forehead to the chin. */
  readonly side: number;
  /** Left and right eye, nose, mouth, left and right ear. */
  readonly points: readonly Point[];
  readonly score: number;
}

export type Point = readonly [x: number, y: number];

/** A picture, or what is kept of it. */
export interface Area {
  readonly width: number;
  readonly height: number;
}

const SIDE = 256;
const LEAST_SCORE = 0.5;
const CONFIRMED_SCORE = 0.7;
const SECOND_LOOK = 4.5;
/** Values for each anchor: centre, width and height, six points. */
const VALUES = 16;

/** The network, loaded once; the runtime is that of the encoder. */
export class FaceDetector {
  private readonly canvas = new OffscreenCanvas(SIDE, SIDE);

  private constructor(private readonly session: ort.InferenceSession) {}

  /** Loads the bytes of a face_detector.onnx. */
  static async open(model: Uint8Array): Promise<FaceDetector> {
    return new FaceDetector(await ort.InferenceSession.create(model, { executionProviders: ["wasm"] }));
  }

  /** The faces of a picture, the largest first; of those whose centre is in another's box only that other. */
  async find(picture: OffscreenCanvas): Promise<DetectedFace[]> {
    const [x, y, side] = [picture.width / 2, picture.height / 2, Math.max(picture.width, picture.height)];
    for (const quarters of [0, 1, 3, 2]) {
      const candidates = largestFirst(await this.detect(picture, x, y, (quarters * Math.PI) / 2, side));
      const confirmed: DetectedFace[] = [];
      for (const candidate of candidates) {
        const face = await this.secondLook(picture, candidate);
        if (face) confirmed.push(face);
      }
      if (confirmed.length > 0) return largestFirst(confirmed);
    }
    return [];
  }

  /** The face in the place of a candidate, perhaps upside down; undefined if it is not found again. */
  private async secondLook(picture: OffscreenCanvas, candidate: DetectedFace): Promise<DetectedFace | undefined> {
    const { x, y, side } = candidate;
    let best: DetectedFace | undefined;
    for (const turn of [0, Math.PI]) {
      for (const face of await this.detect(picture, x, y, tilt(candidate) + turn, SECOND_LOOK * side)) {
        if (face.score <= CONFIRMED_SCORE || apart(face, candidate)) continue;
        if (!best || face.score > best.score) best = face;
      }
      if (!best) return undefined;
    }
    return best;
  }

  /** The faces in a square of the picture, rotated clockwise around (x, y). */
  private async detect(
    picture: OffscreenCanvas, x: number, y: number, angle: number, side: number,
  ): Promise<DetectedFace[]> {
    const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
    const image = this.cut(picture, x, y, (cos * SIDE) / side, (sin * SIDE) / side);
    const { scores, points } = await this.session.run({ image });
    const values = points.data as Float32Array;
    const place = (across: number, down: number): Point => {
      const [right, below] = [(across - 0.5) * side, (down - 0.5) * side];
      return [x + cos * right - sin * below, y + sin * right + cos * below];
    };
    const faces: DetectedFace[] = [];
    (scores.data as Float32Array).forEach((score, anchor) => {
      if (score <= LEAST_SCORE) return;
      const row = values.subarray(VALUES * anchor, VALUES * (anchor + 1));
      const [centreX, centreY] = place(row[0], row[1]);
      if (centreX <= 0 || centreY <= 0 || centreX >= picture.width || centreY >= picture.height) return;
      const keypoints = [4, 6, 8, 10, 12, 14].map((at) => place(row[at], row[at + 1]));
      faces.push({ x: centreX, y: centreY, side: Math.max(row[2], row[3]) * side, points: keypoints, score });
    });
    return distinct(faces.sort((first, second) => second.score - first.score));
  }

  /** The square on grey, as the network's input. */
  private cut(picture: OffscreenCanvas, x: number, y: number, cos: number, sin: number): ort.Tensor {
    const context = this.canvas.getContext("2d", { willReadFrequently: true })!;
    context.imageSmoothingQuality = "high";
    context.resetTransform();
    context.fillStyle = "#808080";
    context.fillRect(0, 0, SIDE, SIDE);
    context.setTransform(cos, -sin, sin, cos, SIDE / 2 - cos * x - sin * y, SIDE / 2 + sin * x - cos * y);
    context.drawImage(picture, 0, 0);
    const rgba = context.getImageData(0, 0, SIDE, SIDE).data;
    const rgb = new Uint8Array(3 * SIDE * SIDE);
    for (let from = 0, to = 0; to < rgb.length; from += 4) {
      for (let channel = 0; channel < 3; channel++) rgb[to++] = rgba[from + channel];
    }
    return new ort.Tensor("uint8", rgb, [1, SIDE, SIDE, 3]);
  }
}

/** From the left to the right eye, clockwise, in radians. */
export function tilt({ points: [left, right] }: DetectedFace): number {
  return Math.atan2(right[1] - left[1], right[0] - left[0]);
}

function largestFirst(faces: DetectedFace[]): DetectedFace[] {
  return distinct(faces.sort((first, second) => second.side - first.side));
}

function distinct(faces: DetectedFace[]): DetectedFace[] {
  const kept: DetectedFace[] = [];
  for (const face of faces) if (kept.every((other) => apart(face, other))) kept.push(face);
  return kept;
}

/** True if neither face's centre is in the other's box. */
function apart(face: DetectedFace, other: DetectedFace): boolean {
  return Math.hypot(face.x - other.x, face.y - other.y) > Math.max(face.side, other.side) / 2;
}

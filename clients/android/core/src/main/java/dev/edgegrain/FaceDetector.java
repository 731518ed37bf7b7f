package dev.edgegrain;

import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;

/**
 * The faces of a picture, found by MediaPipe's BlazeFace (Bazarevsky et al., 2019; "back camera": 256 x 256 pixels, 896
 * anchors). The same steps as in Python, edge_encoder/faces/detection.py.
 */
final class FaceDetector {
    static final int SIDE = 256;

    /** Least score of a candidate, as in MediaPipe's graphs. */
    private static final double LEAST_SCORE = 0.5;
    /** Least score of a candidate that is detected a second time. */
    private static final double CONFIRMED_SCORE = 0.7;
    /** Cells per side and anchors per cell, of both layers. */
    private static final int[][] ANCHOR_LAYERS = {{16, 2}, {8, 6}};
    private static final int ANCHORS = 896;
    /** Centre, width and height, and six points of the face: x and y of each. */
    private static final int NUMBERS = 16;
    private static final int POINTS = 6;
    /** Side of the square around a face in which it must be found again, in sides of its box. */
    private static final double SECOND_LOOK = 4.5;
    /** Side of the smallest parts that are searched, in pixels. */
    private static final int LEAST_PART = 512;
    /** Most parts of one size. */
    private static final int MOST_PARTS = 100;

    private final FaceNetwork network;
    private final float[] anchors = anchors();

    FaceDetector(FaceNetwork network) {
        this.network = network;
    }

    /** Groups of squares to search, in order: the whole picture, its halves, the picture turned, smaller parts. */
    static List<List<SearchSquare>> searches(int width, int height) {
        List<List<SearchSquare>> searches = new ArrayList<>();
        double longest = Math.max(width, height);
        double x = width / 2.0;
        double y = height / 2.0;
        List<SearchSquare> whole = new ArrayList<>();
        whole.add(SearchSquare.around(x, y, 1, 0, longest));
        searches.add(whole);
        searches.add(parts(width, height, longest / 2));
        List<SearchSquare> turned = new ArrayList<>();
        for (int[] across : new int[][] {{0, 1}, {0, -1}, {-1, 0}}) {
            turned.add(SearchSquare.around(x, y, across[0], across[1], longest));
        }
        searches.add(turned);
        for (double side = longest / 4; side >= LEAST_PART; side /= 2) {
            List<SearchSquare> parts = parts(width, height, side);
            if (parts.size() > MOST_PARTS) {
                break;
            }
            searches.add(parts);
        }
        return searches;
    }

    /**
     * Confirmed faces in one of these groups, the largest first. Every candidate is searched for again, upright and
     * small in a square of its surroundings: large faces that are turned get a wrong angle at first, and faces of cats and
     * patterns are found, but rarely twice.
     */
    List<DetectedFace> search(Photograph photo, List<SearchSquare> squares) {
        List<DetectedFace> candidates = new ArrayList<>();
        for (SearchSquare square : squares) {
            candidates.addAll(detect(photo, square));
        }
        List<DetectedFace> confirmed = new ArrayList<>();
        for (DetectedFace candidate : DetectedFace.largestFirst(candidates)) {
            DetectedFace face = secondLook(photo, candidate);
            if (face != null) {
                confirmed.add(face);
            }
        }
        return DetectedFace.largestFirst(confirmed);
    }

    /** The face in the place of a candidate, perhaps upside down; null if it is not found again. */
    private DetectedFace secondLook(Photograph photo, DetectedFace candidate) {
        DetectedFace best = null;
        for (int sign = 1; sign >= -1; sign -= 2) {
            SearchSquare square = SearchSquare.around(candidate.x, candidate.y, sign * candidate.acrossX(),
                    sign * candidate.acrossY(), SECOND_LOOK * candidate.side);
            for (DetectedFace face : detect(photo, square)) {
                if (face.score > CONFIRMED_SCORE && !face.isApartFrom(candidate)
                        && (best == null || face.score > best.score)) {
                    best = face;
                }
            }
            if (best == null) {
                return null;
            }
        }
        return best;
    }

    /** The faces in a square of the picture, on grey; of overlapping ones the most confident. */
    private List<DetectedFace> detect(Photograph photo, SearchSquare square) {
        byte[] levels = photo.sample(square, SIDE, true).data;
        float[] input = new float[levels.length];
        for (int index = 0; index < input.length; index++) {
            input[index] = (levels[index] & 255) / 127.5f - 1;
        }
        float[][] outputs = network.run(input);
        float[] regressors = output(outputs, ANCHORS * NUMBERS);
        float[] logits = output(outputs, ANCHORS);
        List<DetectedFace> faces = new ArrayList<>();
        for (int anchor = 0; anchor < ANCHORS; anchor++) {
            double score = sigmoid(logits[anchor]);
            if (!(score > LEAST_SCORE)) {
                continue;
            }
            int at = NUMBERS * anchor;
            double[] centre = placed(square, regressors, at, anchor);
            double side = Math.max(regressors[at + 2], regressors[at + 3]) / (double) SIDE * square.side();
            double[][] points = new double[POINTS][];
            for (int point = 0; point < POINTS; point++) {
                points[point] = placed(square, regressors, at + 4 + 2 * point, anchor);
            }
            DetectedFace face = new DetectedFace(centre[0], centre[1], side, score, points);
            if (side > 0 && (face.acrossX() != 0 || face.acrossY() != 0) && photo.contains(centre[0], centre[1])) {
                faces.add(face);
            }
        }
        faces.sort(Comparator.comparingDouble(face -> -face.score));
        return DetectedFace.distinct(faces);
    }

    /** A position that the network gives in pixels from its anchor, in the picture. */
    private double[] placed(SearchSquare square, float[] regressors, int at, int anchor) {
        return square.place(regressors[at] / (double) SIDE + anchors[2 * anchor],
                regressors[at + 1] / (double) SIDE + anchors[2 * anchor + 1]);
    }

    /** The output of this length. */
    static float[] output(float[][] outputs, int length) {
        for (float[] output : outputs) {
            if (output.length == length) {
                return output;
            }
        }
        throw new DeviceException("a face network gave no output of " + length + " numbers");
    }

    static double sigmoid(double logit) {
        return 1 / (1 + Math.exp(-logit));
    }

    /** Positions of the anchors, x and y from 0 to 1. */
    private static float[] anchors() {
        float[] anchors = new float[2 * ANCHORS];
        int to = 0;
        for (int[] layer : ANCHOR_LAYERS) {
            for (int cell = 0; cell < layer[0] * layer[0]; cell++) {
                for (int count = 0; count < layer[1]; count++) {
                    anchors[to++] = (cell % layer[0] + 0.5f) / layer[0];
                    anchors[to++] = (cell / layer[0] + 0.5f) / layer[0];
                }
            }
        }
        return anchors;
    }

    /** Squares of a side that cover the picture and overlap by a quarter. */
    private static List<SearchSquare> parts(int width, int height, double side) {
        List<SearchSquare> parts = new ArrayList<>();
        for (double y : centres(height, side)) {
            for (double x : centres(width, side)) {
                parts.add(SearchSquare.around(x, y, 1, 0, side));
            }
        }
        return parts;
    }

    private static double[] centres(int length, double side) {
        if (length <= side) {
            return new double[] {length / 2.0};
        }
        double[] centres = new double[Math.max(2, (int) Math.ceil((length - side) / (0.75 * side)) + 1)];
        for (int index = 0; index < centres.length; index++) {
            centres[index] = side / 2 + index * (length - side) / (centres.length - 1);
        }
        return centres;
    }
}

package dev.edgegrain;

import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;

/**
 * Finds the faces of photographs and their eyes and mouths, with two networks of MediaPipe: the detector and Face Mesh
 * (Kartynnik et al., 2019; 468 points on 192 x 192 pixels). The same steps as in Python, edge_encoder/faces/. It owns
 * its networks. For one thread at a time, as they are.
 */
public final class FaceFinder implements AutoCloseable {
    private static final int SIDE = 192;
    private static final int POINTS = 468;
    private static final double LEAST_SCORE = 0.5;
    /** Least presence of a face in the second pass: edge_encoder/faces/alignment.py. */
    private static final double CONFIRMED_PRESENCE = 0.95;
    /** Side of the square for the mesh, in sides of the face's box. */
    private static final double MESH_SCALE = 1.5;
    private static final int[] LEFT_EYE = {33, 160, 158, 133, 153, 144};
    private static final int[] RIGHT_EYE = {362, 385, 387, 263, 373, 380};
    private static final int[] MOUTH = {61, 291};

    private final FaceNetwork detection;
    private final FaceNetwork mesh;
    private final FaceDetector detector;

    /**
     * @param detection {@code face_detection_back.tflite}: [1, 256, 256, 3] in -1 to 1 to [1, 896, 16] and [1, 896, 1]
     * @param mesh {@code face_landmark.tflite}: [1, 192, 192, 3] in 0 to 1 to 1404 numbers and one
     */
    public FaceFinder(FaceNetwork detection, FaceNetwork mesh) {
        this.detection = detection;
        this.mesh = mesh;
        detector = new FaceDetector(detection);
    }

    /** The faces of an upright picture, the largest first. Searches parts of the picture until faces are found. */
    public List<FoundFace> find(Rgb picture) {
        return find(picture, false);
    }

    /** Searches all parts of the picture if {@code every} is true, so that small faces next to large ones are found. */
    public List<FoundFace> find(Rgb picture, boolean every) {
        Photograph photo = new Photograph(picture);
        List<FoundFace> found = new ArrayList<>();
        for (List<SearchSquare> squares : FaceDetector.searches(photo.width, photo.height)) {
            for (DetectedFace detected : detector.search(photo, squares)) {
                if (found.stream().allMatch(other -> detected.isApartFrom(other.detected))) {
                    FoundFace face = points(photo, detected);
                    if (face != null) {
                        found.add(face);
                    }
                }
            }
            if (!found.isEmpty() && !every) {
                break;
            }
        }
        found.sort(Comparator.comparingDouble(face -> -face.detected.side));
        return found;
    }

    /** Closes both networks. */
    @Override
    public void close() {
        try {
            detection.close();
        } finally {
            mesh.close();
        }
    }

    /** Eyes and mouth of a face, or null. The second pass is centred by the first. */
    private FoundFace points(Photograph photo, DetectedFace face) {
        double[][] points = mesh(photo, SearchSquare.around(
                face.x, face.y, face.acrossX(), face.acrossY(), MESH_SCALE * face.side), LEAST_SCORE);
        if (points == null) {
            return null;
        }
        double[] left = mean(points, LEFT_EYE);
        double[] right = mean(points, RIGHT_EYE);
        double acrossX = right[0] - left[0];
        double acrossY = right[1] - left[1];
        double[] rangeX = range(points, 1, 0);
        double[] rangeY = range(points, 0, 1);
        double x = (rangeX[0] + rangeX[1]) / 2;
        double y = (rangeY[0] + rangeY[1]) / 2;
        double length = Math.hypot(acrossX, acrossY);
        if (length == 0 || !photo.contains(x, y)) {
            return null;
        }
        double[] along = range(points, acrossX / length, acrossY / length);
        double[] down = range(points, -acrossY / length, acrossX / length);
        double extent = Math.max(along[1] - along[0], down[1] - down[0]);
        points = mesh(photo, SearchSquare.around(x, y, acrossX, acrossY, MESH_SCALE * extent), CONFIRMED_PRESENCE);
        return points == null ? null
                : new FoundFace(face, mean(points, LEFT_EYE), mean(points, RIGHT_EYE), mean(points, MOUTH));
    }

    /** The points of the face in a square, in the picture's pixels; null below a presence of a face. */
    private double[][] mesh(Photograph photo, SearchSquare square, double least) {
        byte[] levels = photo.sample(square, SIDE, false).data;
        float[] input = new float[levels.length];
        for (int index = 0; index < input.length; index++) {
            input[index] = (levels[index] & 255) / 255f;
        }
        float[][] outputs = mesh.run(input);
        if (!(FaceDetector.sigmoid(FaceDetector.output(outputs, 1)[0]) > least)) {
            return null;
        }
        float[] positions = FaceDetector.output(outputs, 3 * POINTS); // x, y, depth
        double[][] points = new double[POINTS][];
        for (int point = 0; point < POINTS; point++) {
            double u = positions[3 * point] / (double) SIDE;
            double v = positions[3 * point + 1] / (double) SIDE;
            points[point] = square.place(u, v);
        }
        return points;
    }

    private static double[] mean(double[][] points, int[] rows) {
        double[] sum = new double[2];
        for (int row : rows) {
            sum[0] += points[row][0];
            sum[1] += points[row][1];
        }
        return new double[] {sum[0] / rows.length, sum[1] / rows.length};
    }

    /** Least and largest coordinate of the points along a direction of length 1. */
    private static double[] range(double[][] points, double x, double y) {
        double[] range = {Double.POSITIVE_INFINITY, Double.NEGATIVE_INFINITY};
        for (double[] point : points) {
            double along = point[0] * x + point[1] * y;
            range[0] = Math.min(range[0], along);
            range[1] = Math.max(range[1], along);
        }
        return range;
    }
}

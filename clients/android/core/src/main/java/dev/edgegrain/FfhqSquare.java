package dev.edgegrain;

/**
 * The square that FFHQ cuts out around a face (Karras et al., "A Style-Based Generator Architecture for Generative
 * Adversarial Networks", 2019, appendix A).
 */
public final class FfhqSquare {
    // Limits of a picture that is framed already: the distance of the centres and the difference of the sides, in sides
    // of the picture, and the roll in degrees.
    private static final double FRAMED_CENTRE = 0.03;
    private static final double FRAMED_SIDE = 0.08;
    private static final double FRAMED_ROLL = 4;

    private FfhqSquare() {}

    /**
     * The square of a face. All points are x and y in pixels of the upright picture.
     *
     * @param leftEye the eye that is on the left in the picture: the mean of its outline
     * @param rightEye the other one
     * @param mouth the midpoint of the mouth's corners
     * @throws ImageException if a number is not finite, the points coincide, or the square is out of range
     */
    public static OrientedSquare around(double[] leftEye, double[] rightEye, double[] mouth, int width, int height) {
        for (double[] point : new double[][] {leftEye, rightEye, mouth}) {
            if (point.length != 2 || !isFinite(point[0]) || !isFinite(point[1])) {
                throw new ImageException("the points of a face are two finite numbers each");
            }
        }
        double eyesX = (leftEye[0] + rightEye[0]) / 2;
        double eyesY = (leftEye[1] + rightEye[1]) / 2;
        double eyeToEyeX = rightEye[0] - leftEye[0];
        double eyeToEyeY = rightEye[1] - leftEye[1];
        double eyeToMouthX = mouth[0] - eyesX;
        double eyeToMouthY = mouth[1] - eyesY;
        double x = eyeToEyeX + eyeToMouthY; // and the eye to the mouth, rotated to the direction of the eyes
        double y = eyeToEyeY - eyeToMouthX;
        double length = Math.hypot(x, y);
        if (length == 0) {
            throw new ImageException("the points of the face coincide; it is too small to be aligned");
        }
        double half = Math.max(2 * Math.hypot(eyeToEyeX, eyeToEyeY), 1.8 * Math.hypot(eyeToMouthX, eyeToMouthY));
        try {
            return OrientedSquare.nearest(eyesX + 0.1 * eyeToMouthX, eyesY + 0.1 * eyeToMouthY,
                    2 * (x * (half / length)), 2 * (y * (half / length)), width, height);
        } catch (PayloadException error) {
            throw new ImageException("the face cannot be aligned: " + error.getMessage());
        }
    }

    /** True for a picture that is already framed like FFHQ's: the square of its face is the picture. */
    public static boolean isFramed(OrientedSquare square, int width, int height) {
        double units = OrientedSquare.UNITS;
        double side = square.side();
        double roll = Math.toDegrees(Math.atan2(square.acrossY, square.acrossX));
        return Math.hypot(square.x / units / width - 0.5, square.y / units / height - 0.5) <= FRAMED_CENTRE
                && Math.abs(roll) <= FRAMED_ROLL
                && Math.abs(side / width - 1) <= FRAMED_SIDE
                && Math.abs(side / height - 1) <= FRAMED_SIDE;
    }

    private static boolean isFinite(double number) {
        return !Double.isNaN(number) && !Double.isInfinite(number);
    }
}

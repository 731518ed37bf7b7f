package dev.edgegrain;

/** A face with its box and the points by which it is aligned: x and y in pixels, left and right as in the picture. */
public final class FoundFace {
    public final DetectedFace detected;
    /** The mean of the left eye's outline. */
    public final double[] leftEye;
    public final double[] rightEye;
    /** The midpoint of the mouth's corners. */
    public final double[] mouth;

    FoundFace(DetectedFace detected, double[] leftEye, double[] rightEye, double[] mouth) {
        this.detected = detected;
        this.leftEye = leftEye;
        this.rightEye = rightEye;
        this.mouth = mouth;
    }

    /** Its square in the picture that it was found in; throws {@link ImageException} if it cannot be aligned. */
    public OrientedSquare square(int width, int height) {
        return FfhqSquare.around(leftEye, rightEye, mouth, width, height);
    }
}

package dev.edgegrain;

import java.util.ArrayList;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/** A face in a picture; positions are x and y in pixels, left and right as seen in the picture. */
public final class DetectedFace {
    /** Reasons for which a face is not restored well: docs/faces.md has the measurements. */
    public enum Problem {
        TOO_SMALL,
        TURNED_AWAY,
        CUT_OFF
    }

    /** Least side of a face's box, in pixels. */
    static final double LEAST_PIXELS = 32;
    /** Most faces of one search: as many as a scene holds. */
    static final int MOST = 64;
    private static final int LEFT_EYE = 0;
    private static final int RIGHT_EYE = 1;
    private static final int NOSE = 2;
    private static final double LARGEST_YAW = 45;
    private static final double LARGEST_CUT = 0.3;
    /** Distance of the nose's tip from the plane of the eyes, in distances of the eyes. */
    private static final double NOSE_DEPTH = 1 / 1.35;

    /** Centre of its box, which is an upright square from the forehead to the chin. */
    public final double x;
    public final double y;
    /** Side of its box. */
    public final double side;
    /** 0 to 1. */
    public final double score;
    /** Left and right eye, nose, mouth, left and right ear. Hidden ones are estimates. */
    private final double[][] points;

    DetectedFace(double x, double y, double side, double score, double[][] points) {
        this.x = x;
        this.y = y;
        this.side = side;
        this.score = score;
        this.points = points;
    }

    /** x of the vector from the left to the right eye. */
    double acrossX() {
        return points[RIGHT_EYE][0] - points[LEFT_EYE][0];
    }

    double acrossY() {
        return points[RIGHT_EYE][1] - points[LEFT_EYE][1];
    }

    /** Rotation in the picture, clockwise, in degrees from -180 to 180. */
    public double roll() {
        return Math.toDegrees(Math.atan2(acrossY(), acrossX()));
    }

    /** Rotation to the side, in degrees from -90 to 90; positive towards the picture's right. */
    public double yaw() {
        double eyes = Math.hypot(acrossX(), acrossY());
        double noseX = points[NOSE][0] - (points[LEFT_EYE][0] + points[RIGHT_EYE][0]) / 2;
        double noseY = points[NOSE][1] - (points[LEFT_EYE][1] + points[RIGHT_EYE][1]) / 2;
        double offset = (noseX * acrossX() + noseY * acrossY()) / eyes;
        return Math.toDegrees(Math.atan2(offset, NOSE_DEPTH * eyes));
    }

    /** Share of the face's box outside of a picture. */
    public double shareOutside(int width, int height) {
        double seenX = Math.min(x + side / 2, width) - Math.max(x - side / 2, 0);
        double seenY = Math.min(y + side / 2, height) - Math.max(y - side / 2, 0);
        return 1 - Math.max(seenX, 0) * Math.max(seenY, 0) / (side * side);
    }

    /** Problems of the face in a picture, with messages that give advice; empty if there is none. */
    public Map<Problem, String> problems(int width, int height) {
        Map<Problem, String> messages = new LinkedHashMap<>();
        if (side < LEAST_PIXELS) {
            messages.put(Problem.TOO_SMALL, String.format(Locale.ROOT,
                    "the face has a size of %.0f pixels, expected at least %.0f; use a larger picture", side,
                    LEAST_PIXELS));
        }
        if (Math.abs(yaw()) > LARGEST_YAW) {
            messages.put(Problem.TURNED_AWAY, String.format(Locale.ROOT,
                    "the face is turned away by %.0f degrees, expected at most %.0f; use a picture from the front",
                    Math.abs(yaw()), LARGEST_YAW));
        }
        if (shareOutside(width, height) > LARGEST_CUT) {
            messages.put(Problem.CUT_OFF,
                    "the face is cut off by the picture's edge; use a picture that shows all of it");
        }
        return messages;
    }

    /** True if neither face's centre is in the other's box. */
    boolean isApartFrom(DetectedFace other) {
        return Math.hypot(x - other.x, y - other.y) > Math.max(side, other.side) / 2;
    }

    /** The faces by size, without those that overlap a larger one. */
    static List<DetectedFace> largestFirst(List<DetectedFace> faces) {
        List<DetectedFace> sorted = new ArrayList<>(faces);
        sorted.sort(Comparator.comparingDouble(face -> -face.side));
        return distinct(sorted);
    }

    /** The first {@link #MOST} faces without those that overlap an earlier one. */
    static List<DetectedFace> distinct(List<DetectedFace> faces) {
        List<DetectedFace> kept = new ArrayList<>();
        for (DetectedFace face : faces) {
            if (kept.size() < MOST && kept.stream().allMatch(face::isApartFrom)) {
                kept.add(face);
            }
        }
        return kept;
    }
}

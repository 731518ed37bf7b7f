package dev.edgegrain;

import java.io.ByteArrayOutputStream;
import java.util.Locale;

/**
 * A square at any angle in an upright picture, in quarters of a pixel, and its encoding: docs/payload.md, "Aligned
 * pictures". x runs right and y down from the picture's upper left corner.
 */
public final class OrientedSquare {
    /** Units of a coordinate per pixel. */
    public static final int UNITS = 4;
    /** Longest side, in multiples of the picture's longest side. */
    public static final int MAX_SIDE_FACTOR = 4;

    /** x of the centre. */
    public final int x;
    /** y of the centre. */
    public final int y;
    /** x of the upper edge, a vector from its left to its right end, as long as the square's side. */
    public final int acrossX;
    /** y of that vector. */
    public final int acrossY;

    public OrientedSquare(int x, int y, int acrossX, int acrossY) {
        this.x = x;
        this.y = y;
        this.acrossX = acrossX;
        this.acrossY = acrossY;
    }

    /** Rounds a centre and an upper edge in pixels; throws {@link PayloadException} if they are out of range. */
    static OrientedSquare nearest(double x, double y, double acrossX, double acrossY, int width, int height) {
        OrientedSquare square = rounded(x, y, acrossX, acrossY);
        square.check(width, height);
        return square;
    }

    /** As {@link #nearest}, without the check. */
    static OrientedSquare rounded(double x, double y, double acrossX, double acrossY) {
        return new OrientedSquare((int) Math.rint(UNITS * x), (int) Math.rint(UNITS * y),
                (int) Math.rint(UNITS * acrossX), (int) Math.rint(UNITS * acrossY));
    }

    /** The side in pixels. */
    public double side() {
        return Math.hypot(acrossX, acrossY) / UNITS;
    }

    /**
     * Throws {@link PayloadException} if the centre is outside of the picture, or the side shorter than a pixel or
     * longer than four times the picture's longest one.
     */
    public void check(int width, int height) {
        if (x < 0 || y < 0 || x > UNITS * (long) width || y > UNITS * (long) height) {
            throw new PayloadException(String.format(Locale.ROOT,
                    "the square's centre (%s, %s) lies outside of the picture of %d x %d", x / (double) UNITS,
                    y / (double) UNITS, width, height));
        }
        long longest = MAX_SIDE_FACTOR * (long) Math.max(width, height);
        long squared = squaredEdge();
        if (squared < UNITS * UNITS || squared > UNITS * longest * UNITS * longest) {
            throw new PayloadException(String.format(Locale.ROOT,
                    "the square's upper edge (%s, %s) must be 1 to %d pixels long", acrossX / (double) UNITS,
                    acrossY / (double) UNITS, longest));
        }
    }

    /** The squared length of the upper edge, in units. */
    long squaredEdge() {
        return (long) acrossX * acrossX + (long) acrossY * acrossY;
    }

    void write(ByteArrayOutputStream output) {
        Leb128.write(output, x);
        Leb128.write(output, y);
        Leb128.write(output, acrossX << 1 ^ acrossX >> 31); // zigzag: 0, -1, 1, -2 become 0, 1, 2, 3
        Leb128.write(output, acrossY << 1 ^ acrossY >> 31);
    }

    /** Reads and checks a square of a picture of {@code width} x {@code height}. */
    static OrientedSquare read(byte[] data, int[] position, int end, int width, int height) {
        int x = Leb128.read(data, position, end, "square's x");
        int y = Leb128.read(data, position, end, "square's y");
        int edge = Leb128.read(data, position, end, "square's edge");
        int slope = Leb128.read(data, position, end, "square's slope");
        OrientedSquare square = new OrientedSquare(x, y, edge >> 1 ^ -(edge & 1), slope >> 1 ^ -(slope & 1));
        square.check(width, height);
        return square;
    }

    @Override
    public boolean equals(Object object) {
        if (!(object instanceof OrientedSquare)) {
            return false;
        }
        OrientedSquare other = (OrientedSquare) object;
        return x == other.x && y == other.y && acrossX == other.acrossX && acrossY == other.acrossY;
    }

    @Override
    public int hashCode() {
        return 31 * (31 * (31 * x + y) + acrossX) + acrossY;
    }

    @Override
    public String toString() {
        return "[" + x + ", " + y + ", " + acrossX + ", " + acrossY + "]";
    }
}

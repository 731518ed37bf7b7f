package dev.edgegrain;

/** Turns a picture upright by its EXIF orientation. */
public final class Orientation {
    private Orientation() {}

    /** The picture as it is meant to be seen; {@code orientation} is EXIF's 1 to 8, others mean nothing. */
    public static Rgb upright(Rgb rgb, int orientation) {
        if (orientation < 2 || orientation > 8) {
            return rgb;
        }
        Rgb upright = blank(rgb.width, rgb.height, orientation);
        write(rgb, 0, orientation, upright);
        return upright;
    }

    /** A black picture with the upright size of a stored picture of {@code width} x {@code height} pixels. */
    public static Rgb blank(int width, int height, int orientation) {
        byte[] data = new byte[3 * width * height];
        return isTransposed(orientation) ? new Rgb(height, width, data) : new Rgb(width, height, data);
    }

    /**
     * Writes rows of a stored picture to their places in {@code upright}, which {@link #blank} has made for it.
     *
     * @param rows whole rows, as wide as the stored picture
     * @param top the first of these rows in the stored picture, from 0
     */
    public static void write(Rgb rows, int top, int orientation, Rgb upright) {
        boolean transposed = isTransposed(orientation);
        boolean downwards = orientation == 3 || orientation == 4 || orientation == 7 || orientation == 8;
        boolean leftwards = orientation == 2 || orientation == 3 || orientation == 6 || orientation == 7;
        int from = 0;
        for (int row = top; row < top + rows.height; row++) {
            for (int column = 0; column < rows.width; column++) {
                int x = transposed ? row : column;
                int y = transposed ? column : row;
                x = leftwards ? upright.width - 1 - x : x;
                y = downwards ? upright.height - 1 - y : y;
                int to = 3 * (upright.width * y + x);
                upright.data[to] = rows.data[from++];
                upright.data[to + 1] = rows.data[from++];
                upright.data[to + 2] = rows.data[from++];
            }
        }
    }

    private static boolean isTransposed(int orientation) {
        return orientation >= 5 && orientation <= 8;
    }
}

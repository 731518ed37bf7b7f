package dev.edgegrain;

/** Turns a picture upright by its EXIF orientation. */
public final class Orientation {
    private Orientation() {}

    /** The picture as it is meant to be seen; {@code orientation} is EXIF's 1 to 8, others mean nothing. */
    public static Rgb upright(Rgb rgb, int orientation) {
        if (orientation < 2 || orientation > 8) {
            return rgb;
        }
        boolean transposed = orientation >= 5;
        boolean downwards = orientation == 3 || orientation == 4 || orientation == 7 || orientation == 8;
        boolean leftwards = orientation == 2 || orientation == 3 || orientation == 6 || orientation == 7;
        int width = transposed ? rgb.height : rgb.width;
        int height = transposed ? rgb.width : rgb.height;
        byte[] data = new byte[rgb.data.length];
        int at = 0;
        for (int y = 0; y < height; y++) {
            int row = downwards ? height - 1 - y : y;
            for (int x = 0; x < width; x++) {
                int column = leftwards ? width - 1 - x : x;
                int from = 3 * (transposed ? rgb.width * column + row : rgb.width * row + column);
                data[at++] = rgb.data[from];
                data[at++] = rgb.data[from + 1];
                data[at++] = rgb.data[from + 2];
            }
        }
        return new Rgb(width, height, data);
    }
}

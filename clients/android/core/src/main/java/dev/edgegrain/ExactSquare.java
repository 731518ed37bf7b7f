package dev.edgegrain;

/** The exact square, docs/exact_square.md: cut out at any angle, with the same bytes as every other client's. */
public final class ExactSquare {
    /** Samples along a side, per pixel of the result. */
    private static final int OVERSAMPLING = 2;
    private static final int GREY = 128;
    private static final int HALF_PIXEL = 32768;

    private ExactSquare() {}

    /**
     * The pixels of a square; pixels outside of the picture repeat its edge.
     *
     * @param square of this picture, see {@link OrientedSquare#check}
     * @param side of the result, in pixels
     */
    public static Rgb cut(Rgb rgb, OrientedSquare square, int side) {
        return ExactResize.resize(sample(rgb, square, OVERSAMPLING * side, false), side, side);
    }

    /**
     * Samples a square after box reduction by a whole factor.
     *
     * @param samples along each side
     * @param greyOutside pixels outside of the picture are grey, for the face detector; else they repeat its edge
     */
    static Rgb sample(Rgb rgb, OrientedSquare square, int samples, boolean greyOutside) {
        int factor = (int) Math.max(1, squareRoot(square.squaredEdge()) / (4L * samples));
        int width = (rgb.width + factor - 1) / factor;
        int height = (rgb.height + factor - 1) / factor;
        // The reduced picture's part that is read: the samples in the corners bound all others.
        int[] columns = bounds(square.x, square.acrossX, -square.acrossY, samples, factor, width);
        int[] rows = bounds(square.y, square.acrossY, square.acrossX, samples, factor, height);
        Rgb part = rgb;
        if (factor == 1) {
            columns[0] = 0;
            rows[0] = 0;
        } else {
            part = reduce(rgb, factor, columns, rows);
        }
        byte[] data = new byte[3 * samples * samples];
        int to = 0;
        for (int j = 0; j < samples; j++) {
            long b = 2L * j + 1 - samples;
            for (int i = 0; i < samples; i++, to += 3) {
                long a = 2L * i + 1 - samples;
                long px = position(square.x, a * square.acrossX - b * square.acrossY, samples, factor);
                long py = position(square.y, a * square.acrossY + b * square.acrossX, samples, factor);
                if (greyOutside && (isOutside(px, width) || isOutside(py, height))) {
                    data[to] = (byte) GREY;
                    data[to + 1] = (byte) GREY;
                    data[to + 2] = (byte) GREY;
                } else {
                    interpolate(part, columns[0], rows[0], px, py, width, height, data, to);
                }
            }
        }
        return new Rgb(samples, samples, data);
    }

    /** Box reduction: each pixel is the mean of a block, which is smaller at the right and lower edge. */
    static Rgb reduce(Rgb rgb, int factor) {
        if (factor == 1) {
            return rgb;
        }
        int width = (rgb.width + factor - 1) / factor;
        int height = (rgb.height + factor - 1) / factor;
        return reduce(rgb, factor, new int[] {0, width - 1}, new int[] {0, height - 1});
    }

    /** The reduced picture's columns and rows, from the first to the last one. */
    private static Rgb reduce(Rgb rgb, int factor, int[] columns, int[] rows) {
        int width = columns[1] - columns[0] + 1;
        int height = rows[1] - rows[0] + 1;
        byte[] data = new byte[3 * width * height];
        int to = 0;
        for (int row = rows[0]; row <= rows[1]; row++) {
            int top = row * factor;
            int bottom = (int) Math.min((long) top + factor, rgb.height);
            for (int column = columns[0]; column <= columns[1]; column++) {
                int left = column * factor;
                int right = (int) Math.min((long) left + factor, rgb.width);
                long red = 0;
                long green = 0;
                long blue = 0;
                for (int y = top; y < bottom; y++) {
                    int from = 3 * (rgb.width * y + left);
                    for (int x = left; x < right; x++, from += 3) {
                        red += rgb.data[from] & 255;
                        green += rgb.data[from + 1] & 255;
                        blue += rgb.data[from + 2] & 255;
                    }
                }
                long count = (long) (right - left) * (bottom - top);
                data[to++] = mean(red, count);
                data[to++] = mean(green, count);
                data[to++] = mean(blue, count);
            }
        }
        return new Rgb(width, height, data);
    }

    private static byte mean(long sum, long count) {
        return (byte) ((sum + count / 2) * ((1L << 24) / count) >> 24);
    }

    /** The first and the last column, or row, that is read in a picture of {@code length} of them. */
    private static int[] bounds(int centre, int alongA, int alongB, int samples, int factor, int length) {
        long least = Long.MAX_VALUE;
        long most = Long.MIN_VALUE;
        int[] ends = {1 - samples, samples - 1};
        for (int a : ends) {
            for (int b : ends) {
                long pixel = position(centre, (long) a * alongA + (long) b * alongB, samples, factor) >> 16;
                least = Math.min(least, pixel);
                most = Math.max(most, pixel + 1);
            }
        }
        return new int[] {clamp(least, length), clamp(most, length)};
    }

    /** A position in 1/65536 pixel of the reduced picture, from its first pixel's middle. */
    private static long position(int centre, long offset, int samples, int factor) {
        long divisor = (long) samples * factor;
        return Math.floorDiv(8192 * (2L * samples * centre + offset), divisor) - HALF_PIXEL;
    }

    private static boolean isOutside(long position, int length) {
        return position < -HALF_PIXEL || position >= ((long) length << 16) - HALF_PIXEL;
    }

    /** Writes the level between four pixels, with weights of 8 bits; the part begins at {@code left}, {@code top}. */
    private static void interpolate(
            Rgb part, int left, int top, long px, long py, int width, int height, byte[] data, int to) {
        int p = (int) (px >> 8) & 255;
        int q = (int) (py >> 8) & 255;
        int first = clamp(px >> 16, width) - left;
        int second = clamp((px >> 16) + 1, width) - left;
        int upper = (clamp(py >> 16, height) - top) * part.width;
        int lower = (clamp((py >> 16) + 1, height) - top) * part.width;
        byte[] from = part.data;
        for (int channel = 0; channel < 3; channel++) {
            int above = (from[3 * (upper + first) + channel] & 255) * (256 - p)
                    + (from[3 * (upper + second) + channel] & 255) * p;
            int below = (from[3 * (lower + first) + channel] & 255) * (256 - p)
                    + (from[3 * (lower + second) + channel] & 255) * p;
            data[to + channel] = (byte) (above * (256 - q) + below * q + HALF_PIXEL >> 16);
        }
    }

    private static int clamp(long position, int length) {
        return (int) Math.max(0, Math.min(position, length - 1));
    }

    /** The integer square root. */
    private static long squareRoot(long number) {
        long root = (long) Math.sqrt(number);
        while (root * root > number) {
            root--;
        }
        while ((root + 1) * (root + 1) <= number) {
            root++;
        }
        return root;
    }
}

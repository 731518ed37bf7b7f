package dev.edgegrain;

import java.util.Arrays;

/**
 * The exact resize, docs/exact_square.md: the same bytes as every other client's.
 *
 * <p>A triangle filter, widened when shrinking, with weights in 22-bit fixed point; width first, then height, each pass
 * rounded to 8 bits.
 */
public final class ExactResize {
    /** Longest side, in pixels, before and after. */
    public static final int MAX_SIDE = 65535;

    private static final int HALF = 1 << 21;

    /** First input position of every output position. */
    private final int[] first;
    /** Weights of every output position, in units of 2^-22; their sums with levels stay below 2^31. */
    private final int[][] weights;

    private ExactResize(int before, int after) {
        first = new int[after];
        weights = new int[after][];
        long half = Math.max(before, after);
        int taps = (int) (2 * ((half + after - 1) / after) + 1);
        for (int position = 0; position < after; position++) {
            long centre = (2L * position + 1) * before;
            long start = Math.floorDiv(centre - 2 * half, 2L * after);
            first[position] = (int) Math.max(0, start);
            long[] heights = new long[(int) Math.min(before, start + taps) - first[position]];
            long sum = 0;
            for (int tap = 0; tap < heights.length; tap++) {
                long distance = Math.abs((2L * (first[position] + tap) + 1) * after - centre);
                heights[tap] = Math.max(0, 2 * half - distance);
                sum += heights[tap];
            }
            weights[position] = new int[heights.length];
            for (int tap = 0; tap < heights.length; tap++) {
                weights[position][tap] = (int) (((heights[tap] << 23) + sum) / (2 * sum));
            }
        }
    }

    /** Resizes a picture; throws {@link ImageException} if a side is not 1 to 65,535. */
    public static Rgb resize(Rgb rgb, int width, int height) {
        for (int side : new int[] {rgb.width, rgb.height, width, height}) {
            if (side < 1 || side > MAX_SIDE) {
                throw new ImageException("the exact resize takes sides of 1 to " + MAX_SIDE + " pixels, got " + side);
            }
        }
        Rgb narrowed = rgb.width == width ? rgb : new ExactResize(rgb.width, width).resizeWidth(rgb);
        return rgb.height == height ? narrowed : new ExactResize(rgb.height, height).resizeHeight(narrowed);
    }

    private Rgb resizeWidth(Rgb rgb) {
        int width = first.length;
        byte[] data = new byte[3 * width * rgb.height];
        int target = 0;
        for (int y = 0; y < rgb.height; y++) {
            for (int x = 0; x < width; x++) {
                int red = HALF;
                int green = HALF;
                int blue = HALF;
                int from = 3 * (rgb.width * y + first[x]);
                for (int weight : weights[x]) {
                    red += weight * (rgb.data[from++] & 255);
                    green += weight * (rgb.data[from++] & 255);
                    blue += weight * (rgb.data[from++] & 255);
                }
                data[target++] = level(red);
                data[target++] = level(green);
                data[target++] = level(blue);
            }
        }
        return new Rgb(width, rgb.height, data);
    }

    private Rgb resizeHeight(Rgb rgb) {
        int height = first.length;
        int row = 3 * rgb.width;
        byte[] data = new byte[row * height];
        int[] sums = new int[row];
        for (int y = 0; y < height; y++) {
            Arrays.fill(sums, HALF);
            int from = row * first[y];
            for (int weight : weights[y]) {
                for (int index = 0; index < row; index++) {
                    sums[index] += weight * (rgb.data[from++] & 255);
                }
            }
            for (int index = 0; index < row; index++) {
                data[row * y + index] = level(sums[index]);
            }
        }
        return new Rgb(rgb.width, height, data);
    }

    private static byte level(int sum) {
        return (byte) Math.min(sum >> 22, 255);
    }
}

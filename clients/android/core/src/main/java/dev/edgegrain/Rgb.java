package dev.edgegrain;

/** A picture: 8-bit RGB, upright, sRGB, {@code 3 * width * height} bytes in reading order. */
public final class Rgb {
    /** White, the background that shows through transparent pixels unless another one is named. */
    public static final int WHITE = 0xffffff;

    public final int width;
    public final int height;
    /** R, G, B of each pixel; not copied. */
    public final byte[] data;

    /** Throws {@link ImageException} if there are not as many bytes as the size says. */
    public Rgb(int width, int height, byte[] data) {
        if (width < 1 || height < 1 || 3L * width * height != data.length) {
            throw new ImageException(
                    "an RGB picture of " + width + " x " + height + " has " + 3L * width * height + " bytes, got "
                            + data.length);
        }
        this.width = width;
        this.height = height;
        this.data = data;
    }

    /**
     * Composites pixels with straight alpha on a background, with the rounding that Python's client has (Pillow's
     * {@code paste}).
     *
     * @param argb pixels in reading order, {@code 0xAARRGGBB}, as {@code Bitmap.getPixels} gives them
     * @param background {@code 0xRRGGBB}
     */
    public static Rgb flatten(int width, int height, int[] argb, int background) {
        if ((long) width * height != argb.length) {
            throw new ImageException(width + " x " + height + " pixels expected, got " + argb.length);
        }
        byte[] data = new byte[3 * argb.length];
        int at = 0;
        for (int pixel : argb) {
            int alpha = pixel >>> 24;
            for (int shift = 16; shift >= 0; shift -= 8) {
                int level = pixel >> shift & 255;
                int sum = level * alpha + (background >> shift & 255) * (255 - alpha) + 128;
                data[at++] = (byte) (alpha == 255 ? level : (sum >> 8) + sum >> 8);
            }
        }
        return new Rgb(width, height, data);
    }
}

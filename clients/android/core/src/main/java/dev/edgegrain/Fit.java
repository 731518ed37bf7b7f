package dev.edgegrain;

/** How a picture comes to the encoder's square; the order is the code on the wire. */
public enum Fit {
    /** Padded at its edges; the original's size and aspect come back. */
    PAD,
    /** Stretched; the original's size and aspect come back. */
    STRETCH,
    /** Cut to its centre square, which comes back. */
    CROP,
    /** A square at any angle was cut out, see {@link ExactSquare}; it comes back. */
    ALIGN;

    /** Width and height of a picture scaled so that its longest side has {@code hr} pixels, halves up, at least 1. */
    public static int[] contentSize(int width, int height, int hr) {
        return new int[] {scaled(width, Math.max(width, height), hr), scaled(height, Math.max(width, height), hr)};
    }

    /**
     * Brings a picture to {@code hr} x {@code hr} pixels, in integers only. Throws {@link ImageException} for
     * {@link #ALIGN}, which needs a square: {@link EdgeEncoder#compressSquare}.
     */
    public Rgb apply(Rgb rgb, int hr) {
        switch (this) {
            case STRETCH:
                return ExactResize.resize(rgb, hr, hr);
            case CROP:
                int side = Math.min(rgb.width, rgb.height);
                return ExactResize.resize(centre(rgb, side, side), hr, hr);
            case ALIGN:
                throw new ImageException(
                        "the fit ALIGN needs a square; use compressPhoto, compressFace or compressSquare");
            default:
                int[] size = contentSize(rgb.width, rgb.height, hr);
                return padded(ExactResize.resize(rgb, size[0], size[1]), hr);
        }
    }

    private static int scaled(int side, int longest, int hr) {
        return (int) Math.max(1, (2L * side * hr + longest) / (2L * longest));
    }

    /** The part of a fitted picture, here an LR, that shows an original of this size, in the original's aspect. */
    Rgb undo(Rgb fitted, int width, int height) {
        if (this == CROP || this == ALIGN) {
            return fitted;
        }
        int[] size = contentSize(width, height, fitted.width);
        return this == STRETCH ? ExactResize.resize(fitted, size[0], size[1]) : centre(fitted, size[0], size[1]);
    }

    private static Rgb centre(Rgb rgb, int width, int height) {
        int left = (rgb.width - width) / 2;
        int top = (rgb.height - height) / 2;
        byte[] data = new byte[3 * width * height];
        for (int y = 0; y < height; y++) {
            System.arraycopy(rgb.data, 3 * ((top + y) * rgb.width + left), data, 3 * width * y, 3 * width);
        }
        return new Rgb(width, height, data);
    }

    /** Repeats the edge pixels: half of what is missing, rounded down, comes before the picture. */
    private static Rgb padded(Rgb content, int side) {
        int left = (side - content.width) / 2;
        int top = (side - content.height) / 2;
        byte[] data = new byte[3 * side * side];
        int target = 0;
        for (int y = 0; y < side; y++) {
            int row = Math.min(Math.max(y - top, 0), content.height - 1) * content.width;
            for (int x = 0; x < side; x++) {
                int from = 3 * (row + Math.min(Math.max(x - left, 0), content.width - 1));
                data[target++] = content.data[from];
                data[target++] = content.data[from + 1];
                data[target++] = content.data[from + 2];
            }
        }
        return new Rgb(side, side, data);
    }
}

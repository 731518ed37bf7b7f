package dev.edgegrain;

/** A picture to search: squares of it are sampled as a network's input, large ones from a reduced copy. */
final class Photograph {
    /** Least longest side of the reduced copy. */
    private static final int WORKING_SIDE = 1024;

    final int width;
    final int height;
    private final Rgb rgb;
    private final int factor;
    private final Rgb reduced;

    Photograph(Rgb rgb) {
        this.rgb = rgb;
        width = rgb.width;
        height = rgb.height;
        factor = Math.max(1, Math.max(width, height) / WORKING_SIDE);
        reduced = ExactSquare.reduce(rgb, factor);
    }

    /** The pixels of a square; outside of the picture they are grey, or repeat its edge. */
    Rgb sample(SearchSquare square, int side, boolean greyOutside) {
        int reduction = square.side() >= (double) factor * side ? factor : 1;
        OrientedSquare rounded = OrientedSquare.rounded(square.x / reduction, square.y / reduction,
                square.acrossX / reduction, square.acrossY / reduction);
        return ExactSquare.sample(reduction == 1 ? rgb : reduced, rounded, side, greyOutside);
    }

    boolean contains(double x, double y) {
        return x > 0 && y > 0 && x < width && y < height;
    }
}

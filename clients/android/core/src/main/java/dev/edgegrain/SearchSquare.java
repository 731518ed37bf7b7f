package dev.edgegrain;

/** A square of a picture at any angle, in pixels and not rounded: the part that a face network looks at. */
final class SearchSquare {
    /** x and y of the centre. */
    final double x;
    final double y;
    /** The upper edge, from its left to its right end. */
    final double acrossX;
    final double acrossY;

    private SearchSquare(double x, double y, double acrossX, double acrossY) {
        this.x = x;
        this.y = y;
        this.acrossX = acrossX;
        this.acrossY = acrossY;
    }

    /** A square whose upper edge has a direction, of any length but 0. */
    static SearchSquare around(double x, double y, double directionX, double directionY, double side) {
        double scale = side / Math.hypot(directionX, directionY);
        return new SearchSquare(x, y, directionX * scale, directionY * scale);
    }

    double side() {
        return Math.hypot(acrossX, acrossY);
    }

    /** x and y in the picture of a position in the square, 0 to 1 from its upper left corner. */
    double[] place(double u, double v) {
        return new double[] {
            x + (u - 0.5) * acrossX - (v - 0.5) * acrossY, y + (u - 0.5) * acrossY + (v - 0.5) * acrossX
        };
    }
}

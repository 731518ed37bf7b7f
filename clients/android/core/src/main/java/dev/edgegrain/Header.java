package dev.edgegrain;

/** What a payload says about itself; every field was checked against its range. */
public final class Header {
    /** 1 or 2. */
    public final int version;
    /** 0: the LR's bytes; 1: the range coder. */
    public final int coding;
    /** The first bytes of the LR contract id, in hex: four in version 1, two in version 2. */
    public final String contract;
    public final int lrWidth;
    public final int lrHeight;
    public final int originalWidth;
    public final int originalHeight;
    public final Fit fit;
    /** The square that was cut out of the original; null unless the fit is {@link Fit#ALIGN}. */
    public final OrientedSquare square;

    Header(
            int version, int coding, String contract, int[] lrSize, int[] originalSize, Fit fit,
            OrientedSquare square) {
        this.version = version;
        this.coding = coding;
        this.contract = contract;
        this.lrWidth = lrSize[0];
        this.lrHeight = lrSize[1];
        this.originalWidth = originalSize[0];
        this.originalHeight = originalSize[1];
        this.fit = fit;
        this.square = square;
    }
}

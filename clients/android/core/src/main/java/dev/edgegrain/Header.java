package dev.edgegrain;

/** What a payload says about itself; every field was checked against its range. */
public final class Header {
    /** 0: the LR's bytes; 1: the range coder. */
    public final int coding;
    /** The first four bytes of the LR contract id, in hex. */
    public final String contract;
    public final int lrWidth;
    public final int lrHeight;
    public final int originalWidth;
    public final int originalHeight;
    public final Fit fit;
    /** The square that was cut out of the original; null unless the fit is {@link Fit#ALIGN}. */
    public final OrientedSquare square;

    Header(int coding, String contract, int[] lrSize, int[] originalSize, Fit fit, OrientedSquare square) {
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

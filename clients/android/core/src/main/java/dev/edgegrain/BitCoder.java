package dev.edgegrain;

/** An arithmetic encoder or decoder of single decisions. */
interface BitCoder {
    /**
     * Encodes {@code bit} and returns it, or decodes the next decision, whatever {@code bit} is.
     *
     * @param probability of a true one, 1 to 65535, in units of 2^-16
     */
    boolean code(boolean bit, int probability);
}

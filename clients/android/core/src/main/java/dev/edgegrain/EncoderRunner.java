package dev.edgegrain;

/** Runs a bundle's encoder: on a phone LiteRT does, see {@code dev.edgegrain.litert.LiteRtRunner}. */
public interface EncoderRunner extends AutoCloseable {
    /** The LR of a square picture of the bundle's {@code hr}. */
    Rgb encode(Rgb picture);

    /** Frees what the runner holds; nothing by default. */
    @Override
    default void close() {}
}

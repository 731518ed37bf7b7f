package dev.edgegrain;

/** Runs one of the face finder's TFLite files: on a phone LiteRT does, see {@code dev.edgegrain.litert.LiteRtFaces}. */
public interface FaceNetwork extends AutoCloseable {
    /**
     * The outputs, in any order.
     *
     * @param input R, G, B of each pixel in reading order, in the network's range
     */
    float[][] run(float[] input);

    /** Frees what the network holds; nothing by default. */
    @Override
    default void close() {}
}

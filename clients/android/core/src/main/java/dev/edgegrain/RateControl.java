package dev.edgegrain;

import java.util.List;

/** One picture, several qualities: the first payload that is small enough. */
public final class RateControl {
    private RateControl() {}

    /** Compresses one picture with the given encoder. */
    public interface Attempt {
        Payload compress(EdgeEncoder encoder);
    }

    /**
     * The first payload of at most {@code maxBytes}, of all rates of all encoders; {@link ImageException} if there is
     * none. An encoder runs once for all its rates.
     *
     * <pre>{@code
     * Payload payload = RateControl.firstWithin(
     *         500, Arrays.asList(medium, small), encoder -> encoder.compressPhoto(photo, finder));
     * }</pre>
     *
     * @param encoders best quality first; those after the first that fits do not run.
     */
    public static Payload firstWithin(int maxBytes, List<EdgeEncoder> encoders, Attempt attempt) {
        int smallest = Integer.MAX_VALUE;
        for (EdgeEncoder encoder : encoders) {
            Payload payload = attempt.compress(encoder.within(maxBytes));
            int length = payload.bytes().length;
            if (length <= maxBytes) {
                return payload;
            }
            smallest = Math.min(smallest, length);
        }
        throw new ImageException("no quality fits into " + maxBytes
                + " bytes: the smallest payload of this picture has " + smallest);
    }
}

package dev.edgegrain;

import java.util.List;

/** One picture, several qualities: the first payload that is small enough. */
public final class RateControl {
    private RateControl() {}

    /** Compresses one picture with one encoder. */
    public interface Attempt {
        Payload compress();
    }

    /**
     * The first payload of at most {@code maxBytes}; {@link ImageException} if there is none.
     *
     * <pre>{@code
     * Payload payload = RateControl.firstWithin(500, Arrays.asList(
     *         () -> medium.compressPhoto(photo, finder), () -> small.compressPhoto(photo, finder)));
     * }</pre>
     *
     * @param attempts best quality first; those after the first that fits do not run.
     */
    public static Payload firstWithin(int maxBytes, List<Attempt> attempts) {
        int smallest = Integer.MAX_VALUE;
        for (Attempt attempt : attempts) {
            Payload payload = attempt.compress();
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

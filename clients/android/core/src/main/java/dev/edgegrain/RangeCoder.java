package dev.edgegrain;

import java.io.ByteArrayOutputStream;
import java.util.Arrays;

/** The range coder of docs/lr_coder.md: an interval of 32-bit numbers that every decision splits. */
abstract class RangeCoder implements BitCoder {
    private static final long TOP = 0xffffffffL;

    private long low = 0;
    private long high = TOP;

    /** The decision that is coded where the interval is split. */
    abstract boolean decide(boolean bit, long split);

    /** Both ends of the interval share their top byte, which leaves it. */
    abstract void shift(int top);

    @Override
    public final boolean code(boolean bit, int probability) {
        long split = low + ((high - low) * probability >>> 16);
        boolean decision = decide(bit, split);
        if (decision) {
            high = split;
        } else {
            low = split + 1;
        }
        while (low >>> 24 == high >>> 24) {
            shift((int) (high >>> 24));
            low = low << 8 & TOP;
            high = high << 8 & TOP | 255;
        }
        return decision;
    }

    /** What was shifted out, then the shortest, then smallest, ending in the interval; without zeros at the end. */
    final byte[] ended(byte[] settled) {
        byte[] body = Arrays.copyOf(settled, settled.length + 4);
        for (int length = 0; length <= 4; length++) {
            long unit = 1L << 32 - 8 * length;
            long value = (low + unit - 1) / unit * unit;
            if (value <= high) {
                for (int index = 0; index < length; index++) {
                    body[settled.length + index] = (byte) (value >>> 24 - 8 * index);
                }
                break;
            }
        }
        int end = body.length;
        while (end > 0 && body[end - 1] == 0) {
            end--;
        }
        return Arrays.copyOf(body, end);
    }

    /** Collects decisions. */
    static final class Encoder extends RangeCoder {
        private final ByteArrayOutputStream output = new ByteArrayOutputStream();

        @Override
        boolean decide(boolean bit, long split) {
            return bit;
        }

        @Override
        void shift(int top) {
            output.write(top);
        }

        /** The body of all decisions so far. */
        byte[] finish() {
            return ended(output.toByteArray());
        }
    }

    /** Reads decisions back, in the order and with the probabilities they were written. */
    static final class Decoder extends RangeCoder {
        private final byte[] body;
        private long value;
        private int position;

        Decoder(byte[] body) {
            this.body = body;
            for (int index = 0; index < 4; index++) {
                next();
            }
        }

        @Override
        boolean decide(boolean bit, long split) {
            return value <= split;
        }

        @Override
        void shift(int top) {
            next();
        }

        /** Throws {@link PayloadException} unless the body is the one and only body of the decisions read. */
        void finish() {
            if (!Arrays.equals(ended(Arrays.copyOf(body, position - 4)), body)) {
                throw new PayloadException(
                        "the coded body of " + body.length + " bytes does not end as an encoder would have ended it; "
                                + "it is corrupt or was written with other coder tables");
            }
        }

        /** Behind the body come zeros. */
        private void next() {
            value = value << 8 & TOP | (position < body.length ? body[position] & 255 : 0);
            position++;
        }
    }
}

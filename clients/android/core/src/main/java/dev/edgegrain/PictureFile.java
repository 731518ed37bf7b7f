package dev.edgegrain;

import java.nio.charset.StandardCharsets;
import java.util.Arrays;

/** Checks of an encoded picture that Android's decoder does not make. */
public final class PictureFile {
    /** The most pixels of a file that is decoded, if no other limit is given; less than in Python, as phones are. */
    public static final int MAX_PIXELS = 89_478_485;

    private static final byte[] PNG = {(byte) 0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
    private static final byte[] IEND = "IEND".getBytes(StandardCharsets.US_ASCII);

    private PictureFile() {}

    /**
     * Checks the size that a file claims, before its pixels are decoded. Throws {@link ImageException} if it has more
     * than {@code maxPixels}, or if no payload can describe it.
     */
    public static void checkSize(int width, int height, int maxPixels) {
        if (Math.min(width, height) < 1 || Math.max(width, height) > Payload.MAX_ORIGINAL_SIDE) {
            throw new ImageException("a picture has sides of 1 to " + Payload.MAX_ORIGINAL_SIDE + " pixels, got "
                    + width + " x " + height);
        }
        long pixels = (long) width * height;
        if (pixels > Payload.MAX_ORIGINAL_PIXELS) {
            throw new ImageException("the picture has " + width + " x " + height
                    + " pixels; a payload describes at most " + Payload.MAX_ORIGINAL_PIXELS + ", reduce it first");
        }
        if (pixels > maxPixels) {
            throw new ImageException("the picture claims " + width + " x " + height + " pixels, more than " + maxPixels
                    + "; if you trust it, raise maxPixels");
        }
    }

    /**
     * Throws {@link ImageException} if the bytes of a JPEG, PNG, WebP or GIF stop before the picture's end, for a GIF
     * before the end of its first frame. Android fills the rest with a constant colour and reports no error.
     */
    public static void checkComplete(byte[] data) {
        boolean complete = true;
        if (data.length >= 2 && at(data, 0) == 0xff && at(data, 1) == 0xd8) {
            complete = reachesEoi(data);
        } else if (Arrays.equals(Arrays.copyOf(data, PNG.length), PNG)) {
            complete = reachesIend(data);
        } else if (startsWith(data, 0, "RIFF") && startsWith(data, 8, "WEBP")) {
            complete = data.length >= 8 + littleEndian(data, 4, 4);
        } else if (startsWith(data, 0, "GIF8")) {
            complete = holdsFrame(data);
        }
        if (!complete) {
            throw new ImageException("the picture of " + data.length + " bytes is truncated");
        }
    }

    /** Walks the segments of a JPEG to the marker EOI; further bytes may follow it. */
    private static boolean reachesEoi(byte[] data) {
        int position = 2;
        while (position + 1 < data.length) {
            int marker = at(data, position + 1);
            if (at(data, position) != 0xff || marker == 0xff) {
                position += 1; // coded data, or a fill byte
            } else if (marker <= 0x01 || marker >= 0xd0 && marker <= 0xd8) {
                position += 2; // a stuffed zero, or a marker without a segment
            } else if (marker == 0xd9) {
                return true;
            } else if (position + 3 < data.length) {
                position += 2 + (at(data, position + 2) << 8 | at(data, position + 3));
            } else {
                return false;
            }
        }
        return false;
    }

    /** Walks the chunks of a PNG to IEND. */
    private static boolean reachesIend(byte[] data) {
        long position = PNG.length; // lengths have 32 bits
        while (position + 12 <= data.length) {
            int start = (int) position;
            if (Arrays.equals(Arrays.copyOfRange(data, start + 4, start + 8), IEND)) {
                return true;
            }
            int length = at(data, start) << 24 | at(data, start + 1) << 16 | at(data, start + 2) << 8
                    | at(data, start + 3);
            position += 12 + (length & 0xffffffffL);
        }
        return false;
    }

    /** Walks the blocks of a GIF to the end of the first frame. */
    private static boolean holdsFrame(byte[] data) {
        int position = 13 + colours(data, 10);
        while (position < data.length) {
            int kind = at(data, position);
            if (kind == 0x2c) { // a frame: descriptor, table of colours, a byte, data
                int end = afterSubBlocks(data, position + 11 + colours(data, position + 9));
                return end <= data.length;
            }
            if (kind != 0x21) { // no extension either
                return false;
            }
            position = afterSubBlocks(data, position + 2);
        }
        return false;
    }

    /** Bytes of the table of colours that a GIF's flags announce. */
    private static int colours(byte[] data, int flags) {
        boolean present = flags < data.length && at(data, flags) >= 0x80;
        return present ? 3 * (2 << (at(data, flags) & 7)) : 0;
    }

    /** The position after a GIF's sub-blocks; more than {@code data.length} if their end is missing. */
    private static int afterSubBlocks(byte[] data, int position) {
        while (position < data.length && at(data, position) != 0) {
            position += 1 + at(data, position);
        }
        return position + 1;
    }

    private static boolean startsWith(byte[] data, int position, String name) {
        byte[] found = Arrays.copyOfRange(data, Math.min(position, data.length), position + name.length());
        return Arrays.equals(found, name.getBytes(StandardCharsets.US_ASCII));
    }

    private static long littleEndian(byte[] data, int position, int bytes) {
        long value = 0;
        for (int index = bytes - 1; index >= 0; index--) {
            value = value << 8 | at(data, position + index);
        }
        return value;
    }

    private static int at(byte[] data, int position) {
        return data[position] & 255;
    }
}

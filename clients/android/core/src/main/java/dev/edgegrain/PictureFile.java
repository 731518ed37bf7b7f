package dev.edgegrain;

import java.io.ByteArrayOutputStream;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.BitSet;
import java.util.HashMap;
import java.util.Map;

/** Checks of an encoded picture that Android's decoder does not make. */
public final class PictureFile {
    /** The most pixels of a file that is decoded, if no other limit is given; less than in Python, as phones are. */
    public static final int MAX_PIXELS = 89_478_485;

    private static final byte[] PNG = {(byte) 0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
    private static final byte[] IEND = "IEND".getBytes(StandardCharsets.US_ASCII);

    private static final int END = 0xd9;
    private static final int SCAN = 0xda;
    private static final int PROGRESSIVE = 0xc2;
    private static final int COEFFICIENTS = 64;
    private static final int FILLER = 254;
    /** Transfer characteristics, as H.273 numbers them. */
    private static final int PQ = 16;
    private static final int HLG = 18;

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
     * The file to decode: the bytes, or a JPEG with the end marker that it lacks. Throws {@link ImageException} for an HDR
     * picture, for a JPEG without its last scans, and if the bytes of a PNG, WebP or GIF stop before the picture's end,
     * for a GIF before the end of its first frame. Android fills the rest with a constant colour and reports no error;
     * {@link #longerJpeg} is for pictures that end in the grey of a JPEG.
     */
    public static byte[] complete(byte[] data) {
        boolean complete = true;
        byte[] whole = data;
        if (isJpeg(data)) {
            int end = jpegEnd(data);
            complete = end >= 0;
            if (end == data.length) {
                whole = Arrays.copyOf(data, data.length + 2);
                whole[end] = (byte) 0xff;
                whole[end + 1] = (byte) END;
            }
        } else if (Arrays.equals(Arrays.copyOf(data, PNG.length), PNG)) {
            complete = reachesIend(data);
        } else if (startsWith(data, 0, "RIFF") && startsWith(data, 8, "WEBP")) {
            complete = data.length >= 8 + littleEndian(data, 4, 4);
        } else if (startsWith(data, 0, "GIF8")) {
            complete = holdsFrame(data);
        } else if (startsWith(data, 4, "ftyp")) {
            checkCodePoints(data);
        }
        if (!complete) {
            throw new ImageException("the picture of " + data.length + " bytes is truncated");
        }
        return whole;
    }

    /** True for the first bytes of a JPEG. */
    public static boolean isJpeg(byte[] data) {
        return data.length >= 2 && at(data, 0) == 0xff && at(data, 1) == 0xd8;
    }

    /**
     * A JPEG that {@link #complete} gave, with more data and restart markers before its end marker: it decodes to the same
     * pixels, unless some are missing.
     */
    public static byte[] longerJpeg(byte[] data) {
        int end = jpegEnd(data);
        int last = end - 2;
        while (last >= 0 && !(at(data, last) == 0xff && at(data, last + 1) >= 0xd0 && at(data, last + 1) <= 0xd7)) {
            last--;
        }
        int following = last < 0 ? 0 : at(data, last + 1) + 1;
        ByteArrayOutputStream longer = new ByteArrayOutputStream();
        longer.write(data, 0, end);
        for (int restart = 0; restart < 8; restart++) {
            for (int filler = 1; filler <= FILLER; filler++) {
                longer.write(filler);
            }
            longer.write(0xff);
            longer.write(0xd0 | following + restart & 7);
        }
        longer.write(data, end, data.length - end);
        return longer.toByteArray();
    }

    /** The position of a JPEG's end marker, the length of the data without one, or -1 if scans are missing before it. */
    private static int jpegEnd(byte[] data) {
        Map<Integer, BitSet> missing = new HashMap<>(); // component -> coefficients whose last bits have not come
        boolean progressive = false;
        boolean scanned = false;
        int position = 2;
        while (position + 1 < data.length) {
            int marker = at(data, position + 1);
            if (at(data, position) != 0xff || marker == 0xff) {
                position += 1; // coded data, or a fill byte
            } else if (marker <= 0x01 || marker >= 0xd0 && marker <= 0xd8) {
                position += 2; // a stuffed zero, or a marker without a segment
            } else if (marker == END) {
                break;
            } else {
                int end = position + 2 + Math.max(2, at(data, position + 2) << 8 | at(data, position + 3));
                byte[] body = Arrays.copyOfRange(data, Math.min(position + 4, data.length), Math.max(end, position + 4));
                if (marker >= 0xc0 && marker <= PROGRESSIVE) {
                    progressive = marker == PROGRESSIVE;
                    for (int part = 6; part < 6 + 3 * at(body, 5); part += 3) {
                        BitSet all = new BitSet();
                        all.set(0, COEFFICIENTS);
                        missing.put(at(body, part), all);
                    }
                } else if (marker == SCAN) {
                    scanned = true;
                    int band = 1 + 2 * at(body, 0);
                    for (int part = 1; part < band; part += 2) {
                        BitSet left = missing.getOrDefault(at(body, part), new BitSet());
                        if (!progressive) {
                            left.clear();
                        } else if ((at(body, band + 2) & 15) == 0) {
                            left.clear(at(body, band), Math.max(at(body, band), at(body, band + 1) + 1));
                        }
                    }
                }
                position = end;
            }
        }
        for (BitSet left : missing.values()) {
            if (!scanned || !left.isEmpty()) {
                return -1;
            }
        }
        return !scanned ? -1 : position + 1 < data.length ? position : data.length;
    }

    /** The boxes {@code colr} of AVIF and HEIF; a colour profile has precedence. */
    private static void checkCodePoints(byte[] data) {
        String start = new String(data, 0, Math.min(data.length, 1 << 20), StandardCharsets.ISO_8859_1);
        int position = start.indexOf("colrnclx");
        if (position >= 0 && !start.contains("colrprof") && !start.contains("colrrICC")) {
            checkTransfer(at(data, position + 11));
        }
    }

    private static void checkTransfer(int transfer) {
        if (transfer == PQ || transfer == HLG) {
            throw new ImageException("the picture is an HDR picture, which 8-bit levels cannot hold; convert it first");
        }
    }

    /** Walks the chunks of a PNG to IEND, and reads the chunk cICP. */
    private static boolean reachesIend(byte[] data) {
        long position = PNG.length; // lengths have 32 bits
        while (position + 12 <= data.length) {
            int start = (int) position;
            if (startsWith(data, start + 4, "cICP")) {
                checkTransfer(at(data, start + 9));
            }
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

    /** A byte, 0 after the end. */
    private static int at(byte[] data, int position) {
        return position < data.length ? data[position] & 255 : 0;
    }
}

package dev.edgegrain;

import java.io.ByteArrayOutputStream;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;

/** The VP8 frame in a lossy WebP file, which has chunks: each a name of 4 bytes, its length, and its bytes. */
final class WebpFile {
    private static final int HEAD = 12;
    private static final int CHUNK_HEAD = 8;

    private WebpFile() {}

    /**
     * The bytes of the chunk {@code VP8 }. Colour profiles, which Android adds, and metadata are left out. Throws
     * {@link PayloadException} for files without this chunk, or with transparency.
     */
    static byte[] frame(byte[] webp) {
        if (!named(webp, 0, "RIFF") || !named(webp, 8, "WEBP")) {
            throw new PayloadException("the background of a scene is a lossy WebP file");
        }
        long position = HEAD;
        while (position + CHUNK_HEAD <= webp.length && !named(webp, (int) position, "ALPH")) {
            int start = (int) position + CHUNK_HEAD;
            long length = 0;
            for (int index = 3; index >= 0; index--) {
                length = length << 8 | webp[(int) position + 4 + index] & 255;
            }
            if (named(webp, (int) position, "VP8 ") && start + length <= webp.length) {
                return Arrays.copyOfRange(webp, start, (int) (start + length));
            }
            position = start + length + (length & 1);
        }
        throw new PayloadException("the background of a scene is a complete lossy WebP file without transparency");
    }

    /** A WebP file of nothing but a frame. */
    static byte[] of(byte[] frame) {
        int padding = frame.length & 1;
        ByteArrayOutputStream output = new ByteArrayOutputStream();
        chunkHead(output, "RIFF", HEAD + frame.length + padding);
        output.write(ascii("WEBP"), 0, 4);
        chunkHead(output, "VP8 ", frame.length);
        output.write(frame, 0, frame.length);
        output.write(new byte[padding], 0, padding);
        return output.toByteArray();
    }

    private static void chunkHead(ByteArrayOutputStream output, String name, int length) {
        output.write(ascii(name), 0, 4);
        for (int shift = 0; shift < 32; shift += 8) {
            output.write(length >> shift);
        }
    }

    private static boolean named(byte[] data, int position, String name) {
        return position + 4 <= data.length
                && Arrays.equals(Arrays.copyOfRange(data, position, position + 4), ascii(name));
    }

    private static byte[] ascii(String text) {
        return text.getBytes(StandardCharsets.US_ASCII);
    }
}

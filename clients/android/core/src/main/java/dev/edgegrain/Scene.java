package dev.edgegrain;

import java.io.ByteArrayOutputStream;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;

/** A photograph with all its faces, docs/payload.md, "Scenes": their payloads and a background, in one file. */
public final class Scene {
    public static final int MAX_FACES = 64;
    public static final int MAX_BYTES = 1 << 20;
    /** Longest side of a background, in pixels. */
    public static final int MAX_BACKGROUND_SIDE = 1024;

    private static final int VERSION = 2;
    private static final int VP8 = 1;
    private static final int FIXED_BYTES = 4;
    private static final int CRC_BYTES = 4;
    private static final int FRAME_HEAD = 10;

    private final byte[] data;
    /** Size of the photograph. */
    public final int originalWidth;
    public final int originalHeight;
    /** The largest first; all have a square of this photograph and the same LR contract. */
    public final List<Payload> faces;
    private final byte[] background;

    private Scene(byte[] data, int originalWidth, int originalHeight, List<Payload> faces, byte[] background) {
        this.data = data;
        this.originalWidth = originalWidth;
        this.originalHeight = originalHeight;
        this.faces = Collections.unmodifiableList(faces);
        this.background = background;
    }

    /**
     * Packs payloads of aligned faces of one photograph.
     *
     * @param faces the largest first
     * @param backgroundWebp a lossy WebP file with sides of at most 1,024 pixels; null for no background
     * @throws PayloadException if they are no such scene
     */
    public static Scene pack(List<Payload> faces, int originalWidth, int originalHeight, byte[] backgroundWebp) {
        byte[] frame = backgroundWebp == null ? new byte[0] : WebpFile.frame(backgroundWebp);
        ByteArrayOutputStream output = new ByteArrayOutputStream();
        output.write(0xed);
        output.write(0x6e);
        output.write(VERSION << 4 | (frame.length > 0 ? VP8 : 0));
        output.write(Math.min(faces.size(), 255));
        Leb128.write(output, originalWidth);
        Leb128.write(output, originalHeight);
        for (Payload face : faces) {
            byte[] bytes = face.bytes();
            Leb128.write(output, bytes.length);
            output.write(bytes, 0, bytes.length);
        }
        output.write(frame, 0, frame.length);
        return read(Payload.withCrc(output, CRC_BYTES));
    }

    /** True for bytes that begin as a scene does. */
    public static boolean isScene(byte[] data) {
        return data.length > 2 && (data[0] & 255) == 0xed && data[1] == 0x6e && data[2] >> 4 == VERSION;
    }

    /** Checks length, CRC and every claim of received bytes; else throws {@link PayloadException}. */
    public static Scene read(byte[] data) {
        if (data.length > MAX_BYTES) {
            throw new PayloadException("a scene has at most " + MAX_BYTES + " bytes, got " + data.length);
        }
        if (!isScene(data) || data.length < FIXED_BYTES + CRC_BYTES) {
            throw new PayloadException("not a scene: it begins in another way, or is too short");
        }
        int end = Payload.checkCrc(data, CRC_BYTES);
        int coding = data[2] & 15;
        int count = data[3] & 255;
        if (coding > VP8) {
            throw new PayloadException(
                    "the background's coding " + coding + " is unknown, expected 0 (none) or 1 (VP8)");
        }
        if (count < 1 || count > MAX_FACES) {
            throw new PayloadException("a scene has 1 to " + MAX_FACES + " faces, got " + count);
        }
        int[] position = {FIXED_BYTES};
        int width = Leb128.read(data, position, end, "original width");
        int height = Leb128.read(data, position, end, "original height");
        Payload.checkOriginal(width, height);
        List<Payload> faces = new ArrayList<>();
        for (int index = 0; index < count; index++) {
            int length = Leb128.read(data, position, end, "length of face " + index);
            if (length > Math.min(end - position[0], Payload.MAX_BYTES)) {
                throw new PayloadException("face " + index + " of the scene claims " + length + " bytes, "
                        + (end - position[0]) + " are left");
            }
            Payload face = Payload.read(Arrays.copyOfRange(data, position[0], position[0] + length));
            faces.add(face);
            position[0] += length;
            checkFace(face.header, faces.get(0).header, width, height);
        }
        byte[] background = Arrays.copyOfRange(data, position[0], end);
        if (background.length > 0 != (coding == VP8)) {
            throw new PayloadException(
                    "a background of " + background.length + " bytes does not have the coding " + coding);
        }
        if (coding == VP8) {
            checkBackground(background);
        }
        return new Scene(data.clone(), width, height, faces, background);
    }

    /** The bytes as base64url; {@link PayloadText} has base45 for QR codes, and reads both. */
    public String text() {
        return PayloadText.base64url(data);
    }

    /** The bytes to send or store. */
    public byte[] bytes() {
        return data.clone();
    }

    /** The background as a WebP file; null if there is none. */
    public byte[] backgroundWebp() {
        return background.length == 0 ? null : WebpFile.of(background);
    }

    private static void checkFace(Header face, Header first, int width, int height) {
        if (face.square == null || face.originalWidth != width || face.originalHeight != height) {
            throw new PayloadException(
                    "a face of the scene is no aligned face of a picture of " + width + " x " + height);
        }
        if (!face.contract.equals(first.contract)) {
            throw new PayloadException("a face of the scene has another LR contract than the first");
        }
    }

    /** A key frame begins with three bytes of sizes, a start code, and the sides, of 14 bits (RFC 6386, 9.1). */
    private static void checkBackground(byte[] frame) {
        if (frame.length < FRAME_HEAD || (frame[0] & 1) != 0 || (frame[3] & 255) != 0x9d || frame[4] != 0x01
                || frame[5] != 0x2a) {
            throw new PayloadException("the background is no key frame of VP8");
        }
        int width = frame[6] & 255 | (frame[7] & 255) << 8;
        int height = frame[8] & 255 | (frame[9] & 255) << 8;
        if (Math.min(width, height) < 1 || Math.max(width, height) > MAX_BACKGROUND_SIDE) {
            throw new PayloadException("a background has sides of 1 to " + MAX_BACKGROUND_SIDE
                    + " without a scale, got " + (width & 16383) + " x " + (height & 16383));
        }
    }
}

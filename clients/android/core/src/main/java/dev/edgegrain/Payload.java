package dev.edgegrain;

import java.io.ByteArrayOutputStream;
import java.util.Arrays;
import java.util.zip.CRC32;

/** The payload, docs/payload.md: what a picture becomes on the wire. */
public final class Payload {
    public static final int MAX_LR_SIDE = 256;
    public static final int MAX_ORIGINAL_SIDE = 65535;
    public static final int MAX_ORIGINAL_PIXELS = 1 << 28;
    public static final int CODING_RAW = 0;
    public static final int CODING_RANGE = 1;

    private static final int VERSION = 1;
    private static final int SCENE_VERSION = 2;
    private static final int FIXED_BYTES = 8;
    static final int CRC_BYTES = 4;
    private static final int EXPLICIT_SIZE = 15;
    private static final int MIN_BYTES = 14;
    static final int MAX_BYTES = 196_640;

    private final byte[] data;
    /** What the payload says about itself. */
    public final Header header;
    private final byte[] body;

    private Payload(byte[] data, Header header, byte[] body) {
        this.data = data;
        this.header = header;
        this.body = body;
    }

    /** Packs an LR by the range coder; a body that it cannot shorten is stored raw. */
    public static Payload pack(
            Rgb lr, String contractId, CoderTables tables, int originalWidth, int originalHeight, Fit fit) {
        return pack(lr, contractId, tables, originalWidth, originalHeight, fit, CODING_RANGE);
    }

    /**
     * Packs an LR with sides of 1 to 256.
     *
     * @param contractId 64 hex digits, or the first eight
     * @param originalWidth width before fitting, in pixels
     * @param fit not {@link Fit#ALIGN}, which needs a square
     * @param coding {@link #CODING_RANGE} or {@link #CODING_RAW}
     * @throws PayloadException for what the format cannot say
     */
    public static Payload pack(
            Rgb lr, String contractId, CoderTables tables, int originalWidth, int originalHeight, Fit fit, int coding) {
        return pack(lr, contractId, tables, originalWidth, originalHeight, fit, null, coding);
    }

    /** Packs the LR of a square that was cut out of the original: the fit is {@link Fit#ALIGN}. */
    public static Payload pack(
            Rgb lr, String contractId, CoderTables tables, int originalWidth, int originalHeight,
            OrientedSquare square) {
        return pack(lr, contractId, tables, originalWidth, originalHeight, square, CODING_RANGE);
    }

    /** As {@link #pack(Rgb, String, CoderTables, int, int, Fit, int)}, of a square of the original. */
    public static Payload pack(
            Rgb lr, String contractId, CoderTables tables, int originalWidth, int originalHeight,
            OrientedSquare square, int coding) {
        return pack(lr, contractId, tables, originalWidth, originalHeight, Fit.ALIGN, square, coding);
    }

    private static Payload pack(
            Rgb lr, String contractId, CoderTables tables, int originalWidth, int originalHeight, Fit fit,
            OrientedSquare square, int coding) {
        if (Math.max(lr.width, lr.height) > MAX_LR_SIDE) {
            throw new PayloadException(
                    "an LR has sides of 1 to " + MAX_LR_SIDE + ", got " + lr.width + " x " + lr.height);
        }
        if (!contractId.matches("[0-9a-f]{8}|[0-9a-f]{64}")) {
            throw new PayloadException("a contract id has 64 hex digits, or 8 for its beginning, got " + contractId);
        }
        if (coding != CODING_RAW && coding != CODING_RANGE) {
            throw new PayloadException("unknown coding " + coding + ", expected 0 (raw) or 1 (range coder)");
        }
        checkOriginal(originalWidth, originalHeight);
        if (fit == Fit.ALIGN) {
            if (square == null) {
                throw new PayloadException("the fit ALIGN needs a square");
            }
            square.check(originalWidth, originalHeight);
        }
        byte[] body = tables.rounded(lr).data;
        int used = CODING_RAW;
        if (coding == CODING_RANGE) {
            byte[] coded = LrCoder.encode(lr, tables);
            if (coded.length < body.length) {
                body = coded;
                used = CODING_RANGE;
            }
        }
        int sizeCode = lrSizeCode(lr.width, lr.height);
        ByteArrayOutputStream output = new ByteArrayOutputStream();
        output.write(0xed);
        output.write(0x6e);
        output.write(VERSION << 4 | used);
        for (int index = 0; index < 8; index += 2) {
            output.write(Integer.parseInt(contractId.substring(index, index + 2), 16));
        }
        output.write(fit.ordinal() | sizeCode << 2);
        if (sizeCode == EXPLICIT_SIZE) {
            output.write(lr.width - 1);
            output.write(lr.height - 1);
        }
        Leb128.write(output, originalWidth);
        Leb128.write(output, originalHeight);
        if (square != null) {
            square.write(output);
        }
        output.write(body, 0, body.length);
        return read(withCrc(output));
    }

    /** Checks length, CRC and every claim of received bytes; else throws {@link PayloadException}. */
    public static Payload read(byte[] data) {
        if (data.length < MIN_BYTES || data.length > MAX_BYTES) {
            throw new PayloadException(
                    "a payload has " + MIN_BYTES + " to " + MAX_BYTES + " bytes, got " + data.length);
        }
        if ((data[0] & 255) != 0xed || data[1] != 0x6e) {
            throw new PayloadException("not a payload: its first bytes are others");
        }
        int version = data[2] >> 4 & 15;
        if (version == SCENE_VERSION) {
            throw new PayloadException(
                    "this is a scene of several faces, not the payload of one picture; use Scene.read");
        }
        if (version != VERSION) {
            throw new PayloadException("payload version " + version + " is unknown, this release reads " + VERSION);
        }
        return parse(data, checkCrc(data));
    }

    /** The bytes as base64url; {@link PayloadText} has base45 for QR codes, and reads both. */
    public String text() {
        return PayloadText.base64url(data);
    }

    /** The bytes to send or store. */
    public byte[] bytes() {
        return data.clone();
    }

    /** The LR; throws {@link PayloadException} if the payload is of another contract or its body is corrupt. */
    public Rgb lr(String contractId, CoderTables tables) {
        if (!contractId.startsWith(header.contract)) {
            throw new PayloadException(
                    "the payload was made under LR contract " + header.contract + ", available: " + contractId);
        }
        if (header.coding == CODING_RAW) {
            Rgb lr = new Rgb(header.lrWidth, header.lrHeight, body.clone());
            if (!Arrays.equals(tables.rounded(lr).data, body)) {
                throw new PayloadException("the payload is corrupt: its LR has levels between the steps of its contract");
            }
            return lr;
        }
        return LrCoder.decode(body, header.lrWidth, header.lrHeight, tables);
    }

    /** The LR in the original's aspect, to show until the picture is restored; throws as {@link #lr}. */
    public Rgb preview(String contractId, CoderTables tables) {
        return header.fit.undo(lr(contractId, tables), header.originalWidth, header.originalHeight);
    }

    private static Payload parse(byte[] data, int end) {
        int coding = data[2] & 15;
        if (coding > CODING_RANGE) {
            throw new PayloadException(
                    "payload coding " + coding + " is not read here, only 0 (raw) and 1 (range coder)");
        }
        int flags = data[7] & 255;
        if (flags >> 6 != 0) {
            throw new PayloadException("reserved flag bits are set; a newer edgegrain may read this");
        }
        int[] position = {FIXED_BYTES};
        int[] lrSize = readLrSize(data, flags >> 2, position);
        int width = Leb128.read(data, position, end, "original width");
        int height = Leb128.read(data, position, end, "original height");
        checkOriginal(width, height);
        Fit fit = Fit.values()[flags & 3];
        OrientedSquare square = fit == Fit.ALIGN ? OrientedSquare.read(data, position, end, width, height) : null;
        byte[] body = Arrays.copyOfRange(data, position[0], end);
        int raw = 3 * lrSize[0] * lrSize[1];
        if (coding == CODING_RAW ? body.length != raw : body.length >= raw) {
            throw new PayloadException(
                    "a body of coding " + coding + " has " + (coding == CODING_RAW ? "" : "fewer than ") + raw
                            + " bytes, this one " + body.length);
        }
        StringBuilder contract = new StringBuilder();
        for (int index = 3; index < 7; index++) {
            contract.append(String.format("%02x", data[index] & 255));
        }
        int[] originalSize = {width, height};
        Header header = new Header(coding, contract.toString(), lrSize, originalSize, fit, square);
        return new Payload(data.clone(), header, body);
    }

    private static int[] readLrSize(byte[] data, int code, int[] position) {
        if (code == EXPLICIT_SIZE) {
            int width = (data[position[0]++] & 255) + 1;
            int height = (data[position[0]++] & 255) + 1;
            if (lrSizeCode(width, height) != EXPLICIT_SIZE) {
                throw new PayloadException("the LR size " + width + " x " + height + " has a code that was not used");
            }
            return new int[] {width, height};
        }
        if (code > 8) {
            throw new PayloadException("LR size code " + code + " is not read here, only 0 to 8 and 15");
        }
        return new int[] {1 << code, 1 << code};
    }

    static void checkOriginal(int width, int height) {
        if (Math.min(width, height) < 1 || Math.max(width, height) > MAX_ORIGINAL_SIDE) {
            throw new PayloadException(
                    "an original has sides of 1 to " + MAX_ORIGINAL_SIDE + " pixels, got " + width + " x " + height);
        }
        if ((long) width * height > MAX_ORIGINAL_PIXELS) {
            throw new PayloadException(
                    "the original size " + width + " x " + height + " exceeds " + MAX_ORIGINAL_PIXELS + " pixels");
        }
    }

    private static int lrSizeCode(int width, int height) {
        boolean coded = width == height && Integer.bitCount(width) == 1;
        return coded ? Integer.numberOfTrailingZeros(width) : EXPLICIT_SIZE;
    }

    /** The bytes with their CRC-32 behind them. */
    static byte[] withCrc(ByteArrayOutputStream output) {
        long crc = crc32(output.toByteArray(), output.size());
        for (int shift = 0; shift < 32; shift += 8) {
            output.write((int) (crc >> shift));
        }
        return output.toByteArray();
    }

    /** Where the CRC-32 begins, after it was checked. */
    static int checkCrc(byte[] data) {
        int end = data.length - CRC_BYTES;
        long stored = 0;
        for (int index = 3; index >= 0; index--) {
            stored = stored << 8 | data[end + index] & 255;
        }
        if (stored != crc32(data, end)) {
            throw new PayloadException("the payload is corrupt or truncated (CRC-32)");
        }
        return end;
    }

    private static long crc32(byte[] data, int length) {
        CRC32 crc = new CRC32();
        crc.update(data, 0, length);
        return crc.getValue();
    }
}

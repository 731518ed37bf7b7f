package dev.edgegrain;

import java.io.ByteArrayOutputStream;
import java.util.Arrays;
import java.util.zip.CRC32;

/** The payload, docs/payload.md: what a picture becomes on the wire. Version 2 is written, 1 and 2 are read. */
public final class Payload {
    public static final int MAX_LR_SIDE = 256;
    public static final int MAX_ORIGINAL_SIDE = 65535;
    public static final int MAX_ORIGINAL_PIXELS = 1 << 28;
    public static final int CODING_RAW = 0;
    public static final int CODING_RANGE = 1;

    /** The first byte of version 2 with an LR of 16 x 16; the next three are of 32, 64 and 128. */
    private static final int SMALLEST_LR = 0xa8;
    /** The first byte of version 2 with an LR of another size, which follows. */
    private static final int EXPLICIT_LR = 0xac;
    private static final int FIXED_BYTES = 4;
    private static final int CRC_BYTES = 3;
    private static final int ORIGINAL_FOLLOWS = 1 << 4;
    /** Side of an original whose size is left out. */
    private static final int USUAL_SIDE = 256;
    private static final int SCENE_VERSION = 2;
    private static final int FIXED_BYTES_1 = 8;
    private static final int CRC_BYTES_1 = 4;
    private static final int MIN_BYTES_1 = 14;
    private static final int EXPLICIT_SIZE_1 = 15;
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
     * @param contractId 64 hex digits, or the first four
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
        if (!contractId.matches("[0-9a-f]{4}|[0-9a-f]{64}")) {
            throw new PayloadException("a contract id has 64 hex digits, or 4 for its beginning, got " + contractId);
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
        int first = firstByte(lr.width, lr.height);
        boolean usual = originalWidth == USUAL_SIDE && originalHeight == USUAL_SIDE;
        ByteArrayOutputStream output = new ByteArrayOutputStream();
        output.write(first);
        output.write(Integer.parseInt(contractId.substring(0, 2), 16));
        output.write(Integer.parseInt(contractId.substring(2, 4), 16));
        output.write(fit.ordinal() | used << 2 | (usual ? 0 : ORIGINAL_FOLLOWS));
        if (first == EXPLICIT_LR) {
            Leb128.write(output, lr.width);
            Leb128.write(output, lr.height);
        }
        if (!usual) {
            Leb128.write(output, originalWidth);
            Leb128.write(output, originalHeight);
        }
        if (square != null) {
            square.write(output);
        }
        output.write(body, 0, body.length);
        return read(withCrc(output, CRC_BYTES));
    }

    /** Checks length, CRC and every claim of received bytes; else throws {@link PayloadException}. */
    public static Payload read(byte[] data) {
        int first = data.length == 0 ? -1 : data[0] & 255;
        boolean compact = first >= SMALLEST_LR && first <= EXPLICIT_LR;
        int least = compact ? FIXED_BYTES + CRC_BYTES : MIN_BYTES_1;
        if (data.length < least || data.length > MAX_BYTES) {
            throw new PayloadException("a payload has " + least + " to " + MAX_BYTES + " bytes, got " + data.length);
        }
        return compact ? parse(data) : parseVersion1(data);
    }

    /** The bytes as base64url; {@link PayloadText} has base45 for QR codes, and reads both. */
    public String text() {
        return PayloadText.base64url(data);
    }

    /** The bytes to send or store. */
    public byte[] bytes() {
        return data.clone();
    }

    /** The LR; throws {@link PayloadException} if no rate of the bundle has this contract, or the body is corrupt. */
    public Rgb lr(Bundle bundle) {
        Rate rate = bundle.rate(header);
        return lr(rate.contractId, rate.tables);
    }

    /** As {@link #lr(Bundle)}, of one LR contract. */
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

    /** The LR in the original's aspect, to show until the picture is restored; throws as {@link #lr(Bundle)}. */
    public Rgb preview(Bundle bundle) {
        Rate rate = bundle.rate(header);
        return preview(rate.contractId, rate.tables);
    }

    /** As {@link #preview(Bundle)}, of one LR contract. */
    public Rgb preview(String contractId, CoderTables tables) {
        return header.fit.undo(lr(contractId, tables), header.originalWidth, header.originalHeight);
    }

    private static Payload parse(byte[] data) {
        int end = checkCrc(data, CRC_BYTES);
        int flags = data[3] & 255;
        if (flags >> 5 != 0) {
            throw new PayloadException("reserved flag bits are set; a newer edgegrain may read this");
        }
        int[] position = {FIXED_BYTES};
        int side = 16 << (data[0] & 255) - SMALLEST_LR;
        int[] lrSize = {side, side};
        if ((data[0] & 255) == EXPLICIT_LR) {
            lrSize = new int[] {
                Leb128.read(data, position, end, "LR width"), Leb128.read(data, position, end, "LR height")
            };
            checkLrSize(lrSize[0], lrSize[1]);
        }
        int[] originalSize = {USUAL_SIDE, USUAL_SIDE};
        if ((flags & ORIGINAL_FOLLOWS) != 0) {
            originalSize = readOriginal(data, position, end);
            if (originalSize[0] == USUAL_SIDE && originalSize[1] == USUAL_SIDE) {
                throw new PayloadException("the original size 256 x 256 is written out, which is not allowed");
            }
        }
        return parseRest(data, position, end, 2, flags >> 2 & 3, lrSize, originalSize, flags & 3);
    }

    private static Payload parseVersion1(byte[] data) {
        if ((data[0] & 255) != 0xed || data[1] != 0x6e) {
            throw new PayloadException("not a payload: its first bytes are others");
        }
        int version = data[2] >> 4 & 15;
        if (version == SCENE_VERSION) {
            throw new PayloadException(
                    "this is a scene of several faces, not the payload of one picture; use Scene.read");
        }
        if (version != 1) {
            throw new PayloadException("payload version " + version + " is unknown, this release reads 1 and 2");
        }
        int end = checkCrc(data, CRC_BYTES_1);
        int flags = data[7] & 255;
        if (flags >> 6 != 0) {
            throw new PayloadException("reserved flag bits are set; a newer edgegrain may read this");
        }
        int[] position = {FIXED_BYTES_1};
        int[] lrSize = readLrSize1(data, flags >> 2, position);
        int[] originalSize = readOriginal(data, position, end);
        return parseRest(data, position, end, 1, data[2] & 15, lrSize, originalSize, flags & 3);
    }

    /** Reads the square and the body, which both versions have. */
    private static Payload parseRest(
            byte[] data, int[] position, int end, int version, int coding, int[] lrSize, int[] originalSize,
            int fitCode) {
        if (coding > CODING_RANGE) {
            throw new PayloadException(
                    "payload coding " + coding + " is not read here, only 0 (raw) and 1 (range coder)");
        }
        Fit fit = Fit.values()[fitCode];
        OrientedSquare square = fit == Fit.ALIGN
                ? OrientedSquare.read(data, position, end, originalSize[0], originalSize[1]) : null;
        byte[] body = Arrays.copyOfRange(data, position[0], end);
        int raw = 3 * lrSize[0] * lrSize[1];
        if (coding == CODING_RAW ? body.length != raw : body.length >= raw) {
            throw new PayloadException(
                    "a body of coding " + coding + " has " + (coding == CODING_RAW ? "" : "fewer than ") + raw
                            + " bytes, this one " + body.length);
        }
        StringBuilder contract = new StringBuilder();
        for (byte part : version == 1 ? Arrays.copyOfRange(data, 3, 7) : Arrays.copyOfRange(data, 1, 3)) {
            contract.append(String.format("%02x", part & 255));
        }
        Header header = new Header(version, coding, contract.toString(), lrSize, originalSize, fit, square);
        return new Payload(data.clone(), header, body);
    }

    private static void checkLrSize(int width, int height) {
        if (Math.max(width, height) > MAX_LR_SIDE) {
            throw new PayloadException(
                    "an LR of " + width + " x " + height + " is not read here, only sides up to " + MAX_LR_SIDE);
        }
        if (Math.min(width, height) < 1) {
            throw new PayloadException("an LR has sides of at least 1, got " + width + " x " + height);
        }
        if (firstByte(width, height) != EXPLICIT_LR) {
            throw new PayloadException("the LR size " + width + " x " + height + " has a code that was not used");
        }
    }

    private static int[] readLrSize1(byte[] data, int code, int[] position) {
        if (code == EXPLICIT_SIZE_1) {
            int width = (data[position[0]++] & 255) + 1;
            int height = (data[position[0]++] & 255) + 1;
            if (width == height && Integer.bitCount(width) == 1) {
                throw new PayloadException("the LR size " + width + " x " + height + " has a code that was not used");
            }
            return new int[] {width, height};
        }
        if (code > 8) {
            throw new PayloadException("LR size code " + code + " is not read here, only 0 to 8 and 15");
        }
        return new int[] {1 << code, 1 << code};
    }

    private static int[] readOriginal(byte[] data, int[] position, int end) {
        int width = Leb128.read(data, position, end, "original width");
        int height = Leb128.read(data, position, end, "original height");
        checkOriginal(width, height);
        return new int[] {width, height};
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

    /** Of a payload of version 2 with this LR. */
    private static int firstByte(int width, int height) {
        boolean coded = width == height && Integer.bitCount(width) == 1 && width >= 16 && width <= 128;
        return coded ? SMALLEST_LR + Integer.numberOfTrailingZeros(width) - 4 : EXPLICIT_LR;
    }

    /** The bytes with the low bytes of their CRC-32 behind them. */
    static byte[] withCrc(ByteArrayOutputStream output, int crcBytes) {
        long crc = crc32(output.toByteArray(), output.size());
        for (int index = 0; index < crcBytes; index++) {
            output.write((int) (crc >> 8 * index));
        }
        return output.toByteArray();
    }

    /** Where the CRC-32 begins, after it was checked. */
    static int checkCrc(byte[] data, int crcBytes) {
        int end = data.length - crcBytes;
        long crc = crc32(data, end);
        for (int index = 0; index < crcBytes; index++) {
            if (data[end + index] != (byte) (crc >> 8 * index)) {
                throw new PayloadException("the payload is corrupt or truncated (CRC-32)");
            }
        }
        return end;
    }

    private static long crc32(byte[] data, int length) {
        CRC32 crc = new CRC32();
        crc.update(data, 0, length);
        return crc.getValue();
    }
}

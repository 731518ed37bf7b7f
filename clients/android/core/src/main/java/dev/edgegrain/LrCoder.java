package dev.edgegrain;

/**
 * The lossless coder of an LR, docs/lr_coder.md: a prediction from earlier samples, then eight binary decisions.
 *
 * <p>Encoder and decoder are one walk over the samples; only the {@link BitCoder} they are given differs.
 */
public final class LrCoder {
    /** (dx, dy) of the earlier pixels around one; the first is the left one, the second the upper one. */
    private static final int[][] NEIGHBOURS = {
        {-1, 0}, {0, -1}, {-1, -1}, {1, -1}, {-2, 0}, {0, -2}, {-2, -1}, {2, -1}, {-1, -2}, {1, -2},
    };

    private static final int SLANT = 3;
    private static final int MIDDLE = 128;

    /** round(2^20 / (1 + e^(-i/8))), i = 0...96; the last one twice, for interpolation. */
    private static final int[] SIGMOID = {
        524288, 557013, 589485, 621456, 652696, 682995, 712170, 740069, 766570, 791586, 815058, 836959, 857289,
        876068, 893337, 909153, 923583, 936703, 948595, 959343, 969033, 977748, 985571, 992579, 998846, 1004444,
        1009436, 1013883, 1017840, 1021358, 1024482, 1027256, 1029716, 1031897, 1033829, 1035540, 1037055,
        1038396, 1039582, 1040631, 1041558, 1042378, 1043102, 1043743, 1044308, 1044808, 1045249, 1045639,
        1045983, 1046287, 1046556, 1046793, 1047002, 1047187, 1047350, 1047494, 1047621, 1047733, 1047832,
        1047919, 1047996, 1048064, 1048125, 1048178, 1048224, 1048266, 1048302, 1048334, 1048363, 1048388,
        1048410, 1048429, 1048447, 1048462, 1048475, 1048487, 1048498, 1048507, 1048515, 1048522, 1048528,
        1048534, 1048539, 1048543, 1048547, 1048551, 1048554, 1048556, 1048558, 1048561, 1048562, 1048564,
        1048565, 1048567, 1048568, 1048569, 1048570, 1048570,
    };

    /** round(2^16 * 2^(-i/8)), i = 0...7. */
    private static final int[] EIGHTH_OCTAVES = {65536, 60097, 55109, 50535, 46341, 42495, 38968, 35734};

    private final BitCoder coder;
    private final int width;
    private final int height;
    private final byte[] coded;

    private LrCoder(BitCoder coder, int width, int height) {
        this.coder = coder;
        this.width = width;
        this.height = height;
        coded = new byte[3 * width * height];
    }

    /** Codes an LR into a body, with its levels rounded to multiples of the step. */
    public static byte[] encode(Rgb lr, CoderTables tables) {
        RangeCoder.Encoder encoder = new RangeCoder.Encoder();
        new LrCoder(encoder, lr.width, lr.height).codeSamples(tables.indices(lr.data), tables);
        return encoder.finish();
    }

    /** The LR that {@link #encode} turned into {@code body}; throws {@link PayloadException} if there is none. */
    public static Rgb decode(byte[] body, int width, int height, CoderTables tables) {
        RangeCoder.Decoder decoder = new RangeCoder.Decoder(body);
        LrCoder coder = new LrCoder(decoder, width, height);
        coder.codeSamples(new byte[3 * width * height], tables);
        decoder.finish();
        return new Rgb(width, height, tables.levels(coder.coded));
    }

    /** Encodes {@code levels}, or decodes some, whatever they hold; {@code coded} has them afterwards. */
    private void codeSamples(byte[] levels, CoderTables tables) {
        for (int line = 0; line <= width - 1 + SLANT * (height - 1); line++) {
            int top = Math.max(0, (line - width + SLANT) / SLANT);
            int bottom = Math.min(height - 1, line / SLANT);
            for (int channel = 0; channel < 3; channel++) {
                int[] context = new int[CoderTables.CONTEXT_SIZES[channel]];
                for (int y = top; y <= bottom; y++) {
                    int x = line - SLANT * y;
                    int reference = readContext(context, x, y, channel);
                    int[] prediction = tables.predict(channel, context);
                    int at = 3 * (width * y + x) + channel;
                    int mean = clamp(16 * reference + prediction[0], 0, 4080);
                    coded[at] = (byte) codeLevel(mean, clamp(prediction[1], 0, 63), levels[at] & 255);
                }
            }
        }
    }

    /** Fills in the context of a sample and returns its reference. */
    private int readContext(int[] context, int x, int y, int channel) {
        int here = width * y + x;
        int west = x > 0 ? here - 1 : y > 0 ? here - width : -1;
        int at = 0;
        for (int[] neighbour : NEIGHBOURS) {
            int near = Math.max(y + neighbour[1], 0) * width + clamp(x + neighbour[0], 0, width - 1);
            int pixel = near < here ? near : west;
            for (int other = 0; other < 3; other++) {
                context[at++] = pixel < 0 ? MIDDLE : coded[3 * pixel + other] & 255;
            }
        }
        int reference = context[channel] + context[3 + channel] + 1 >> 1;
        for (int before = 0; before < channel; before++) {
            context[at++] = coded[3 * here + before] & 255;
        }
        for (int index = 0; index < at; index++) {
            context[index] -= reference;
        }
        int u = (2 * x + 1) * 128 / width - 128;
        int v = (2 * y + 1) * 128 / height - 128;
        context[at++] = reference - MIDDLE;
        context[at++] = u;
        context[at++] = v;
        context[at++] = u * u >> 7;
        context[at++] = v * v >> 7;
        context[at++] = u * v >> 7;
        context[at++] = y == 0 ? 128 : 0;
        context[at++] = x == 0 ? 128 : 0;
        context[at] = x == width - 1 ? 128 : 0;
        return reference;
    }

    /** Encodes {@code level}, or decodes and returns one, by halving 0...255 eight times. */
    private int codeLevel(int mean, int scale, int level) {
        int low = 0;
        int belowLow = massBelow(0, mean, scale);
        int belowHigh = massBelow(256, mean, scale);
        for (int size = 128; size > 0; size >>= 1) {
            int middle = low + size;
            int belowMiddle = massBelow(middle, mean, scale);
            long probability = ((long) (belowHigh - belowMiddle) << 16) / (belowHigh - belowLow);
            if (coder.code(level >= middle, clamp((int) probability, 1, 65535))) {
                low = middle;
                belowLow = belowMiddle;
            } else {
                belowHigh = belowMiddle;
            }
        }
        return low;
    }

    /** C(v): the mass of the levels below {@code level}, in parts of 2^20, and one part a level. */
    private static int massBelow(int level, int mean, int scale) {
        int distance = 16 * level - 8 - mean;
        int product = Math.abs(distance) * EIGHTH_OCTAVES[scale & 7]; // up to 2^28
        int argument = Math.min(product >> 6 + (scale >> 3), 96 * 512);
        int index = argument >> 9;
        int mass = SIGMOID[index] + ((SIGMOID[index + 1] - SIGMOID[index]) * (argument & 511) >> 9);
        return (distance >= 0 ? mass : (1 << 20) - mass) + level;
    }

    private static int clamp(int value, int low, int high) {
        return Math.min(Math.max(value, low), high);
    }
}

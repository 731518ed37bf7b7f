package dev.edgegrain;

import java.io.ByteArrayOutputStream;

/** LEB128: seven bits a byte, low ones first, at most three bytes, in the shortest form only. */
final class Leb128 {
    private Leb128() {}

    /** Reads a number at {@code position[0]}, which then points behind it; {@code name} is for error messages. */
    static int read(byte[] data, int[] position, int end, String name) {
        int value = 0;
        for (int count = 0; count < 3; count++) {
            if (position[0] >= end) {
                throw new PayloadException("the payload ends inside the " + name);
            }
            int part = data[position[0]++];
            value |= (part & 127) << 7 * count;
            if (part >= 0) {
                if (part == 0 && count > 0) {
                    throw new PayloadException("the " + name + " is written with more bytes than it needs");
                }
                return value;
            }
        }
        throw new PayloadException("the " + name + " takes more than three bytes");
    }

    static void write(ByteArrayOutputStream output, int value) {
        int rest = value;
        for (; rest > 127; rest >>= 7) {
            output.write(rest & 127 | 128);
        }
        output.write(rest);
    }
}

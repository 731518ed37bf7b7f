package dev.edgegrain;

import java.io.ByteArrayOutputStream;
import java.util.regex.Pattern;

/**
 * Payloads and scenes as text, docs/sending.md: base64url for most places, base45 (RFC 9285) for QR codes. Android 7
 * has no {@code java.util.Base64}.
 */
public final class PayloadText {
    private static final String BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    private static final String BASE45 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:";
    /** Of scenes and payloads of version 1, or of version 2. */
    private static final Pattern TEXT_64 = Pattern.compile("7W.*|(q|r[A-P])[^.]*", Pattern.DOTALL);
    private static final Pattern TEXT_45 =
            Pattern.compile("W0U.*|[0-9A-Z $%*+./:-][A-Z $%*]L[^a-z]*", Pattern.DOTALL);

    private PayloadText() {}

    /** Base64url without padding. */
    public static String base64url(byte[] data) {
        StringBuilder text = new StringBuilder();
        int buffer = 0;
        int bits = 0;
        for (byte value : data) {
            buffer = buffer << 8 | value & 255;
            for (bits += 8; bits >= 6; bits -= 6) {
                text.append(BASE64.charAt(buffer >> bits - 6 & 63));
            }
        }
        return bits == 0 ? text.toString() : text.append(BASE64.charAt(buffer << 6 - bits & 63)).toString();
    }

    /** Only characters of the alphanumeric mode of QR codes. */
    public static String base45(byte[] data) {
        StringBuilder text = new StringBuilder();
        for (int at = 0; at < data.length; at += 2) {
            boolean two = at + 1 < data.length;
            int value = two ? (data[at] & 255) << 8 | data[at + 1] & 255 : data[at] & 255;
            text.append(BASE45.charAt(value % 45)).append(BASE45.charAt(value / 45 % 45));
            if (two) {
                text.append(BASE45.charAt(value / 2025));
            }
        }
        return text.toString();
    }

    /**
     * The bytes of a text of either form, of standard base64 or of a data URI; else throws {@link PayloadException}.
     * Only the form is checked: {@link Payload#read} and {@link Scene#read} check the bytes.
     */
    public static byte[] read(String text) {
        String found = text.replaceFirst("^[\\t\\r\\n]+", "").replaceFirst("\\s+$", "");
        if (!TEXT_45.matcher(found).matches()) { // its first digits may be spaces
            found = found.trim().replaceFirst("^data:[^,]*,", "");
        }
        if (TEXT_45.matcher(found).matches()) {
            return fromBase45(found);
        }
        if (TEXT_64.matcher(found).matches()) {
            return fromBase64(found.replaceAll("\\s|=+$", "").replace('+', '-').replace('/', '_'));
        }
        throw new PayloadException("not a payload's text: it begins in another way");
    }

    private static byte[] fromBase64(String text) {
        ByteArrayOutputStream output = new ByteArrayOutputStream();
        int buffer = 0;
        int bits = 0;
        for (char character : text.toCharArray()) {
            buffer = buffer << 6 | digit(BASE64, character);
            bits += 6;
            if (bits >= 8) {
                bits -= 8;
                output.write(buffer >> bits);
            }
        }
        check(bits < 6);
        return output.toByteArray();
    }

    private static byte[] fromBase45(String text) {
        ByteArrayOutputStream output = new ByteArrayOutputStream();
        for (int at = 0; at < text.length(); at += 3) {
            int count = Math.min(3, text.length() - at);
            int value = 0;
            for (int index = count - 1; index >= 0; index--) {
                value = 45 * value + digit(BASE45, text.charAt(at + index));
            }
            check(count > 1 && value < 1 << 8 * (count - 1));
            if (count == 3) {
                output.write(value >> 8);
            }
            output.write(value);
        }
        return output.toByteArray();
    }

    private static int digit(String digits, char character) {
        int value = digits.indexOf(character);
        check(value >= 0);
        return value;
    }

    private static void check(boolean intact) {
        if (!intact) {
            throw new PayloadException("the payload's text was altered or cut off");
        }
    }
}

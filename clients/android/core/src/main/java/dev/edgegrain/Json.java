package dev.edgegrain;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** A small JSON reader: objects are maps, arrays lists, numbers {@code Double}; for a bundle's files. */
public final class Json {
    private static final int MAX_DEPTH = 32;

    private final String text;
    private int at;

    private Json(String text) {
        this.text = text;
    }

    /** Reads one value; throws {@link BundleException} if the text is not JSON. */
    public static Object parse(String text) {
        Json json = new Json(text);
        try {
            Object value = json.value(0);
            json.space();
            if (json.at != text.length()) {
                throw json.wrong();
            }
            return value;
        } catch (StringIndexOutOfBoundsException | NumberFormatException error) {
            throw json.wrong();
        }
    }

    /** The value as an object. */
    @SuppressWarnings("unchecked")
    public static Map<String, Object> object(Object value, String what) {
        if (!(value instanceof Map)) {
            throw new BundleException(what + " must be an object");
        }
        return (Map<String, Object>) value;
    }

    /** The value as a list. */
    @SuppressWarnings("unchecked")
    public static List<Object> list(Object value, String what) {
        if (!(value instanceof List)) {
            throw new BundleException(what + " must be a list");
        }
        return (List<Object>) value;
    }

    /** The value as a string. */
    public static String string(Object value, String what) {
        if (!(value instanceof String)) {
            throw new BundleException(what + " must be a string");
        }
        return (String) value;
    }

    /** The value as a whole number from {@code least} to {@code most}. */
    public static long whole(Object value, String what, long least, long most) {
        double number = value instanceof Double ? (Double) value : Double.NaN;
        if (!(number >= least && number <= most) || number != Math.rint(number)) {
            throw new BundleException(what + " must be a whole number of " + least + " to " + most + ", is " + value);
        }
        return (long) number;
    }

    private Object value(int depth) {
        if (depth > MAX_DEPTH) {
            throw wrong();
        }
        space();
        switch (text.charAt(at)) {
            case '{':
                return members(depth);
            case '[':
                return items(depth);
            case '"':
                return quoted();
            case 't':
                return word("true", Boolean.TRUE);
            case 'f':
                return word("false", Boolean.FALSE);
            case 'n':
                return word("null", null);
            default:
                int start = at;
                while (at < text.length() && "+-.eE0123456789".indexOf(text.charAt(at)) >= 0) {
                    at++;
                }
                return Double.valueOf(text.substring(start, at));
        }
    }

    private Map<String, Object> members(int depth) {
        Map<String, Object> members = new LinkedHashMap<>();
        at++;
        if (ends('}')) {
            return members;
        }
        do {
            space();
            String name = quoted();
            expect(':');
            members.put(name, value(depth + 1));
        } while (follows());
        expect('}');
        return members;
    }

    private List<Object> items(int depth) {
        List<Object> items = new ArrayList<>();
        at++;
        if (ends(']')) {
            return items;
        }
        do {
            items.add(value(depth + 1));
        } while (follows());
        expect(']');
        return items;
    }

    private String quoted() {
        expect('"');
        StringBuilder string = new StringBuilder();
        for (char next = text.charAt(at++); next != '"'; next = text.charAt(at++)) {
            string.append(next == '\\' ? escaped() : next);
        }
        return string.toString();
    }

    private char escaped() {
        char name = text.charAt(at++);
        if (name == 'u') {
            at += 4;
            return (char) Integer.parseInt(text.substring(at - 4, at), 16);
        }
        int index = "\"\\/bfnrt".indexOf(name);
        if (index < 0) {
            throw wrong();
        }
        return "\"\\/\b\f\n\r\t".charAt(index);
    }

    private Object word(String word, Object value) {
        if (!text.startsWith(word, at)) {
            throw wrong();
        }
        at += word.length();
        return value;
    }

    private boolean ends(char end) {
        space();
        boolean ends = text.charAt(at) == end;
        at += ends ? 1 : 0;
        return ends;
    }

    private boolean follows() {
        space();
        boolean comma = text.charAt(at) == ',';
        at += comma ? 1 : 0;
        return comma;
    }

    private void expect(char expected) {
        space();
        if (text.charAt(at++) != expected) {
            throw wrong();
        }
    }

    private void space() {
        while (at < text.length() && " \t\r\n".indexOf(text.charAt(at)) >= 0) {
            at++;
        }
    }

    private BundleException wrong() {
        return new BundleException("not JSON at character " + at + "; fetch the bundle again");
    }
}

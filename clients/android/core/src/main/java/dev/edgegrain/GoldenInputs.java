package dev.edgegrain;

import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/** A bundle's golden.json: inputs any language can generate, and the SHA-256 of their LRs. */
public final class GoldenInputs {
    private static final int MAX_SIDE = 4096;

    private final int hr;
    private final List<Object> inputs;

    private GoldenInputs(Map<String, Object> source) {
        hr = (int) Json.whole(source.get("hr"), "golden hr", 2, MAX_SIDE);
        inputs = Json.list(source.get("inputs"), "golden inputs");
        if (inputs.isEmpty()) {
            throw new BundleException("the golden vectors hold no inputs; fetch the bundle again");
        }
    }

    /** Reads golden.json; throws {@link BundleException} if it is malformed. */
    public static GoldenInputs parse(String json) {
        return new GoldenInputs(Json.object(Json.parse(json), "golden vectors"));
    }

    /** How many inputs there are. */
    public int count() {
        return inputs.size();
    }

    /** The last input, a picture of noise. */
    Rgb lastPicture() {
        return picture(Json.object(inputs.get(inputs.size() - 1), "a golden input"), hr);
    }

    /** Runs every input; returns the names of those whose LR is another. */
    public List<String> check(EncoderRunner runner) {
        List<String> failed = new ArrayList<>();
        for (Object item : inputs) {
            Map<String, Object> input = Json.object(item, "a golden input");
            Rgb picture = picture(input, hr);
            if (!sha256(runner.encode(picture).data).equals(input.get("lr_sha256"))) {
                failed.add(Json.string(input.get("name"), "a golden input's name"));
            }
        }
        return failed;
    }

    /** The first {@code count} bytes of the linear congruential generator that every client shares. */
    static byte[] generatorBytes(int seed, int count) {
        byte[] bytes = new byte[count];
        int state = seed;
        for (int index = 0; index < count; index++) {
            state = state * 1664525 + 1013904223;
            bytes[index] = (byte) (state >>> 24);
        }
        return bytes;
    }

    /** SHA-256, in hex. */
    static String sha256(byte[] data) {
        try {
            StringBuilder hex = new StringBuilder();
            for (byte part : MessageDigest.getInstance("SHA-256").digest(data)) {
                hex.append(String.format("%02x", part & 255));
            }
            return hex.toString();
        } catch (NoSuchAlgorithmException error) {
            throw new IllegalStateException("every Java has SHA-256", error);
        }
    }

    /** One input of side {@code hr}, as edge_encoder/golden_inputs.py defines it. */
    static Rgb picture(Map<String, Object> input, int hr) {
        Map<String, Object> parameters = Json.object(input.get("parameters"), "golden parameters");
        Level level = level(Json.string(input.get("kind"), "a golden kind"), parameters, hr);
        byte[] data = new byte[3 * hr * hr];
        int at = 0;
        for (int y = 0; y < hr; y++) {
            for (int x = 0; x < hr; x++) {
                for (int channel = 0; channel < 3; channel++) {
                    data[at++] = (byte) level.at(x, y, channel);
                }
            }
        }
        return new Rgb(hr, hr, data);
    }

    private interface Level {
        int at(int x, int y, int channel);
    }

    private static Level level(String kind, Map<String, Object> parameters, int hr) {
        switch (kind) {
            case "constant":
                int[] colour = colour(parameters, "colour");
                return (x, y, channel) -> colour[channel];
            case "gradient":
                return gradient(parameters, hr);
            case "checkerboard":
                int period = whole(parameters, "period", 1, MAX_SIDE);
                int[] first = colour(parameters, "first");
                int[] second = colour(parameters, "second");
                return (x, y, channel) -> ((x / period + y / period) % 2 == 0 ? first : second)[channel];
            case "noise":
                int block = whole(parameters, "block", 1, MAX_SIDE);
                int low = whole(parameters, "low", 0, 255);
                int span = whole(parameters, "high", low, 255) - low + 1;
                int cells = (hr + block - 1) / block;
                byte[] values = generatorBytes((int) seed(parameters), 3 * cells * cells);
                return (x, y, channel) ->
                        low + ((values[3 * (cells * (y / block) + x / block) + channel] & 255) * span >> 8);
            default:
                throw new BundleException("unknown kind of golden input " + kind + "; update this library");
        }
    }

    private static Level gradient(Map<String, Object> parameters, int hr) {
        int[] from = colour(parameters, "from");
        int[] to = colour(parameters, "to");
        String axis = Json.string(parameters.get("axis"), "a gradient's axis");
        int across = axis.equals("y") ? 0 : 1;
        int down = axis.equals("x") ? 0 : 1;
        int steps = (across + down) * (hr - 1);
        return (x, y, channel) -> {
            int t = across * x + down * y;
            return (from[channel] * (steps - t) + to[channel] * t + steps / 2) / steps;
        };
    }

    private static long seed(Map<String, Object> parameters) {
        return Json.whole(parameters.get("seed"), "a golden seed", 0, 0xffffffffL);
    }

    private static int whole(Map<String, Object> parameters, String name, int least, int most) {
        return (int) Json.whole(parameters.get(name), "golden " + name, least, most);
    }

    private static int[] colour(Map<String, Object> parameters, String name) {
        List<Object> levels = Json.list(parameters.get(name), "golden " + name);
        if (levels.size() != 3) {
            throw new BundleException("golden " + name + " must have three levels, has " + levels.size());
        }
        int[] colour = new int[3];
        for (int channel = 0; channel < 3; channel++) {
            colour[channel] = (int) Json.whole(levels.get(channel), "golden " + name, 0, 255);
        }
        return colour;
    }
}

package dev.edgegrain;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;

/** A bundle's coder.json: the three small integer networks of docs/lr_coder.md, checked before use. */
public final class CoderTables {
    /** Length of the context of a red, green and blue sample. */
    static final int[] CONTEXT_SIZES = {39, 40, 41};

    private static final String FORMAT = "edgegrain coder tables 1";
    /** Of tables with a step above 1. */
    private static final String FORMAT_WITH_STEP = "edgegrain coder tables 2";
    private static final int MAX_STEP = 64;
    private static final int ACTIVATION_MAX = 4095;
    private static final int INPUT_LIMIT = 255;
    private static final long ACCUMULATOR_LIMIT = 1L << 30;
    private static final int MAX_WIDTH = 256;
    private static final int MAX_HIDDEN_LAYERS = 4;
    private static final int MAX_SHIFT = 24;
    private static final int MAX_BIAS = 1 << 30;

    private final Network[] channels = new Network[3];
    /** Payloads store levels as multiples of it, 1 to 64. */
    final int step;

    private CoderTables(List<Object> networks, int step) {
        this.step = step;
        for (int channel = 0; channel < 3; channel++) {
            channels[channel] = new Network(Json.object(networks.get(channel), "a channel"), CONTEXT_SIZES[channel]);
        }
    }

    /** Reads coder.json; throws {@link BundleException} if a shape is wrong or an accumulator could leave 2^30. */
    public static CoderTables parse(String json) {
        Map<String, Object> source = Json.object(Json.parse(json), "coder tables");
        boolean withStep = FORMAT_WITH_STEP.equals(source.get("format"));
        if (!withStep && !FORMAT.equals(source.get("format"))) {
            throw new BundleException(
                    "coder tables must be of format \"" + FORMAT + "\" or \"" + FORMAT_WITH_STEP + "\"");
        }
        int step = withStep ? (int) Json.whole(source.get("step"), "coder tables' step", 2, MAX_STEP) : 1;
        List<Object> networks = Json.list(source.get("channels"), "coder tables' channels");
        if (networks.size() != 3) {
            throw new BundleException("coder tables must list three channels, got " + networks.size());
        }
        return new CoderTables(networks, step);
    }

    /** The LR as a payload stores it: levels rounded to multiples of the step, halves up. */
    Rgb rounded(Rgb lr) {
        return new Rgb(lr.width, lr.height, levels(indices(lr.data)));
    }

    /** What the coder codes: levels divided by the step, halves rounded up. */
    byte[] indices(byte[] levels) {
        byte[] indices = new byte[levels.length];
        for (int at = 0; at < levels.length; at++) {
            indices[at] = (byte) (((levels[at] & 255) + step / 2) / step);
        }
        return indices;
    }

    /** The levels of coded indices; throws {@link PayloadException} for an index that no level has. */
    byte[] levels(byte[] indices) {
        byte[] levels = new byte[indices.length];
        for (int at = 0; at < indices.length; at++) {
            int index = indices[at] & 255;
            if (index > (255 + step / 2) / step) {
                throw new PayloadException("the payload is corrupt: a level is above 255");
            }
            levels[at] = (byte) Math.min(index * step, 255);
        }
        return levels;
    }

    /** Mean minus that of the reference, in sixteenths of a level, and scale index, both before clamping. */
    int[] predict(int channel, int[] context) {
        return channels[channel].predict(context);
    }

    private static final class Network {
        private final List<Layer> hidden = new ArrayList<>();
        private final Layer output;

        Network(Map<String, Object> source, int contextSize) {
            List<Object> layers = Json.list(source.get("hidden"), "a channel's hidden layers");
            if (layers.isEmpty() || layers.size() > MAX_HIDDEN_LAYERS) {
                throw new BundleException("coder tables: 1 to " + MAX_HIDDEN_LAYERS + " hidden layers are allowed");
            }
            int[] context = filled(contextSize, INPUT_LIMIT);
            int[] limits = context;
            for (Object layer : layers) {
                hidden.add(new Layer(Json.object(layer, "a layer"), limits));
                limits = filled(hidden.get(hidden.size() - 1).bias.length, ACTIVATION_MAX);
            }
            output = new Layer(Json.object(source.get("output"), "the output layer"), joined(context, limits));
            if (output.bias.length != 2) {
                throw new BundleException("coder tables: a network has two outputs, mean and scale");
            }
        }

        int[] predict(int[] context) {
            int[] values = context;
            for (Layer layer : hidden) {
                values = layer.accumulate(values);
                for (int index = 0; index < values.length; index++) {
                    values[index] = Math.min(Math.max(values[index], 0), ACTIVATION_MAX);
                }
            }
            return output.accumulate(joined(context, values));
        }
    }

    private static final class Layer {
        final int inputs;
        /** Row by row, a row an output. */
        final byte[] weight;
        /** With the rounding half added. */
        final int[] bias;
        final int[] shift;

        /** A layer whose inputs have at most the magnitudes {@code limits}. */
        Layer(Map<String, Object> source, int[] limits) {
            bias = integers(source.get("bias"), "bias", -MAX_BIAS, MAX_BIAS);
            shift = integers(source.get("shift"), "shift", 0, MAX_SHIFT);
            weight = decodeBase64(Json.string(source.get("weight"), "weight"));
            inputs = limits.length;
            if (shift.length != bias.length || weight.length != inputs * bias.length) {
                throw new BundleException(
                        "coder tables: " + bias.length + " outputs of " + inputs + " inputs need as many shifts and "
                                + inputs * bias.length + " weights, got " + shift.length + " and " + weight.length);
            }
            for (int output = 0; output < bias.length; output++) {
                long bound = Math.abs((long) bias[output]) + (1L << shift[output]);
                for (int input = 0; input < inputs; input++) {
                    int magnitude = Math.abs(weight[output * inputs + input]);
                    if (magnitude > 127) {
                        throw new BundleException("coder tables: weights have magnitudes of at most 127");
                    }
                    bound += (long) magnitude * limits[input];
                }
                if (bound >= ACCUMULATOR_LIMIT) {
                    throw new BundleException(
                            "coder tables: a sum can reach " + bound + ", the limit is " + ACCUMULATOR_LIMIT);
                }
                bias[output] += 1 << shift[output] >> 1;
            }
        }

        int[] accumulate(int[] values) {
            int[] sums = bias.clone();
            int at = 0;
            for (int output = 0; output < sums.length; output++) {
                for (int input = 0; input < inputs; input++) {
                    sums[output] += weight[at++] * values[input];
                }
                sums[output] >>= shift[output];
            }
            return sums;
        }
    }

    private static int[] filled(int length, int value) {
        int[] values = new int[length];
        Arrays.fill(values, value);
        return values;
    }

    private static int[] joined(int[] first, int[] second) {
        int[] joined = Arrays.copyOf(first, first.length + second.length);
        System.arraycopy(second, 0, joined, first.length, second.length);
        return joined;
    }

    private static int[] integers(Object source, String name, int least, int most) {
        List<Object> values = Json.list(source, "coder tables: " + name);
        if (values.isEmpty() || values.size() > MAX_WIDTH) {
            throw new BundleException("coder tables: " + name + " must list 1 to " + MAX_WIDTH + " numbers");
        }
        int[] integers = new int[values.size()];
        for (int index = 0; index < integers.length; index++) {
            integers[index] = (int) Json.whole(values.get(index), "coder tables: " + name, least, most);
        }
        return integers;
    }

    /** Java has it only from Android 8 on. */
    private static byte[] decodeBase64(String text) {
        String alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        int padding = text.endsWith("==") ? 2 : text.endsWith("=") ? 1 : 0;
        if (text.length() % 4 != 0) {
            throw new BundleException("coder tables: weight must be base64");
        }
        byte[] data = new byte[text.length() / 4 * 3 - padding];
        int bits = 0;
        for (int index = 0; index < text.length(); index++) {
            int digit = index >= text.length() - padding ? 0 : alphabet.indexOf(text.charAt(index));
            if (digit < 0) {
                throw new BundleException("coder tables: weight must be base64");
            }
            bits = bits << 6 | digit;
            for (int part = 0; index % 4 == 3 && part < 3; part++) {
                int target = index / 4 * 3 + part;
                if (target < data.length) {
                    data[target] = (byte) (bits >> 16 - 8 * part);
                }
            }
        }
        return data;
    }
}

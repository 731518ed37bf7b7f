package dev.edgegrain;

import java.util.Arrays;
import java.util.List;
import java.util.Locale;

/** What a device proves and measures about itself: device-report.json, docs/devices.md. */
public final class DeviceReport {
    private DeviceReport() {}

    /**
     * Runs the bundle's golden vectors, then one of them {@code runs} times, at least once.
     *
     * @param device its name, such as {@code Build.MANUFACTURER + " " + Build.MODEL}
     * @param runtime what runs the encoder, such as {@code LiteRT 2.3.0, CompiledModel, XNNPACK}
     * @return the content of device-report.json
     */
    public static String measure(
            Bundle bundle, EncoderRunner runner, String device, String runtime, int threads, int runs) {
        List<String> failed = bundle.golden.check(runner);
        Rgb picture = bundle.golden.lastPicture();
        double[] times = new double[Math.max(1, runs)];
        for (int run = 0; run < times.length; run++) {
            long start = System.nanoTime();
            runner.encode(picture);
            times[run] = (System.nanoTime() - start) / 1e6;
        }
        Arrays.sort(times);
        StringBuilder names = new StringBuilder();
        for (String name : failed) {
            names.append(names.length() == 0 ? "" : ", ").append(quoted(name));
        }
        return String.format(
                Locale.ROOT,
                "{\n \"schema\": 1,\n \"platform\": \"android\",\n \"device\": %s,\n \"runtime\": %s,\n"
                        + " \"threads\": %d,\n"
                        + " \"bundle\": %s,\n \"lr_contract_id\": %s,\n \"checked\": %d,\n \"failed\": [%s],\n"
                        + " \"encode_ms\": {\"runs\": %d, \"median\": %.2f, \"least\": %.2f, \"most\": %.2f}\n}\n",
                quoted(device), quoted(runtime), threads, quoted(bundle.id), quoted(bundle.contractId),
                bundle.golden.count(), names, times.length, times[times.length / 2], times[0],
                times[times.length - 1]);
    }

    private static String quoted(String text) {
        StringBuilder quoted = new StringBuilder("\"");
        for (char character : text.toCharArray()) {
            if (character < ' ') {
                quoted.append(String.format(Locale.ROOT, "\\u%04x", (int) character));
            } else {
                quoted.append(character == '"' || character == '\\' ? "\\" : "").append(character);
            }
        }
        return quoted.append('"').toString();
    }
}

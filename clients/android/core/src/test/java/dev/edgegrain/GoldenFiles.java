package dev.edgegrain;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;

/** The golden files all clients share, tests/golden/ of the repository, and the default bundle. */
final class GoldenFiles {
    private final Path repository;

    GoldenFiles(Path repository) {
        this.repository = repository;
    }

    byte[] bytes(String path) throws IOException {
        return Files.readAllBytes(repository.resolve(path));
    }

    String text(String path) throws IOException {
        return new String(bytes(path), StandardCharsets.UTF_8);
    }

    Map<String, Object> object(String path) throws IOException {
        return Json.object(Json.parse(text(path)), path);
    }

    /** The objects that the file lists under {@code name}. */
    List<Map<String, Object>> cases(String path, String name) throws IOException {
        List<Map<String, Object>> cases = new ArrayList<>();
        for (Object item : Json.list(object(path).get(name), name)) {
            cases.add(Json.object(item, name));
        }
        return cases;
    }

    Bundle bundle() {
        return Bundle.read(name -> Files.newInputStream(repository.resolve("bundles/faces-256-lr16-small").resolve(name)));
    }

    /** The picture of a case: generated, or the binary PPM it names. */
    Rgb picture(Map<String, Object> source) throws IOException {
        if (!source.containsKey("file")) {
            int[] size = pair(source, "size");
            return new Rgb(size[0], size[1], generated(source, 3));
        }
        byte[] file = bytes("tests/golden/clients/" + source.get("file"));
        String[] header = new String(file, 0, 40, StandardCharsets.ISO_8859_1).split("\n");
        String[] size = header[1].split(" ");
        int start = header[0].length() + header[1].length() + header[2].length() + 3;
        byte[] data = Arrays.copyOfRange(file, start, file.length);
        return new Rgb(Integer.parseInt(size[0]), Integer.parseInt(size[1]), data);
    }

    /** Cells of noise, as tests/golden/regenerate_clients.py says. */
    static byte[] generated(Map<String, Object> source, int channels) {
        int[] size = pair(source, "size");
        int block = source.containsKey("block") ? number(source, "block") : 1;
        int across = (size[0] + block - 1) / block;
        int down = (size[1] + block - 1) / block;
        byte[] cells = GoldenInputs.generatorBytes(number(source, "seed"), across * down * channels);
        byte[] data = new byte[size[0] * size[1] * channels];
        int at = 0;
        for (int y = 0; y < size[1]; y++) {
            for (int x = 0; x < size[0]; x++) {
                System.arraycopy(cells, channels * (across * (y / block) + x / block), data, at, channels);
                at += channels;
            }
        }
        return data;
    }

    static int number(Map<String, Object> source, String name) {
        return (int) Json.whole(source.get(name), name, 0, Integer.MAX_VALUE);
    }

    static int[] pair(Map<String, Object> source, String name) {
        List<Object> items = Json.list(source.get(name), name);
        return new int[] {((Double) items.get(0)).intValue(), ((Double) items.get(1)).intValue()};
    }

    static Fit fit(Map<String, Object> source) {
        return Fit.valueOf(((String) source.get("fit")).toUpperCase(java.util.Locale.ROOT));
    }

    static byte[] hex(Object text) {
        String digits = (String) text;
        byte[] data = new byte[digits.length() / 2];
        for (int index = 0; index < data.length; index++) {
            data[index] = (byte) Integer.parseInt(digits.substring(2 * index, 2 * index + 2), 16);
        }
        return data;
    }
}

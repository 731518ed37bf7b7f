package dev.edgegrain;

import java.io.ByteArrayInputStream;
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
    /** The LR contract id, by edge_encoder/contract_id.py, of the default bundle's encoder with a step of 32. */
    private static final String FINE_CONTRACT = GoldenInputs.sha256(new byte[0]);
    private static final String COARSE_CONTRACT = "bfa0eee7808cfe5cfe7998da9bc538524f893f5248a116fb8e6898e3588e9125";

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

    /** The default bundle with a second rate, and with one golden vector: a black picture, whose LR is black. */
    Bundle easyBundle() throws IOException {
        String folder = "bundles/faces-256-lr16-small/";
        String black = "{\"hr\": 256, \"inputs\": [{\"name\": \"black\", \"kind\": \"constant\", \"parameters\": "
                + "{\"colour\": [0, 0, 0]}, \"lr_sha256\": \"" + GoldenInputs.sha256(new byte[768]) + "\"}]}";
        byte[] vectors = black.getBytes(StandardCharsets.UTF_8);
        byte[] coarse = text(folder + "coder.json").replace("\"step\":2,", "\"step\":32,")
                .getBytes(StandardCharsets.UTF_8);
        byte[] fine = text(folder + "coder.json").replace("tables 2\",\"step\":2,", "tables 1\",")
                .getBytes(StandardCharsets.UTF_8);
        byte[] manifest = text(folder + "manifest.json")
                .replace(GoldenInputs.sha256(bytes(folder + "golden.json")), GoldenInputs.sha256(vectors))
                .replace("\"files\": {", "\"rates\": [{\"file\": \"coder_32.json\", \"lr_contract_id\": \""
                        + COARSE_CONTRACT + "\"}, {\"file\": \"coder_fine.json\", \"lr_contract_id\": \""
                        + FINE_CONTRACT + "\"}], \"files\": {\"coder_32.json\": {\"sha256\": \""
                        + GoldenInputs.sha256(coarse) + "\"}, \"coder_fine.json\": {\"sha256\": \""
                        + GoldenInputs.sha256(fine) + "\"},")
                .getBytes(StandardCharsets.UTF_8);
        return Bundle.read(name -> new ByteArrayInputStream(name.equals("golden.json") ? vectors
                : name.equals("coder_32.json") ? coarse
                : name.equals("coder_fine.json") ? fine
                : name.equals("manifest.json") ? manifest : bytes(folder + name)));
    }

    /** The picture of a case: generated, or the binary PPM it names, or one of tests/golden/recorded_faces.py. */
    Rgb picture(Map<String, Object> source) throws IOException {
        if (source.containsKey("cut")) {
            return ExactSquare.cut(file(source), square(source, "cut"), number(source, "side"));
        }
        if (source.containsKey("file")) {
            return file(source);
        }
        int[] size = pair(source, "size");
        Rgb picture = new Rgb(size[0], size[1], generated(source, 3));
        if (source.containsKey("pasted")) {
            for (Object item : Json.list(source.get("pasted"), "pasted")) {
                Map<String, Object> pasted = Json.object(item, "pasted");
                int[] partSize = pair(pasted, "size");
                Rgb part = Orientation.upright(file(pasted), number(pasted, "orientation"));
                paste(ExactResize.resize(part, partSize[0], partSize[1]), pair(pasted, "at"), picture);
            }
        }
        return picture;
    }

    private static void paste(Rgb part, int[] at, Rgb picture) {
        for (int y = 0; y < part.height; y++) {
            for (int x = 0; x < part.width; x++) {
                int column = at[0] + x;
                int row = at[1] + y;
                if (column >= 0 && row >= 0 && column < picture.width && row < picture.height) {
                    int to = 3 * (picture.width * row + column);
                    System.arraycopy(part.data, 3 * (part.width * y + x), picture.data, to, 3);
                }
            }
        }
    }

    private Rgb file(Map<String, Object> source) throws IOException {
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

    static OrientedSquare square(Map<String, Object> source, String name) {
        List<Object> numbers = Json.list(source.get(name), name);
        int[] square = new int[4];
        for (int index = 0; index < 4; index++) {
            square[index] = ((Double) numbers.get(index)).intValue();
        }
        return new OrientedSquare(square[0], square[1], square[2], square[3]);
    }

    static double[] point(Map<String, Object> source, String name) {
        List<Object> numbers = Json.list(source.get(name), name);
        return new double[] {(Double) numbers.get(0), (Double) numbers.get(1)};
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

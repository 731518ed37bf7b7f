package dev.edgegrain;

import java.io.ByteArrayOutputStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Map;

/** Tests of aligned pictures: squares, their payloads, scenes, and the faces of photographs. */
final class AlignedTests {
    private static final String ALIGNED = "tests/golden/clients/aligned.json";
    private static final String PHOTOS = "tests/golden/clients/photos.json";

    private final GoldenFiles golden;
    private final Bundle bundle;
    private final ClientTests tests;

    AlignedTests(GoldenFiles golden, Bundle bundle, ClientTests tests) {
        this.golden = golden;
        this.bundle = bundle;
        this.tests = tests;
    }

    void addTo(Map<String, ClientTests.Test> all) {
        all.put("squares are cut out as pinned", this::squares);
        all.put("payloads of aligned pictures are read and written again", this::read);
        all.put("payloads of squares are Python's", this::encodings);
        all.put("the squares of faces are Python's", this::points);
        all.put("points that are no face's are refused", this::refusedPoints);
        all.put("scenes are read and written again", this::scenes);
        all.put("damaged scenes are refused", this::damagedScenes);
        all.put("a background may have a colour profile, no transparency", this::backgrounds);
        all.put("the faces of photographs are Python's", this::photos);
        all.put("photographs are compressed by their faces", this::compression);
        all.put("faces that are not restored well are told", this::problems);
        all.put("a network without the expected outputs is refused", this::otherNetworks);
    }

    private void squares() throws Exception {
        for (Map<String, Object> item : golden.cases("tests/golden/contract/squares.json", "cases")) {
            OrientedSquare square = GoldenFiles.square(item, "square");
            Rgb cut = ExactSquare.cut(golden.picture(item), square, GoldenFiles.number(item, "side"));
            tests.equal(item.get("sha256"), GoldenInputs.sha256(cut.data), item.get("size") + ", " + square);
        }
    }

    private void read() throws Exception {
        for (Map<String, Object> item : golden.cases(ALIGNED, "payloads")) {
            byte[] data = GoldenFiles.hex(item.get("payload"));
            Payload payload = Payload.read(data);
            Rgb lr = payload.lr(bundle.contractId, bundle.tables);
            tests.equal(item.get("lr_sha256"), GoldenInputs.sha256(lr.data), item.get("name") + ", LR");
            tests.equal(Fit.ALIGN, payload.header.fit, "fit");
            OrientedSquare square = GoldenFiles.square(item, "square");
            tests.equal(square, payload.header.square, item.get("name") + ", square");
            int[] size = GoldenFiles.pair(item, "original_size");
            Payload again = Payload.pack(
                    lr, bundle.contractId, bundle.tables, size[0], size[1], square, payload.header.coding);
            tests.rewritten(payload, again, String.valueOf(item.get("name")));
        }
    }

    private void encodings() throws Exception {
        for (Map<String, Object> item : golden.cases(ALIGNED, "encodings")) {
            Rgb picture = golden.picture(item);
            OrientedSquare square = GoldenFiles.square(item, "square");
            Rgb fitted = ExactSquare.cut(picture, square, bundle.hr);
            tests.equal(item.get("fitted_sha256"), GoldenInputs.sha256(fitted.data), "fitted " + square);
            byte[] lr = GoldenFiles.hex(item.get("lr"));
            try (EdgeEncoder encoder = encoder(seen -> lr)) {
                tests.equal(GoldenFiles.hex(item.get("payload")), encoder.compressSquare(picture, square).bytes(),
                        "payload of " + square);
            }
        }
    }

    private void points() throws Exception {
        for (Map<String, Object> item : golden.cases(ALIGNED, "points")) {
            int[] size = GoldenFiles.pair(item, "size");
            OrientedSquare square = FfhqSquare.around(GoldenFiles.point(item, "left_eye"),
                    GoldenFiles.point(item, "right_eye"), GoldenFiles.point(item, "mouth"), size[0], size[1]);
            tests.equal(GoldenFiles.square(item, "square"), square, "square of " + item.get("left_eye"));
            tests.equal(item.get("framed"), FfhqSquare.isFramed(square, size[0], size[1]), "framed " + square);
        }
    }

    private void refusedPoints() throws Exception {
        try (EdgeEncoder encoder = encoder(seen -> new byte[768])) {
            for (Map<String, Object> item : golden.cases(ALIGNED, "refused_points")) {
                int[] size = GoldenFiles.pair(item, "size");
                Rgb picture = new Rgb(size[0], size[1], new byte[3 * size[0] * size[1]]);
                tests.refused(ImageException.class, () -> encoder.compressFace(picture,
                        GoldenFiles.point(item, "left_eye"), GoldenFiles.point(item, "right_eye"),
                        GoldenFiles.point(item, "mouth")));
            }
            Rgb picture = new Rgb(640, 480, new byte[3 * 640 * 480]);
            double[][] points = {{290, 210}, {350, 214}, {318, 280}};
            tests.equal(Fit.ALIGN, encoder.compressFace(picture, points[0], points[1], points[2]).header.fit, "fit");
            double[] wrong = {Double.NaN, Double.POSITIVE_INFINITY, Double.NEGATIVE_INFINITY};
            for (int place = 0; place < 6; place++) {
                for (double number : wrong) {
                    double[][] changed = {points[0].clone(), points[1].clone(), points[2].clone()};
                    changed[place / 2][place % 2] = number;
                    tests.refused(ImageException.class,
                            () -> encoder.compressFace(picture, changed[0], changed[1], changed[2]));
                }
            }
            tests.refused(ImageException.class,
                    () -> encoder.compressFace(picture, points[0], points[1], new double[] {1, 2, 3}));
            OrientedSquare huge = new OrientedSquare(0, 0, Integer.MIN_VALUE, Integer.MIN_VALUE);
            tests.refused(PayloadException.class, () -> encoder.compressSquare(picture, huge));
            tests.refused(ImageException.class, () -> encoder.compress(picture, Fit.ALIGN));
        }
    }

    private void scenes() throws Exception {
        for (Map<String, Object> item : golden.cases("tests/golden/contract/scenes.json", "scenes")) {
            byte[] data = GoldenFiles.hex(item.get("scene"));
            byte[] webp = GoldenFiles.hex(item.get("background_webp"));
            Scene scene = Scene.read(data);
            int[] size = GoldenFiles.pair(item, "original_size");
            tests.equal(size[0], scene.originalWidth, "width");
            tests.equal(size[1], scene.originalHeight, "height");
            List<Payload> faces = new ArrayList<>();
            for (Object face : Json.list(item.get("faces"), "faces")) {
                faces.add(Payload.read(GoldenFiles.hex(face)));
                tests.equal(faces.get(faces.size() - 1).bytes(), scene.faces.get(faces.size() - 1).bytes(), "face");
            }
            tests.equal(faces.size(), scene.faces.size(), "number of faces");
            tests.equal(webp.length == 0, scene.backgroundWebp() == null, "no background");
            if (webp.length > 0) {
                tests.equal(webp, scene.backgroundWebp(), "background");
            }
            byte[] background = webp.length == 0 ? null : webp;
            tests.equal(data, Scene.pack(faces, size[0], size[1], background).bytes(), "written again");
            tests.refused(PayloadException.class, () -> Payload.read(data));
            tests.refused(PayloadException.class,
                    () -> Scene.pack(Collections.nCopies(65, faces.get(0)), size[0], size[1], null));
        }
    }

    private void damagedScenes() throws Exception {
        for (Map<String, Object> item : golden.cases("tests/golden/contract/scenes.json", "damaged")) {
            byte[] data = GoldenFiles.hex(item.get("scene"));
            tests.refused(PayloadException.class, () -> Scene.read(data));
        }
        byte[] good = GoldenFiles.hex(golden.cases("tests/golden/contract/scenes.json", "scenes").get(0).get("scene"));
        for (int index = 0; index < good.length; index++) {
            byte[] changed = good.clone();
            changed[index] ^= 0x40;
            tests.refused(PayloadException.class, () -> Scene.read(changed));
        }
        tests.refused(PayloadException.class, () -> Scene.read(new byte[Scene.MAX_BYTES + 1]));
    }

    private void backgrounds() throws Exception {
        Map<String, Object> item = golden.cases("tests/golden/contract/scenes.json", "scenes").get(0);
        byte[] webp = GoldenFiles.hex(item.get("background_webp"));
        byte[] frame = WebpFile.frame(webp);
        tests.equal(webp, WebpFile.of(frame), "written again");
        byte[] chunk = Arrays.copyOfRange(webp, 12, webp.length);
        byte[] odd = riff(chunk("VP8X", 10), chunk("ICCP", 3), chunk, chunk("EXIF", 4));
        tests.equal(frame, WebpFile.frame(odd), "frame behind a colour profile");
        byte[][] refused = {
            new byte[0], riff(), riff(chunk("VP8L", 8)), riff(chunk("VP8X", 10), chunk("ALPH", 4), chunk),
            Arrays.copyOf(webp, webp.length - 2), GoldenFiles.hex("89504e470d0a1a0a"),
            riff(GoldenFiles.hex("56503820ffffffff0000")), riff(GoldenFiles.hex("49434350ffffffff0000")),
        };
        for (byte[] file : refused) {
            tests.refused(PayloadException.class, () -> WebpFile.frame(file));
        }
    }

    private void photos() throws Exception {
        FaceFinder finder = recordedFinder();
        for (Map<String, Object> item : golden.cases(PHOTOS, "photos")) {
            Rgb picture = golden.picture(item);
            List<FoundFace> found = finder.find(picture, (Boolean) item.get("every"));
            List<Object> expected = Json.list(item.get("faces"), "faces");
            tests.equal(expected.size(), found.size(), "number of faces: " + item.get("name"));
            for (int index = 0; index < found.size(); index++) {
                same(Json.object(expected.get(index), "a face"), found.get(index), picture);
            }
        }
    }

    /** Compares a face with Python's. */
    private void same(Map<String, Object> expected, FoundFace face, Rgb picture) {
        double[] centre = GoldenFiles.point(expected, "centre");
        DetectedFace found = face.detected;
        near(centre[0], found.x, 0.01, "x");
        near(centre[1], found.y, 0.01, "y");
        near((Double) expected.get("side"), found.side, 0.01, "side");
        near((Double) expected.get("roll"), found.roll(), 0.01, "roll");
        near((Double) expected.get("yaw"), found.yaw(), 0.01, "yaw");
        near((Double) expected.get("score"), found.score, 0.001, "score");
        near((Double) expected.get("share_outside"), found.shareOutside(picture.width, picture.height), 0.001, "share");
        List<Object> problems = new ArrayList<>();
        for (DetectedFace.Problem problem : found.problems(picture.width, picture.height).keySet()) {
            problems.add(problem.name().toLowerCase(java.util.Locale.ROOT).replace('_', '-'));
        }
        tests.equal(expected.get("problems"), problems, "problems");
        OrientedSquare square = face.square(picture.width, picture.height);
        tests.equal(GoldenFiles.square(expected, "square"), square, "square");
        tests.equal(expected.get("framed"), FfhqSquare.isFramed(square, picture.width, picture.height), "framed");
    }

    private void compression() throws Exception {
        FaceFinder finder = recordedFinder();
        EncoderRunner small = seen -> ExactResize.resize(seen, 16, 16);
        try (EdgeEncoder encoder = encoder(seen -> small.encode(seen).data)) {
            List<Map<String, Object>> photos = golden.cases(PHOTOS, "photos");
            Rgb group = golden.picture(photos.get(0));
            Rgb framed = golden.picture(named(photos, "a framed face"));
            Rgb empty = golden.picture(named(photos, "no face"));
            List<FoundFace> faces = finder.find(group, true);
            OrientedSquare[] squares = {
                faces.get(0).square(group.width, group.height), faces.get(1).square(group.width, group.height)
            };
            Payload largest = encoder.compressSquare(group, squares[0]);
            tests.equal(squares[0], largest.header.square, "square in the payload");
            tests.equal(largest.bytes(), encoder.compressPhoto(group, finder).bytes(), "the largest face");
            Payload whole = encoder.compress(framed, Fit.PAD);
            tests.equal(whole.bytes(), encoder.compressPhoto(framed, finder).bytes(), "framed");
            tests.refused(ImageException.class, () -> encoder.compressPhoto(empty, finder));
            List<Payload> all = encoder.compressFaces(group, finder);
            tests.equal(2, all.size(), "number of payloads");
            tests.equal(encoder.compressSquare(group, squares[1]).bytes(), all.get(1).bytes(), "the second face");
            Scene scene = encoder.compressScene(group, finder, null);
            tests.equal(Scene.pack(all, group.width, group.height, null).bytes(), scene.bytes(), "scene");
            tests.refused(ImageException.class, () -> encoder.compressScene(empty, finder, null));
            FoundFace face = faces.get(0);
            tests.equal(largest.bytes(),
                    encoder.compressFace(group, face.leftEye, face.rightEye, face.mouth).bytes(), "points of a face");
        }
    }

    private void problems() {
        double[][] front = {{80, 80}, {120, 80}, {100, 100}, {100, 120}, {60, 90}, {140, 90}};
        double[][] turned = {{80, 80}, {120, 80}, {140, 100}, {100, 120}, {60, 90}, {140, 90}};
        DetectedFace good = new DetectedFace(100, 100, 100, 0.9, front);
        tests.equal(Collections.emptySet(), good.problems(200, 200).keySet(), "a good face");
        DetectedFace[] faces = {
            new DetectedFace(100, 100, 31, 0.9, front), new DetectedFace(100, 100, 100, 0.9, turned),
            new DetectedFace(10, 100, 100, 0.9, front),
        };
        for (int index = 0; index < faces.length; index++) {
            tests.equal(Collections.singleton(DetectedFace.Problem.values()[index]),
                    faces[index].problems(200, 200).keySet(), "problem " + index);
        }
    }

    private void otherNetworks() {
        Rgb picture = new Rgb(10, 10, new byte[300]);
        FaceNetwork none = input -> new float[][] {new float[896]};
        tests.refused(DeviceException.class, () -> new FaceFinder(none, none).find(picture));
        float[] numbers = new float[896 * 16];
        float[] logits = new float[896];
        Arrays.fill(numbers, Float.NaN);
        Arrays.fill(logits, Float.NaN);
        FaceNetwork broken = input -> new float[][] {logits, numbers};
        tests.equal(0, new FaceFinder(broken, none).find(picture).size(), "faces without numbers");
        Arrays.fill(logits, 9);
        tests.equal(0, new FaceFinder(broken, none).find(picture).size(), "faces at no place");
    }

    /** An encoder of the default bundle whose golden vectors pass: the LRs of other pictures are given. */
    private EdgeEncoder encoder(Lr lr) throws Exception {
        boolean[] started = {false};
        return new EdgeEncoder(golden.easyBundle(), picture -> {
            byte[] levels = started[0] ? lr.of(picture) : new byte[768];
            started[0] = true;
            return new Rgb(16, 16, levels);
        });
    }

    private interface Lr {
        byte[] of(Rgb picture);
    }

    private FaceFinder recordedFinder() throws Exception {
        Map<String, Object> recording = golden.object("tests/golden/clients/face_networks.json");
        Map<String, Object> detections = Json.object(recording.get("detector"), "detector");
        Map<String, Object> meshes = Json.object(recording.get("mesh"), "mesh");
        return new FaceFinder(input -> {
            short[] values = recorded(detections, input, 127.5f, 1);
            float[] numbers = new float[896 * 16];
            float[] logits = new float[896];
            Arrays.fill(logits, -9);
            for (int row = 0; row < values.length; row += 18) {
                logits[values[row]] = values[row + 1] / 256f;
                for (int index = 0; index < 16; index++) {
                    numbers[16 * values[row] + index] = values[row + 2 + index] / 64f;
                }
            }
            return new float[][] {logits, numbers};
        }, input -> {
            short[] values = recorded(meshes, input, 255, 0);
            float[] points = new float[3 * 468];
            for (int point = 0; point < 468; point++) {
                points[3 * point] = values[1 + 2 * point] / 64f;
                points[3 * point + 1] = values[2 + 2 * point] / 64f;
            }
            return new float[][] {points, {values[0] / 256f}};
        });
    }

    /** The numbers recorded for an input, which is found by its levels. */
    private short[] recorded(Map<String, Object> outputs, float[] input, float scale, float offset) {
        byte[] levels = new byte[input.length];
        for (int index = 0; index < input.length; index++) {
            float level = (input[index] + offset) * scale;
            levels[index] = (byte) Math.round(level);
            if (Math.abs(level - Math.round(level)) > 0.01) {
                throw new AssertionError("no level: " + input[index]);
            }
        }
        String digest = GoldenInputs.sha256(levels);
        if (!outputs.containsKey(digest)) {
            throw new AssertionError("Python's networks never saw the input " + digest);
        }
        byte[] data = GoldenFiles.hex(outputs.get(digest));
        short[] values = new short[data.length / 2];
        for (int index = 0; index < values.length; index++) {
            values[index] = (short) (data[2 * index] & 255 | data[2 * index + 1] << 8);
        }
        return values;
    }

    private void near(double expected, double found, double tolerance, String what) {
        tests.equal(true, Math.abs(expected - found) <= tolerance, what + ": expected " + expected + ", got " + found);
    }

    private static Map<String, Object> named(List<Map<String, Object>> items, String name) {
        return items.stream().filter(item -> name.equals(item.get("name"))).findFirst().get();
    }

    private static byte[] riff(byte[]... chunks) {
        ByteArrayOutputStream output = new ByteArrayOutputStream();
        byte[] head = "RIFF\0\0\0\0WEBP".getBytes(StandardCharsets.US_ASCII);
        output.write(head, 0, head.length);
        for (byte[] chunk : chunks) {
            output.write(chunk, 0, chunk.length);
        }
        return output.toByteArray();
    }

    private static byte[] chunk(String name, int length) {
        byte[] chunk = Arrays.copyOf(name.getBytes(StandardCharsets.US_ASCII), 8 + length + (length & 1));
        chunk[4] = (byte) length;
        return chunk;
    }
}

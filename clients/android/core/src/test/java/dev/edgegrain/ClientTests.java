package dev.edgegrain;

import java.io.File;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Paths;
import java.util.Arrays;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** All tests of the plain Java part; needs nothing but a JDK: {@code make test-android}. */
public final class ClientTests {
    interface Test {
        void run() throws Exception;
    }

    private final GoldenFiles golden;
    private final Bundle bundle;
    private int checks;

    private ClientTests(GoldenFiles golden) {
        this.golden = golden;
        bundle = golden.bundle();
    }

    /** Argument: the root of the repository. */
    public static void main(String[] arguments) {
        ClientTests tests = new ClientTests(new GoldenFiles(Paths.get(arguments[0])));
        Map<String, Test> all = new LinkedHashMap<>();
        all.put("the generator is that of Numerical Recipes", tests::generator);
        all.put("pictures are resized as pinned", tests::resizes);
        all.put("pictures are fitted as pinned", tests::fits);
        all.put("content sizes are as pinned", tests::contentSizes);
        all.put("transparent pictures are composited as pinned", tests::transparency);
        all.put("pictures are turned upright as pinned", tests::orientations);
        all.put("pictures of more pixels than the limit are refused", tests::pixelLimit);
        all.put("truncated pictures are refused", tests::truncatedPictures);
        all.put("HDR pictures are refused", tests::hdrPictures);
        all.put("LRs are coded to the pinned bodies and back", tests::bodies);
        all.put("levels are stored in steps", tests::coarseBodies);
        all.put("stored payloads are read and written again", tests::storedPayloads);
        all.put("payloads are Python's", tests::payloads);
        all.put("a preview has the original's aspect", tests::previews);
        all.put("damaged payloads are refused", tests::damaged);
        all.put("payloads are written and read as text", tests::texts);
        all.put("payloads of other kinds are refused as such", tests::unsupported);
        all.put("what the format cannot say is refused", tests::limits);
        all.put("unusable coder tables are refused", tests::tables);
        all.put("an altered bundle is refused", tests::alteredBundle);
        all.put("golden inputs are made as Python makes them", tests::goldenInputs);
        all.put("an encoder that computes other bytes is refused", tests::selfTest);
        all.put("an encoder closes its runner, also one that is refused", tests::closing);
        all.put("the encoder's file is written once, and again if it is altered", tests::encoderFile);
        all.put("payloads of every rate of a bundle are read", tests::rates);
        all.put("the first payload that fits is taken", tests::rateControl);
        all.put("a device reports what it proved and measured", tests::deviceReport);
        all.put("JSON is read as written", tests::json);
        new AlignedTests(tests.golden, tests.bundle, tests).addTo(all);
        int failed = 0;
        for (Map.Entry<String, Test> test : all.entrySet()) {
            try {
                test.getValue().run();
                System.out.println("ok      " + test.getKey());
            } catch (Exception | AssertionError error) {
                failed++;
                System.out.println("FAILED  " + test.getKey() + ": " + error);
            }
        }
        System.out.println(all.size() - failed + " of " + all.size() + " tests passed, " + tests.checks + " checks");
        System.exit(failed == 0 ? 0 : 1);
    }

    private void generator() {
        equal(new byte[] {0x3c, 0x47, (byte) 0xd1, (byte) 0xaa, 0x62}, GoldenInputs.generatorBytes(0, 5), "seed 0");
    }

    private void resizes() throws Exception {
        for (Map<String, Object> item : golden.cases("tests/golden/contract/resize.json", "cases")) {
            int[] size = GoldenFiles.pair(item, "new_size");
            Rgb resized = ExactResize.resize(golden.picture(item), size[0], size[1]);
            equal(item.get("sha256"), GoldenInputs.sha256(resized.data), item.get("size") + " to " + resized.width);
        }
        Rgb pair = new Rgb(2, 1, new byte[] {10, 10, 10, 21, 21, 21});
        equal(new byte[] {16, 16, 16}, ExactResize.resize(pair, 1, 1).data, "the page's example");
        for (int side : new int[] {0, -1, 65536}) {
            refused(ImageException.class, () -> ExactResize.resize(pair, side, 1));
        }
    }

    private void fits() throws Exception {
        for (Map<String, Object> item : golden.cases("tests/golden/clients/fits.json", "fits")) {
            Rgb fitted = GoldenFiles.fit(item).apply(golden.picture(item), GoldenFiles.number(item, "hr"));
            equal(item.get("sha256"), GoldenInputs.sha256(fitted.data), item.get("size") + " by " + item.get("fit"));
        }
    }

    private void contentSizes() throws Exception {
        for (Map<String, Object> item : golden.cases("tests/golden/clients/fits.json", "content_sizes")) {
            int[] size = GoldenFiles.pair(item, "size");
            int[] content = Fit.contentSize(size[0], size[1], GoldenFiles.number(item, "hr"));
            equal(
                    Arrays.toString(GoldenFiles.pair(item, "content_size")), Arrays.toString(content),
                    String.valueOf(item.get("size")));
        }
    }

    private void transparency() throws Exception {
        for (Map<String, Object> item : golden.cases("tests/golden/clients/transparency.json", "pictures")) {
            byte[] rgba = GoldenFiles.generated(item, 4);
            int[] argb = new int[rgba.length / 4];
            for (int index = 0; index < argb.length; index++) {
                argb[index] = (rgba[4 * index + 3] & 255) << 24 | colour(rgba, 4 * index);
            }
            int background = 0;
            for (Object level : Json.list(item.get("background"), "background")) {
                background = background << 8 | ((Double) level).intValue();
            }
            int[] size = GoldenFiles.pair(item, "size");
            Rgb flat = Rgb.flatten(size[0], size[1], argb, background);
            equal(item.get("sha256"), GoldenInputs.sha256(flat.data), String.valueOf(item.get("background")));
        }
        refused(ImageException.class, () -> Rgb.flatten(2, 1, new int[1], Rgb.WHITE));
        refused(ImageException.class, () -> new Rgb(2, 1, new byte[3]));
    }

    private void orientations() throws Exception {
        for (Map<String, Object> item : golden.cases("tests/golden/clients/orientations.json", "pictures")) {
            Rgb stored = golden.picture(item);
            int orientation = GoldenFiles.number(item, "orientation");
            Rgb upright = Orientation.upright(stored, orientation);
            equal(GoldenFiles.pair(item, "upright_size")[0], upright.width, "width of " + orientation);
            equal(item.get("sha256"), GoldenInputs.sha256(upright.data), "orientation " + orientation);
            Rgb byRows = Orientation.blank(stored.width, stored.height, orientation);
            for (int top = 0, bytes = 3 * stored.width; top < stored.height; top++) {
                byte[] row = Arrays.copyOfRange(stored.data, bytes * top, bytes * (top + 1));
                Orientation.write(new Rgb(stored.width, 1, row), top, orientation, byRows);
            }
            equal(upright.width, byRows.width, "width of " + orientation + " by rows");
            equal(item.get("sha256"), GoldenInputs.sha256(byRows.data), "orientation " + orientation + " by rows");
        }
    }

    private void pixelLimit() {
        PictureFile.checkSize(65535, 1365, PictureFile.MAX_PIXELS);
        PictureFile.checkSize(16384, 16384, Integer.MAX_VALUE);
        int[][] sizes = {
            {65535, 1366, PictureFile.MAX_PIXELS}, {65535, 65535, PictureFile.MAX_PIXELS}, {10, 10, 99},
            {16384, 16385, Integer.MAX_VALUE}, {65536, 1, PictureFile.MAX_PIXELS}, {1, 65536, PictureFile.MAX_PIXELS},
            {0, 1, PictureFile.MAX_PIXELS},
        };
        for (int[] size : sizes) {
            refused(ImageException.class, () -> PictureFile.checkSize(size[0], size[1], size[2]));
        }
    }

    private void truncatedPictures() throws Exception {
        for (String file : new String[] {"edgegrain/demo/portrait.jpg", "tests/parity/lpips_examples/ex_ref.png"}) {
            byte[] data = golden.bytes(file);
            equal(data, PictureFile.complete(data), file);
            PictureFile.complete(Arrays.copyOf(data, data.length + 3)); // phones append data of their own
            refused(ImageException.class, () -> PictureFile.complete(Arrays.copyOf(data, 100)));
        }
        byte[] jpeg = golden.bytes("edgegrain/demo/portrait.jpg");
        byte[] longer = PictureFile.longerJpeg(jpeg);
        equal(jpeg, PictureFile.complete(Arrays.copyOf(jpeg, jpeg.length - 2)), "a JPEG without its end marker");
        equal(Arrays.copyOf(jpeg, jpeg.length - 2), Arrays.copyOf(longer, jpeg.length - 2), "a longer JPEG");
        byte[] png = golden.bytes("tests/parity/lpips_examples/ex_ref.png");
        refused(ImageException.class, () -> PictureFile.complete(Arrays.copyOf(png, png.length - 1)));
        // One component in scans of the first coefficient and of all others, which have two bits, then the last one.
        String progressive = "ffd8ffc2000b080008000801011100ffda0008010100000000" + "7f" + "ffda0008010100013f02" + "7f";
        String last = "ffda0008010100013f21" + "7f" + "ffda0008010100013f10" + "7f";
        PictureFile.complete(GoldenFiles.hex(progressive + last + "ffd9"));
        refused(ImageException.class, () -> PictureFile.complete(GoldenFiles.hex(progressive + "ffd9")));
        // The end of a thumbnail is none of the picture; lengths may exceed 31 bits.
        byte[] thumbnail = GoldenFiles.hex("ffd8ffe10006ffd8ffd9ff");
        byte[] endless = GoldenFiles.hex("89504e470d0a1a0afffffff84944415449454e4449454e44");
        refused(ImageException.class, () -> PictureFile.complete(thumbnail));
        refused(ImageException.class, () -> PictureFile.complete(endless));
        // 3 x 2 pixels that Pillow wrote: a GIF with a loop extension, one without, and a WebP.
        String animated = "47494638396103000200810000c81e2800000000000000000021ff0b4e45545343415045322e300301000000"
            + "21f90400050000002c00000000030002000008060001081c181000";
        String still = "47494638376103000200810000c81e280000000000000000002c00000000030002000008060001081c181000";
        String webp = "524946461e000000574542505650384c110000002f0240000007508f2217a5ff8188e87f0000";
        for (String picture : new String[] {animated, still, webp}) {
            byte[] data = GoldenFiles.hex(picture);
            PictureFile.complete(data);
            PictureFile.complete(Arrays.copyOf(data, data.length + 1)); // what follows: 0, not the GIF's trailer
            for (int length = 12; length < data.length; length++) {
                byte[] part = Arrays.copyOf(data, length);
                refused(ImageException.class, () -> PictureFile.complete(part));
            }
        }
        PictureFile.complete("RIFF, but of another format".getBytes("US-ASCII"));
        PictureFile.complete(new byte[0]);
    }

    private void hdrPictures() {
        for (int transfer : new int[] {13, 16, 18}) {
            String code = String.format("0009%04x", transfer);
            byte[] avif = GoldenFiles.hex("0000000866747970617669660000001363" + "6f6c726e636c78" + code + "000900");
            byte[] png = GoldenFiles.hex("89504e470d0a1a0a" + "0000000463494350" + String.format("09%02x0001", transfer)
                    + "00000000" + "0000000049454e4400000000");
            for (byte[] picture : new byte[][] {avif, png}) {
                if (transfer == 13) {
                    equal(picture, PictureFile.complete(picture), "an SDR picture");
                } else {
                    refused(ImageException.class, () -> PictureFile.complete(picture));
                }
            }
        }
    }

    private void bodies() throws Exception {
        for (Map<String, Object> item : golden.cases("tests/golden/clients/bodies.json", "bodies")) {
            int[] size = GoldenFiles.pair(item, "size");
            Rgb lr = new Rgb(size[0], size[1], GoldenFiles.hex(item.get("lr")));
            byte[] body = GoldenFiles.hex(item.get("body"));
            equal(body, LrCoder.encode(lr, bundle.tables), "body of " + item.get("size"));
            equal(lr.data, LrCoder.decode(body, size[0], size[1], bundle.tables).data, "LR of " + item.get("size"));
        }
    }

    private void coarseBodies() throws Exception {
        String json = golden.text("bundles/" + bundle.id + "/coder.json");
        for (Map<String, Object> item : golden.cases("tests/golden/clients/bodies.json", "coarse_bodies")) {
            int step = GoldenFiles.number(item, "step");
            CoderTables tables = CoderTables.parse(json.replace("\"step\":2,", "\"step\":" + step + ","));
            int[] size = GoldenFiles.pair(item, "size");
            Rgb lr = new Rgb(size[0], size[1], GoldenFiles.hex(item.get("lr")));
            byte[] stored = GoldenFiles.hex(item.get("stored"));
            byte[] body = GoldenFiles.hex(item.get("body"));
            String what = item.get("size") + " in steps of " + step;
            equal(stored, tables.rounded(lr).data, "levels of " + what);
            equal(body, LrCoder.encode(lr, tables), "body of " + what);
            equal(stored, LrCoder.decode(body, size[0], size[1], tables).data, "LR of " + what);
            Payload payload = Payload.pack(lr, bundle.contractId, tables, 640, 480, Fit.PAD);
            equal(stored, payload.lr(bundle.contractId, tables).data, "payload of " + what);
        }
        String unknown = json.replace("\"step\":2,", "\"step\":65,");
        refused(BundleException.class, () -> CoderTables.parse(unknown));
    }

    private void storedPayloads() throws Exception {
        String path = "tests/golden/contract/payloads.json";
        String contractId = (String) golden.object(path).get("contract_id");
        CoderTables generic = CoderTables.parse(golden.text("codec_contract/lr_coder/default_coder.json"));
        for (Map<String, Object> item : golden.cases(path, "payloads")) {
            byte[] data = golden.bytes("tests/golden/contract/" + item.get("file"));
            int[] size = GoldenFiles.pair(item, "lr_size");
            if (GoldenFiles.number(item, "coding") > Payload.CODING_RANGE || Math.max(size[0], size[1]) > 256) {
                notReadHere(data, String.valueOf(item.get("file")));
                continue;
            }
            Payload payload = Payload.read(data);
            Header header = payload.header;
            Rgb lr = payload.lr(contractId, generic);
            int[] original = GoldenFiles.pair(item, "original_size");
            equal(item.get("lr_sha256"), GoldenInputs.sha256(lr.data), item.get("file") + ", LR");
            equal(GoldenFiles.number(item, "version"), header.version, item.get("file") + ", version");
            equal(GoldenFiles.number(item, "coding"), header.coding, item.get("file") + ", coding");
            equal(Arrays.toString(size), Arrays.toString(new int[] {header.lrWidth, header.lrHeight}), "LR size");
            equal(Arrays.toString(original), Arrays.toString(new int[] {header.originalWidth, header.originalHeight}),
                    item.get("file") + ", original size");
            equal(GoldenFiles.fit(item), header.fit, item.get("file") + ", fit");
            OrientedSquare square = item.get("square") == null ? null : GoldenFiles.square(item, "square");
            equal(String.valueOf(square), String.valueOf(header.square), item.get("file") + ", square");
            Payload again = square == null
                    ? Payload.pack(lr, contractId, generic, original[0], original[1], header.fit, header.coding)
                    : Payload.pack(lr, contractId, generic, original[0], original[1], square, header.coding);
            rewritten(payload, again, String.valueOf(item.get("file")));
        }
    }

    /** Compares a payload with what is written for its LR: version 1 becomes 2. */
    void rewritten(Payload payload, Payload again, String what) {
        equal(2, again.header.version, what + ", version written");
        equal(PayloadText.base64url(again.bytes()), again.text(), what + ", text");
        equal(payload.header.contract.substring(0, 4), again.header.contract, what + ", contract");
        if (payload.header.version == 1) {
            equal(true, again.bytes().length < payload.bytes().length, what + ", shorter");
        } else {
            equal(payload.bytes(), again.bytes(), what + ", written again");
        }
    }

    private void notReadHere(byte[] data, String what) {
        try {
            Payload.read(data);
        } catch (PayloadException error) {
            equal(true, error.getMessage().contains(" not read here"), what + ": " + error);
            return;
        }
        throw new AssertionError(what + " was read");
    }

    private void payloads() throws Exception {
        for (Map<String, Object> item : golden.cases("tests/golden/clients/payloads.json", "payloads")) {
            Rgb picture = golden.picture(item);
            Fit fit = GoldenFiles.fit(item);
            Rgb fitted = fit.apply(picture, bundle.hr);
            equal(item.get("fitted_sha256"), GoldenInputs.sha256(fitted.data), "fitted " + item.get("original_size"));
            Rgb lr = new Rgb(bundle.lr, bundle.lr, GoldenFiles.hex(item.get("lr")));
            Payload payload =
                    Payload.pack(lr, bundle.contractId, bundle.tables, picture.width, picture.height, fit);
            equal(GoldenFiles.hex(item.get("payload")), payload.bytes(), "payload of " + item.get("original_size"));
            equal(lr.data, Payload.read(payload.bytes()).lr(bundle.contractId, bundle.tables).data, "LR back");
        }
    }

    private void previews() {
        Rgb picture = new Rgb(40, 30, GoldenInputs.generatorBytes(0, 3600));
        for (Fit fit : new Fit[] {Fit.PAD, Fit.STRETCH, Fit.CROP}) {
            Payload payload = Payload.pack(fit.apply(picture, 16), bundle.contractId, bundle.tables, 40, 30, fit);
            Rgb lr = payload.lr(bundle.contractId, bundle.tables);
            Rgb preview = payload.preview(bundle.contractId, bundle.tables);
            equal(fit == Fit.CROP ? 16 : 12, preview.height, "height of " + fit);
            byte[] expected = fit == Fit.PAD
                    ? Arrays.copyOfRange(lr.data, 2 * 48, 14 * 48)
                    : fit == Fit.CROP ? lr.data : ExactResize.resize(lr, 16, 12).data;
            equal(expected, preview.data, "preview of " + fit);
        }
    }

    private void damaged() throws Exception {
        for (Map<String, Object> item : golden.cases("tests/golden/clients/damaged.json", "payloads")) {
            byte[] data = GoldenFiles.hex(item.get("payload"));
            refused(PayloadException.class, () -> Payload.read(data).lr(bundle.contractId, bundle.tables));
        }
        for (String file : new String[] {"coded-16x16-smooth.grain", "v2-16x16-smooth.grain"}) {
            byte[] good = golden.bytes("tests/golden/contract/" + file);
            for (int index = 0; index < good.length; index++) {
                byte[] changed = good.clone();
                changed[index] ^= 0x40;
                refused(PayloadException.class, () -> Payload.read(changed));
            }
        }
    }

    private void texts() throws Exception {
        for (Map<String, Object> item : golden.cases("tests/golden/clients/texts.json", "texts")) {
            byte[] data = GoldenFiles.hex(item.get("bytes"));
            String text = Scene.isScene(data) ? Scene.read(data).text() : PayloadText.base64url(data);
            equal(item.get("base64url"), text, "base64url");
            equal(item.get("base45"), PayloadText.base45(data), "base45");
            for (String form : new String[] {"base64url", "base45", "base64"}) {
                String before = String.valueOf(item.get("base45")).startsWith(" ") ? "\n" : " "; // a space is a digit
                equal(data, PayloadText.read(before + item.get(form) + "\r\n"), form);
            }
            equal(data, PayloadText.read("data:application/vnd.edgegrain;base64," + item.get("base64")), "data URI");
        }
        for (Object text : Json.list(golden.object("tests/golden/clients/texts.json").get("refused"), "refused")) {
            refused(PayloadException.class, () -> PayloadText.read((String) text));
        }
    }

    private void unsupported() throws Exception {
        for (Map<String, Object> item : golden.cases("tests/golden/clients/unsupported.json", "payloads")) {
            notReadHere(GoldenFiles.hex(item.get("payload")), String.valueOf(item.get("name")));
        }
    }

    private void limits() {
        Rgb lr = new Rgb(1, 1, new byte[3]);
        Rgb wide = new Rgb(257, 1, new byte[3 * 257]);
        String id = bundle.contractId;
        refused(PayloadException.class, () -> Payload.pack(wide, id, bundle.tables, 1, 1, Fit.PAD));
        refused(PayloadException.class, () -> Payload.pack(lr, id, bundle.tables, 1, 0, Fit.PAD));
        refused(PayloadException.class, () -> Payload.pack(lr, id, bundle.tables, 65535, 65535, Fit.PAD));
        refused(PayloadException.class, () -> Payload.pack(lr, id.substring(32), bundle.tables, 1, 1, Fit.PAD));
        refused(PayloadException.class, () -> Payload.pack(lr, id, bundle.tables, 1, 1, Fit.PAD, 2));
        refused(PayloadException.class, () -> Payload.pack(lr, id, bundle.tables, 1, 1, Fit.ALIGN));
        OrientedSquare outside = new OrientedSquare(5, 2, 4, 0);
        refused(PayloadException.class, () -> Payload.pack(lr, id, bundle.tables, 1, 1, outside));
    }

    private void tables() throws Exception {
        String good = golden.text("codec_contract/lr_coder/default_coder.json");
        String[][] changes = {
            {"tables 1", "tables 2"}, {"\"shift\":[3", "\"shift\":[25"}, {"\"bias\":[-28", "\"bias\":[1073741824"},
            {"\"bias\":[-28", "\"bias\":[0.5"}, {"\"weight\":\"IRr8", "\"weight\":\""},
            {"\"weight\":\"IRr8", "\"weight\":\"I*r8"}, {"\"hidden\"", "\"other\""}, {"\"channels\"", "\"more\""},
        };
        for (String[] change : changes) {
            int at = good.indexOf(change[0]);
            String damaged = good.substring(0, at) + change[1] + good.substring(at + change[0].length());
            refused(BundleException.class, () -> CoderTables.parse(damaged));
        }
    }

    private void alteredBundle() {
        refused(BundleException.class, () -> Bundle.read(name -> {
            byte[] data = golden.bytes("bundles/faces-256-lr16-small/" + name);
            data[data.length / 2] ^= name.equals(Bundle.ENCODER) ? 1 : 0;
            return new java.io.ByteArrayInputStream(data);
        }));
        refused(BundleException.class, () -> Bundle.read(name -> {
            String text = new String(golden.bytes("bundles/faces-256-lr16-small/" + name), "ISO-8859-1");
            String tiled = text.replace("\"pad\": \"edge\"", "\"pad\": \"edge\", \"tile_overlap\": 4");
            return new java.io.ByteArrayInputStream(tiled.getBytes("ISO-8859-1"));
        }));
        for (String schema : new String[] {"\"schema\": 2", "\"schema\": \"1\"", "\"other\": 1"}) {
            refused(BundleException.class, () -> Bundle.read(name -> {
                String text = new String(golden.bytes("bundles/faces-256-lr16-small/" + name), "ISO-8859-1");
                String other = name.equals("manifest.json") ? text.replace("\"schema\": 1", schema) : text;
                return new java.io.ByteArrayInputStream(other.getBytes("ISO-8859-1"));
            }));
        }
    }

    private void goldenInputs() throws Exception {
        Map<String, Object> sums = new LinkedHashMap<>();
        for (Map<String, Object> item : golden.cases("tests/golden/clients/inputs.json", "inputs")) {
            sums.put((String) item.get("name"), item.get("sha256"));
        }
        List<Map<String, Object>> inputs = golden.cases("bundles/faces-256-lr16-small/golden.json", "inputs");
        equal(inputs.size(), sums.size(), "number of inputs");
        for (Map<String, Object> input : inputs) {
            Rgb picture = GoldenInputs.picture(input, bundle.hr);
            equal(sums.get(input.get("name")), GoldenInputs.sha256(picture.data), String.valueOf(input.get("name")));
        }
    }

    private void selfTest() {
        refused(DeviceException.class, () -> new EdgeEncoder(bundle, picture -> new Rgb(16, 16, new byte[768])));
        GoldenInputs black = GoldenInputs.parse(
                "{\"hr\": 8, \"inputs\": [{\"name\": \"black\", \"kind\": \"constant\", \"parameters\": {\"colour\": "
                        + "[0, 0, 0]}, \"lr_sha256\": \"" + GoldenInputs.sha256(new byte[3]) + "\"}]}");
        List<String> failed = black.check(picture -> new Rgb(1, 1, Arrays.copyOf(picture.data, 3)));
        equal(Collections.emptyList(), failed, "an encoder that is right");
    }

    private void closing() throws Exception {
        Bundle easy = golden.easyBundle();
        CountingRunner right = new CountingRunner(0);
        try (EdgeEncoder encoder = new EdgeEncoder(easy, right)) {
            encoder.compress(new Rgb(1, 1, new byte[3]), Fit.PAD);
            equal(0, right.closed, "closed while in use");
        }
        equal(1, right.closed, "closed by its encoder");
        CountingRunner wrong = new CountingRunner(1);
        refused(DeviceException.class, () -> new EdgeEncoder(easy, wrong));
        equal(1, wrong.closed, "closed by the constructor");
        CountingRunner broken = new CountingRunner(0) {
            @Override
            public Rgb encode(Rgb picture) {
                throw new BundleException("no LR");
            }
        };
        refused(BundleException.class, () -> new EdgeEncoder(easy, broken));
        equal(1, broken.closed, "closed by the constructor, of a runner that fails");
    }

    /** Gives an LR of one level, and counts how often it is closed. */
    private static class CountingRunner implements EncoderRunner {
        private final byte[] lr = new byte[768];
        private int closed;

        CountingRunner(int level) {
            Arrays.fill(lr, (byte) level);
        }

        @Override
        public Rgb encode(Rgb picture) {
            return new Rgb(16, 16, lr);
        }

        @Override
        public void close() {
            closed++;
        }
    }

    private void encoderFile() throws Exception {
        File folder = Files.createTempDirectory("edgegrain").toFile();
        try {
            File file = EncoderFile.in(folder, bundle);
            equal("edgegrain-" + GoldenInputs.sha256(bundle.encoder) + ".tflite", file.getName(), "name");
            equal(bundle.encoder, Files.readAllBytes(file.toPath()), "content");
            equal(true, file.setLastModified(0), "date");
            equal(file, EncoderFile.in(folder, bundle), "reused file");
            equal(0L, file.lastModified(), "date of a reused file");
            byte[] altered = bundle.encoder.clone();
            altered[0] ^= 1;
            for (byte[] damaged : new byte[][] {altered, Arrays.copyOf(altered, 100)}) {
                Files.write(file.toPath(), damaged);
                try (InputStream loaded = Files.newInputStream(file.toPath())) {
                    EncoderFile.in(folder, bundle);
                    equal(altered[0] & 255, loaded.read(), "content under a runner that has loaded it");
                }
                equal(bundle.encoder, Files.readAllBytes(file.toPath()), "repaired content");
            }
            equal(1, folder.list().length, "number of files");
        } finally {
            for (File file : folder.listFiles()) {
                file.delete();
            }
            folder.delete();
        }
    }

    private void rates() throws Exception {
        Bundle three = golden.easyBundle();
        Rgb lr = new Rgb(16, 16, GoldenInputs.generatorBytes(0, 768));
        equal(3, three.rates.size(), "number of rates");
        equal(bundle.contractId, three.rates.get(1).contractId, "the bundle's own contract");
        for (Rate rate : three.rates) {
            Payload payload = Payload.pack(lr, rate.contractId, rate.tables, 40, 30, Fit.PAD);
            equal(rate.tables.rounded(lr).data, payload.lr(three).data, "LR of " + rate.contractId);
            equal(Fit.PAD.undo(rate.tables.rounded(lr), 40, 30).data, payload.preview(three).data, "preview");
        }
        Rate coarse = three.rates.get(2);
        Payload other = Payload.pack(lr, coarse.contractId, coarse.tables, 40, 30, Fit.PAD);
        refused(PayloadException.class, () -> other.lr(bundle));
    }

    private void rateControl() throws Exception {
        Bundle three = golden.easyBundle();
        Rgb black = new Rgb(16, 16, new byte[768]);
        Rgb noise = new Rgb(16, 16, GoldenInputs.generatorBytes(0, 768));
        for (int at = 0; at < noise.data.length; at++) {
            noise.data[at] &= 63;
        }
        Rgb picture = new Rgb(1, 1, new byte[3]);
        int[] runs = {0};
        EdgeEncoder encoder = new EdgeEncoder(three, seen -> runs[0]++ == 0 ? black : noise);
        EdgeEncoder smaller = new EdgeEncoder(three, seen -> black);
        byte[][] expected = new byte[3][];
        for (int index = 0; index < 3; index++) {
            Rate rate = three.rates.get(index);
            expected[index] = Payload.pack(noise, rate.contractId, rate.tables, 1, 1, Fit.PAD).bytes();
        }
        byte[] least = smaller.within(1000).compress(picture, Fit.PAD).bytes();
        equal(true, least.length < expected[2].length && expected[2].length < expected[1].length
                && expected[1].length < expected[0].length, "order of lengths");
        equal(expected[1], encoder.compress(picture, Fit.PAD).bytes(), "the bundle's own rate by default");
        RateControl.Attempt attempt = one -> one.compress(picture, Fit.PAD);
        byte[][] all = {expected[0], expected[1], expected[2], least};
        for (byte[] payload : all) {
            int before = runs[0];
            equal(payload, RateControl.firstWithin(payload.length, Arrays.asList(encoder, smaller), attempt).bytes(),
                    "within " + payload.length);
            equal(before + 1, runs[0], "runs for all rates");
        }
        refused(ImageException.class,
                () -> RateControl.firstWithin(10, Arrays.asList(encoder, smaller), attempt));
    }

    private void deviceReport() {
        EncoderRunner noise = picture -> new Rgb(16, 16, GoldenInputs.generatorBytes(0, 768));
        String text = DeviceReport.measure(bundle, noise, "a \"phone\"\n", "none", 4, 3);
        Map<String, Object> report = Json.object(Json.parse(text), "the report");
        equal("a \"phone\"\n", report.get("device"), "device");
        equal(bundle.contractId, report.get("lr_contract_id"), "contract");
        equal(12.0, report.get("checked"), "checked");
        equal(12, Json.list(report.get("failed"), "failed").size(), "failed: nothing here encodes");
        Map<String, Object> times = Json.object(report.get("encode_ms"), "times");
        equal(3.0, times.get("runs"), "runs");
        equal(true, (Double) times.get("least") <= (Double) times.get("median"), "order of times");
        equal(true, DeviceReport.measure(bundle, noise, "", "", 4, 0).contains("\"runs\": 1,"), "at least one run");
    }

    private void json() {
        Object value = Json.parse(" {\"a\": [1, -2.5e1, true, null, \"\\u00e9\\n\"], \"b\": {}} ");
        equal("{a=[1.0, -25.0, true, null, \u00e9\n], b={}}", String.valueOf(value), "one of each");
        String[] texts = {"", "{", "[1,]", "[1 2]", "{\"a\" 1}", "nul", "\"", "1 1", "--1", "[\"\\x\"]"};
        for (String wrong : texts) {
            refused(BundleException.class, () -> Json.parse(wrong));
        }
        char[] deep = new char[100000];
        Arrays.fill(deep, '[');
        refused(BundleException.class, () -> Json.parse(new String(deep)));
    }

    private static int colour(byte[] data, int at) {
        return (data[at] & 255) << 16 | (data[at + 1] & 255) << 8 | data[at + 2] & 255;
    }

    void equal(Object expected, Object found, String what) {
        checks++;
        boolean same = expected instanceof byte[]
                ? Arrays.equals((byte[]) expected, (byte[]) found)
                : expected.equals(found);
        if (!same) {
            throw new AssertionError(what + ": expected " + expected + ", got " + found);
        }
    }

    void refused(Class<? extends EdgegrainException> kind, Test attempt) {
        checks++;
        try {
            attempt.run();
        } catch (Exception error) {
            if (error.getClass() == kind) {
                return;
            }
            throw new AssertionError("expected " + kind.getSimpleName() + ", got " + error, error);
        }
        throw new AssertionError("expected " + kind.getSimpleName() + ", nothing was thrown");
    }
}

package dev.edgegrain;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collections;
import java.util.Comparator;
import java.util.List;
import java.util.Map;

/** A bundle's phone half: what its manifest says, the coder's tables and the golden vectors, checked by SHA-256. */
public final class Bundle {
    public static final String ENCODER = "encoder.tflite";

    private static final int SCHEMA = 1;
    private static final int MAX_FILE_BYTES = 64 << 20;

    /** Opens a file of a bundle by its name; on Android {@code name -> assets.open(folder + "/" + name)}. */
    public interface Files {
        InputStream open(String name) throws IOException;
    }

    public final String id;
    /** The kind of pictures that it encodes, such as {@code faces}. */
    public final String domain;
    /** Of its own rate: 64 hex digits; a payload names the first four (eight in version 1). */
    public final String contractId;
    /** Side of the encoder's square, in pixels. */
    public final int hr;
    /** Side of the LR. */
    public final int lr;
    /** Of its own rate. */
    public final CoderTables tables;
    final Rate ownRate;
    /** What payloads of this bundle are coded with, from most to fewest bytes. */
    public final List<Rate> rates;
    public final GoldenInputs golden;
    /** The bytes of encoder.tflite. */
    public final byte[] encoder;

    private Bundle(Files files) throws IOException {
        Map<String, Object> manifest = Json.object(Json.parse(text(readAll(files, "manifest.json"))), "the manifest");
        long schema = Json.whole(manifest.get("schema"), "the manifest's schema", 0, Integer.MAX_VALUE);
        if (schema != SCHEMA) {
            throw new BundleException(
                    "the manifest has schema " + schema + ", this release reads " + SCHEMA + "; update this library");
        }
        Map<String, Object> entries = Json.object(manifest.get("files"), "the manifest's files");
        checkPreprocessing(Json.object(manifest.get("preprocessing"), "the manifest's preprocessing"));
        id = Json.string(manifest.get("id"), "the bundle's id");
        domain = Json.string(manifest.get("domain"), "the bundle's domain");
        contractId = Json.string(manifest.get("lr_contract_id"), "the LR contract id");
        hr = (int) Json.whole(manifest.get("hr"), "hr", 1, 16384);
        lr = (int) Json.whole(manifest.get("lr"), "lr", 1, Payload.MAX_LR_SIDE);
        tables = CoderTables.parse(text(verified(files, entries, "coder.json")));
        ownRate = new Rate(contractId, tables);
        rates = Collections.unmodifiableList(readRates(files, manifest, entries));
        golden = GoldenInputs.parse(text(verified(files, entries, "golden.json")));
        encoder = verified(files, entries, ENCODER);
    }

    /** Reads a bundle; throws {@link BundleException} if a file is missing, altered or malformed. */
    public static Bundle read(Files files) {
        try {
            return new Bundle(files);
        } catch (IOException error) {
            throw new BundleException("the bundle cannot be read: " + error.getMessage());
        }
    }

    /** The rate of a payload; throws {@link PayloadException} if none has its LR contract. */
    public Rate rate(Header header) {
        StringBuilder available = new StringBuilder();
        for (Rate rate : rates) {
            if (rate.contractId.startsWith(header.contract)) {
                return rate;
            }
            available.append(available.length() == 0 ? "" : ", ").append(rate.contractId);
        }
        throw new PayloadException(
                "the payload was made under LR contract " + header.contract + ", available: " + available);
    }

    private List<Rate> readRates(Files files, Map<String, Object> manifest, Map<String, Object> entries)
            throws IOException {
        List<Rate> read = new ArrayList<>();
        read.add(ownRate);
        Object further = manifest.containsKey("rates") ? manifest.get("rates") : Collections.emptyList();
        for (Object item : Json.list(further, "the manifest's rates")) {
            Map<String, Object> rate = Json.object(item, "a rate");
            String file = Json.string(rate.get("file"), "the file of a rate");
            read.add(new Rate(
                    Json.string(rate.get("lr_contract_id"), "the LR contract id of " + file),
                    CoderTables.parse(text(verified(files, entries, file)))));
        }
        read.sort(Comparator.comparingInt(rate -> rate.tables.step));
        return read;
    }

    /** What {@link Fit} does, in the words of a manifest. */
    private static void checkPreprocessing(Map<String, Object> preprocessing) {
        if (!"pillow-bilinear-22bit-width-first".equals(preprocessing.get("resize"))
                || !"edge".equals(preprocessing.get("pad"))
                || preprocessing.containsKey("tile_overlap")) {
            throw new BundleException(
                    "the bundle prepares pictures in a way that this client does not know, " + preprocessing
                            + "; let the service compress");
        }
    }

    private static byte[] verified(Files files, Map<String, Object> entries, String name) throws IOException {
        Object digest = Json.object(entries.get(name), "the manifest's entry of " + name).get("sha256");
        byte[] data = readAll(files, name);
        if (!GoldenInputs.sha256(data).equals(digest)) {
            throw new BundleException(name + " is not the file that the manifest names; fetch the bundle again");
        }
        return data;
    }

    private static byte[] readAll(Files files, String name) throws IOException {
        try (InputStream input = files.open(name)) {
            ByteArrayOutputStream output = new ByteArrayOutputStream();
            byte[] part = new byte[1 << 16];
            for (int count = input.read(part); count >= 0; count = input.read(part)) {
                output.write(part, 0, count);
                if (output.size() > MAX_FILE_BYTES) {
                    throw new BundleException(name + " has more than " + MAX_FILE_BYTES + " bytes");
                }
            }
            return output.toByteArray();
        }
    }

    private static String text(byte[] data) {
        return new String(data, StandardCharsets.UTF_8);
    }
}

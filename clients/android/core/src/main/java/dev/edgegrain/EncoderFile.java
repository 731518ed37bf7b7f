package dev.edgegrain;

import java.io.DataInputStream;
import java.io.File;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.util.Arrays;

/** A bundle's encoder, or another TFLite model, as a file, for runtimes that load models from files. */
public final class EncoderFile {
    private EncoderFile() {}

    /**
     * The encoder's file in {@code folder}, written if it is missing or altered. It is named for its SHA-256 and stays
     * there: Android usually kills processes without notice, so each run of an app would leave a file of its own.
     */
    public static File in(File folder, Bundle bundle) throws IOException {
        return in(folder, bundle.encoder);
    }

    /** As {@link #in(File, Bundle)}, of any model. */
    public static File in(File folder, byte[] model) throws IOException {
        File file = new File(folder, "edgegrain-" + GoldenInputs.sha256(model) + ".tflite");
        if (!holds(file, model)) {
            write(file, model);
        }
        return file;
    }

    private static boolean holds(File file, byte[] data) throws IOException {
        if (!file.isFile() || file.length() != data.length) {
            return false;
        }
        byte[] found = new byte[data.length];
        try (DataInputStream input = new DataInputStream(new FileInputStream(file))) {
            input.readFully(found);
        }
        return Arrays.equals(found, data);
    }

    /** Replaces the file at once: another runner may have loaded it, or be writing it too. */
    private static void write(File file, byte[] data) throws IOException {
        File temporary = File.createTempFile("edgegrain", ".tmp", file.getParentFile());
        try {
            try (OutputStream output = new FileOutputStream(temporary)) {
                output.write(data);
            }
            if (!temporary.renameTo(file)) {
                throw new IOException(temporary + " cannot be renamed to " + file.getName());
            }
        } finally {
            temporary.delete(); // it is gone if it was renamed
        }
    }
}

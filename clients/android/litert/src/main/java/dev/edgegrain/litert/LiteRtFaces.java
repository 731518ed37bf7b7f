package dev.edgegrain.litert;

import android.content.Context;
import com.google.ai.edge.litert.LiteRtException;
import com.google.ai.edge.litert.TensorBuffer;
import dev.edgegrain.BundleException;
import dev.edgegrain.DeviceException;
import dev.edgegrain.FaceFinder;
import dev.edgegrain.FaceNetwork;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;

/**
 * The face finder with both networks on LiteRT; their files are assets of this module. Found squares may differ by some
 * pixels from those of other devices: a payload stores its square.
 *
 * <p><b>Not run so far</b>, and compiled only against stubs of Android and LiteRT: see README.md.
 */
public final class LiteRtFaces {
    private static final String FOLDER = "edgegrain-faces/";

    private LiteRtFaces() {}

    /** Opens both networks; throws {@link BundleException} if that fails. */
    public static FaceFinder open(Context context, int threads) {
        FaceNetwork detection = new Network(context, "face_detection_back.tflite", threads);
        try {
            return new FaceFinder(detection, new Network(context, "face_landmark.tflite", threads));
        } catch (RuntimeException | Error error) {
            detection.close();
            throw error;
        }
    }

    private static final class Network implements FaceNetwork {
        private final LiteRtModel model;

        Network(Context context, String name, int threads) {
            model = new LiteRtModel(name, asset(context, name), context.getCacheDir(), threads);
        }

        @Override
        public synchronized float[][] run(float[] input) {
            try {
                model.inputs.get(0).writeFloat(input);
                model.run();
                float[][] outputs = new float[model.outputs.size()][];
                for (int index = 0; index < outputs.length; index++) {
                    TensorBuffer output = model.outputs.get(index);
                    outputs[index] = output.readFloat();
                }
                return outputs;
            } catch (LiteRtException error) {
                throw new DeviceException("LiteRT cannot run a face network: " + error.getMessage());
            }
        }

        @Override
        public synchronized void close() {
            model.close();
        }

        private static byte[] asset(Context context, String name) {
            try (InputStream input = context.getAssets().open(FOLDER + name)) {
                ByteArrayOutputStream output = new ByteArrayOutputStream();
                byte[] part = new byte[1 << 16];
                for (int count = input.read(part); count >= 0; count = input.read(part)) {
                    output.write(part, 0, count);
                }
                return output.toByteArray();
            } catch (IOException error) {
                throw new BundleException(name + " is not among the app's assets: " + error.getMessage());
            }
        }
    }
}

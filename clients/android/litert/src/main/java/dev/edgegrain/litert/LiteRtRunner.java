package dev.edgegrain.litert;

import com.google.ai.edge.litert.LiteRtException;
import dev.edgegrain.Bundle;
import dev.edgegrain.BundleException;
import dev.edgegrain.DeviceException;
import dev.edgegrain.EncoderRunner;
import dev.edgegrain.ImageException;
import dev.edgegrain.Rgb;
import java.io.File;

/**
 * The exact encoder on LiteRT's {@code CompiledModel}, on the CPU (XNNPACK). Not for several threads at once.
 *
 * <p>The accelerator is the CPU and XNNPACK's flags are the default ones: float32 throughout. With GPU, NPU or the flag
 * {@code FORCE_FP16} the bytes differ.
 *
 * <p><b>Not run so far</b>, and compiled only against LiteRT's sources and stubs of Android: see README.md.
 */
public final class LiteRtRunner implements EncoderRunner {
    private final LiteRtModel model;
    private final int hr;
    private final int lr;

    /**
     * Loads the bundle's encoder; throws {@link BundleException} if that fails.
     *
     * @param folder a private folder such as {@code context.getCacheDir()}: LiteRT reads models from files, and later
     *     runners reuse the one that is there, see {@link EncoderFile}
     */
    public LiteRtRunner(Bundle bundle, File folder, int threads) {
        hr = bundle.hr;
        lr = bundle.lr;
        model = new LiteRtModel("the encoder", bundle.encoder, folder, threads);
    }

    @Override
    public synchronized Rgb encode(Rgb picture) {
        if (picture.width != hr || picture.height != hr) {
            throw new ImageException(
                    "the encoder takes " + hr + " x " + hr + " pixels, got " + picture.width + " x " + picture.height);
        }
        byte[] data;
        try {
            // The tensors are uint8; LiteRT names bytes of either kind int8.
            model.inputs.get(0).writeInt8(picture.data);
            model.run();
            data = model.outputs.get(0).readInt8();
        } catch (LiteRtException error) {
            throw new DeviceException("LiteRT cannot run the encoder: " + error.getMessage());
        }
        if (data.length != 3 * lr * lr) {
            throw new BundleException("the encoder gave " + data.length + " bytes, expected " + 3 * lr * lr);
        }
        return new Rgb(lr, lr, data);
    }

    @Override
    public synchronized void close() {
        model.close();
    }
}

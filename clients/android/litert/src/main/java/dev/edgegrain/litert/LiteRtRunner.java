package dev.edgegrain.litert;

import dev.edgegrain.Bundle;
import dev.edgegrain.BundleException;
import dev.edgegrain.EncoderRunner;
import dev.edgegrain.ImageException;
import dev.edgegrain.Rgb;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import org.tensorflow.lite.DataType;
import org.tensorflow.lite.Interpreter;
import org.tensorflow.lite.Tensor;

/**
 * The exact encoder on LiteRT's CPU kernels (XNNPACK).
 *
 * <p>No delegate, and float32 throughout: exactness ends where float16 begins. Not for several threads at once.
 */
public final class LiteRtRunner implements EncoderRunner, AutoCloseable {
    private final Interpreter interpreter;
    private final int hr;
    private final int lr;

    /** Loads the bundle's encoder; throws {@link BundleException} if it is not what the manifest says. */
    public LiteRtRunner(Bundle bundle, int threads) {
        ByteBuffer model = ByteBuffer.allocateDirect(bundle.encoder.length).order(ByteOrder.nativeOrder());
        model.put(bundle.encoder).rewind();
        Interpreter.Options options = new Interpreter.Options();
        options.setNumThreads(threads);
        options.setUseXNNPACK(true);
        hr = bundle.hr;
        lr = bundle.lr;
        try {
            interpreter = new Interpreter(model, options);
        } catch (IllegalArgumentException error) {
            throw new BundleException("the encoder cannot be loaded: " + error.getMessage());
        }
        try {
            check(interpreter.getInputTensor(0), hr);
            check(interpreter.getOutputTensor(0), lr);
        } catch (BundleException error) {
            interpreter.close();
            throw error;
        }
    }

    @Override
    public synchronized Rgb encode(Rgb picture) {
        if (picture.width != hr || picture.height != hr) {
            throw new ImageException(
                    "the encoder takes " + hr + " x " + hr + " pixels, got " + picture.width + " x " + picture.height);
        }
        ByteBuffer input = ByteBuffer.allocateDirect(picture.data.length).order(ByteOrder.nativeOrder());
        input.put(picture.data).rewind();
        ByteBuffer output = ByteBuffer.allocateDirect(3 * lr * lr).order(ByteOrder.nativeOrder());
        interpreter.run(input, output);
        output.rewind();
        byte[] data = new byte[3 * lr * lr];
        output.get(data);
        return new Rgb(lr, lr, data);
    }

    @Override
    public synchronized void close() {
        interpreter.close();
    }

    private static void check(Tensor tensor, int side) {
        if (tensor.dataType() != DataType.UINT8 || tensor.numBytes() != 3 * side * side) {
            throw new BundleException(
                    "not the bundle's encoder: " + tensor.name() + " is " + tensor.dataType() + " of "
                            + tensor.numBytes() + " bytes, expected UINT8 of " + 3 * side * side);
        }
    }
}

package dev.edgegrain.litert;

import com.google.ai.edge.litert.Accelerator;
import com.google.ai.edge.litert.CompiledModel;
import com.google.ai.edge.litert.LiteRtException;
import com.google.ai.edge.litert.TensorBuffer;
import dev.edgegrain.BundleException;
import dev.edgegrain.EncoderFile;
import java.io.File;
import java.io.IOException;
import java.util.List;

/** A model on LiteRT's {@code CompiledModel}, on the CPU (XNNPACK), with its buffers. Not run so far: see README.md. */
final class LiteRtModel implements AutoCloseable {
    final List<TensorBuffer> inputs;
    final List<TensorBuffer> outputs;
    private final CompiledModel model;

    /**
     * Loads a model; throws {@link BundleException} if that fails.
     *
     * @param name for error messages
     * @param folder where the model is kept as a file
     */
    LiteRtModel(String name, byte[] data, File folder, int threads) {
        CompiledModel.Options options = new CompiledModel.Options(Accelerator.CPU);
        options.setCpuOptions(new CompiledModel.CpuOptions(threads, null, null));
        File file;
        try {
            file = EncoderFile.in(folder, data);
        } catch (IOException error) {
            throw new BundleException(name + " cannot be stored in " + folder + ": " + error.getMessage());
        }
        CompiledModel opened = null;
        try {
            opened = CompiledModel.create(file.getPath(), options);
            inputs = opened.createInputBuffers();
            outputs = opened.createOutputBuffers();
        } catch (LiteRtException error) {
            if (opened != null) {
                opened.close();
            }
            throw new BundleException(name + " cannot be loaded: " + error.getMessage());
        }
        model = opened;
    }

    void run() throws LiteRtException {
        model.run(inputs, outputs);
    }

    @Override
    public void close() {
        for (TensorBuffer buffer : inputs) {
            buffer.close();
        }
        for (TensorBuffer buffer : outputs) {
            buffer.close();
        }
        model.close();
    }
}

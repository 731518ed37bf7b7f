package dev.edgegrain;

import java.util.List;

/** An encoder that has proven itself on this device: pictures to payloads. It owns its runner. */
public final class EdgeEncoder implements AutoCloseable {
    private final Bundle bundle;
    private final EncoderRunner runner;

    /**
     * Runs the bundle's golden vectors; throws {@link DeviceException} if this device computes other bytes. Closes the
     * runner if it throws anything: the caller has no encoder to close then.
     */
    public EdgeEncoder(Bundle bundle, EncoderRunner runner) {
        this.bundle = bundle;
        this.runner = runner;
        try {
            requireExact();
        } catch (RuntimeException | Error error) {
            runner.close();
            throw error;
        }
    }

    /** Compresses a picture: the same bytes as {@code sdk.compress} in Python makes of these pixels. */
    public Payload compress(Rgb picture, Fit fit) {
        Rgb lr = runner.encode(fit.apply(picture, bundle.hr));
        return Payload.pack(lr, bundle.contractId, bundle.tables, picture.width, picture.height, fit);
    }

    /** Closes the runner. */
    @Override
    public void close() {
        runner.close();
    }

    private void requireExact() {
        List<String> failed = bundle.golden.check(runner);
        if (!failed.isEmpty()) {
            throw new DeviceException(
                    "this device encodes " + failed + " to other bytes; let the service compress instead");
        }
    }
}

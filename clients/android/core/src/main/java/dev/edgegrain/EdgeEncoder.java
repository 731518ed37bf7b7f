package dev.edgegrain;

import java.util.List;

/** An encoder that has proven itself on this device: pictures to payloads. */
public final class EdgeEncoder {
    private final Bundle bundle;
    private final EncoderRunner runner;

    /** Runs the bundle's golden vectors; throws {@link DeviceException} if this device computes other bytes. */
    public EdgeEncoder(Bundle bundle, EncoderRunner runner) {
        this.bundle = bundle;
        this.runner = runner;
        List<String> failed = bundle.golden.check(runner);
        if (!failed.isEmpty()) {
            throw new DeviceException(
                    "this device encodes " + failed + " to other bytes; let the service compress instead");
        }
    }

    /** Compresses a picture: the same bytes as {@code sdk.compress} in Python makes of these pixels. */
    public Payload compress(Rgb picture, Fit fit) {
        Rgb lr = runner.encode(fit.apply(picture, bundle.hr));
        return Payload.pack(lr, bundle.contractId, bundle.tables, picture.width, picture.height, fit);
    }
}

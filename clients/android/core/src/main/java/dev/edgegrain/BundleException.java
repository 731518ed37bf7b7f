package dev.edgegrain;

/** A bundle is incomplete or damaged, or lists something this release does not know. */
public class BundleException extends EdgegrainException {
    private static final long serialVersionUID = 1;

    public BundleException(String message) {
        super(message);
    }
}

package dev.edgegrain;

/** A payload is truncated, corrupt, of an unknown version, or names another LR contract. */
public class PayloadException extends EdgegrainException {
    private static final long serialVersionUID = 1;

    public PayloadException(String message) {
        super(message);
    }
}

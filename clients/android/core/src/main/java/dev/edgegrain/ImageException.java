package dev.edgegrain;

/** A picture is damaged or truncated, or has a shape or size that is not supported. */
public class ImageException extends EdgegrainException {
    private static final long serialVersionUID = 1;

    public ImageException(String message) {
        super(message);
    }
}

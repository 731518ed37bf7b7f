package dev.edgegrain;

/** What this library throws on purpose; every message says what was wrong and what was expected. */
public class EdgegrainException extends RuntimeException {
    private static final long serialVersionUID = 1;

    public EdgegrainException(String message) {
        super(message);
    }
}

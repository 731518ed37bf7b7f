package dev.edgegrain;

/** This device does not compute what the bundle's golden vectors say. */
public class DeviceException extends EdgegrainException {
    private static final long serialVersionUID = 1;

    public DeviceException(String message) {
        super(message);
    }
}

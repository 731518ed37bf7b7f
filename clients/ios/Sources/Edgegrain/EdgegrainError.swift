import Foundation

/// What this library throws on purpose; every message says what was wrong and what was expected.
public enum EdgegrainError: Error, Equatable, LocalizedError {
    /// A payload is truncated, corrupt, of an unknown version, or names another LR contract.
    case payload(String)
    /// A picture cannot be read, or has a size that is not supported.
    case image(String)
    /// A bundle is incomplete or damaged, or lists something this release does not know.
    case bundle(String)
    /// This device does not compute what the bundle's golden vectors say, or cannot run the encoder.
    case device(String)

    public var errorDescription: String? {
        switch self {
        case .payload(let message), .image(let message), .bundle(let message), .device(let message):
            return message
        }
    }
}

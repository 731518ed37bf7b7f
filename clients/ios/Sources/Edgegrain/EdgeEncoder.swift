// Not compiled so far: see README.md.
import Foundation

/// An encoder that has proven itself on this device: pictures to payloads.
///
///     let encoder = try EdgeEncoder(EdgeBundle(folder: url))
///     let payload = try await encoder.compress(RGB(contentsOf: photo))
public actor EdgeEncoder {
    public nonisolated let bundle: EdgeBundle
    private let runner: CoreMLRunner

    /// Loads the encoder and runs the bundle's golden vectors; `EdgegrainError.device` if this device computes other
    /// bytes.
    public init(_ bundle: EdgeBundle) throws {
        let runner = try CoreMLRunner(bundle)
        let failed = try bundle.golden.check(runner.encode)
        guard failed.isEmpty else {
            throw EdgegrainError.device(
                "this device encodes \(failed.joined(separator: ", ")) to other bytes; "
                    + "let the service compress instead")
        }
        self.bundle = bundle
        self.runner = runner
    }

    /// Compresses a picture: the same bytes as `sdk.compress` in Python makes of these pixels.
    public func compress(_ picture: RGB, fit: Fit = .pad) throws -> Payload {
        let lr = try runner.encode(fit.apply(to: picture, hr: bundle.hr))
        return try Payload(
            lr: lr, contractId: bundle.contractId, tables: bundle.tables,
            originalSize: (picture.width, picture.height), fit: fit)
    }
}

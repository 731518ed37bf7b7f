// Not compiled so far: see README.md.
import CoreML
import CoreVideo
import Foundation

/// The exact encoder on Core ML, on the CPU only: there its float32 arithmetic is float32.
///
/// The program takes an RGB picture (a pixel buffer's bytes enter as whole numbers) and gives int32 `[1, 3, lr, lr]`.
/// Calls from several threads run one after another: an `MLModel` is for one thread at a time.
public final class CoreMLRunner: @unchecked Sendable {
    private let model: MLModel
    private let lock = NSLock()
    private let hr: Int
    private let lr: Int

    /// Loads the bundle's encoder, compiling it first if it is a package; `EdgegrainError.bundle` if that fails.
    ///
    /// A compiled package is kept in the caches folder and loaded from there the next time, without a check by SHA-256.
    public init(_ bundle: EdgeBundle) throws {
        hr = bundle.hr
        lr = bundle.lr
        do {
            model = try CoreMLRunner.load(bundle)
        } catch {
            throw EdgegrainError.bundle("the encoder cannot be loaded: \(error.localizedDescription)")
        }
    }

    private static func load(_ bundle: EdgeBundle) throws -> MLModel {
        let configuration = MLModelConfiguration()
        configuration.computeUnits = .cpuOnly
        guard let digest = bundle.packageDigest else {
            return try MLModel(contentsOf: bundle.encoder, configuration: configuration)
        }
        let files = FileManager.default
        let caches = try files.url(for: .cachesDirectory, in: .userDomainMask, appropriateFor: nil, create: true)
        let kept = caches.appendingPathComponent("edgegrain-\(digest).mlmodelc")
        if let model = try? MLModel(contentsOf: kept, configuration: configuration) {
            return model
        }
        let compiled = try MLModel.compileModel(at: bundle.encoder)  // in the temporary folder
        try? files.removeItem(at: kept)  // if it is there, it is damaged
        do {
            try files.moveItem(at: compiled, to: kept)
        } catch {
            return try MLModel(contentsOf: compiled, configuration: configuration)
        }
        return try MLModel(contentsOf: kept, configuration: configuration)
    }

    /// The LR of a square picture of side `hr`.
    public func encode(_ picture: RGB) throws -> RGB {
        guard picture.width == hr, picture.height == hr else {
            throw EdgegrainError.image(
                "the encoder takes \(hr) x \(hr) pixels, got \(picture.width) x \(picture.height)")
        }
        let input = try MLDictionaryFeatureProvider(
            dictionary: ["image": MLFeatureValue(pixelBuffer: pixelBuffer(picture))])
        let output: MLFeatureProvider
        do {
            lock.lock()
            defer { lock.unlock() }
            output = try model.prediction(from: input)
        } catch {
            throw EdgegrainError.device("Core ML cannot run the encoder: \(error.localizedDescription)")
        }
        guard let array = output.featureValue(for: "lr")?.multiArrayValue, array.dataType == .int32,
            array.shape.map({ $0.intValue }) == [1, 3, lr, lr]
        else {
            throw EdgegrainError.bundle("the encoder gave no int32 [1, 3, \(lr), \(lr)]")
        }
        var data = [UInt8](repeating: 0, count: 3 * lr * lr)
        for channel in 0..<3 {
            for y in 0..<lr {
                for x in 0..<lr {
                    let index = [0, channel, y, x].map { NSNumber(value: $0) }  // strides are Core ML's business
                    guard let level = UInt8(exactly: array[index].intValue) else {
                        throw EdgegrainError.device("the encoder gave \(array[index]), expected 0 to 255")
                    }
                    data[3 * (lr * y + x) + channel] = level
                }
            }
        }
        return try RGB(width: lr, height: lr, data: data)
    }

    private func pixelBuffer(_ picture: RGB) throws -> CVPixelBuffer {
        var created: CVPixelBuffer?
        CVPixelBufferCreate(nil, hr, hr, kCVPixelFormatType_32BGRA, nil, &created)
        guard let buffer = created, CVPixelBufferLockBaseAddress(buffer, []) == kCVReturnSuccess else {
            throw EdgegrainError.device("no pixel buffer of \(hr) x \(hr) could be made")
        }
        defer { CVPixelBufferUnlockBaseAddress(buffer, []) }
        guard let base = CVPixelBufferGetBaseAddress(buffer) else {
            throw EdgegrainError.device("the pixel buffer has no memory")
        }
        let stride = CVPixelBufferGetBytesPerRow(buffer)
        let bytes = base.assumingMemoryBound(to: UInt8.self)
        for y in 0..<hr {
            for x in 0..<hr {
                let from = 3 * (hr * y + x)
                let to = stride * y + 4 * x
                bytes[to] = picture.data[from + 2]
                bytes[to + 1] = picture.data[from + 1]
                bytes[to + 2] = picture.data[from]
                bytes[to + 3] = 255
            }
        }
        return buffer
    }
}

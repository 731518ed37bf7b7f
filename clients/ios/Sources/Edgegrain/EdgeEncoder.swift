// Not compiled so far: see README.md.
import CoreGraphics
import Foundation

/// An encoder that has proven itself on this device: pictures to payloads.
///
///     let encoder = try EdgeEncoder(EdgeBundle(folder: url))
///     let payload = try await encoder.compressPhoto(RGB(contentsOf: photo))
public actor EdgeEncoder {
    private static let faces = "faces"
    /// Least side of a face's box in `compressFaces`, in pixels.
    private static let leastPixels = 32.0

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

    /// Compresses a photograph: of a bundle of faces its largest face, as `sdk.compress` does in Python. A picture that
    /// is already framed like FFHQ's is encoded whole, as is every picture of other bundles. `EdgegrainError.image` if
    /// no face is found, or if it cannot be aligned.
    ///
    /// - Parameter maxBytes: takes the best rate of the bundle whose payload has at most so many bytes, else the last.
    public func compressPhoto(_ picture: RGB, maxBytes: Int = .max) throws -> Payload {
        guard bundle.domain == EdgeEncoder.faces else { return try compress(picture, fit: .pad, maxBytes: maxBytes) }
        guard let face = try FaceFinder.find(picture).first else { throw EdgeEncoder.noFace(in: picture) }
        return try compressAligned(
            picture, face.square(width: picture.width, height: picture.height), maxBytes: maxBytes)
    }

    /// Compresses every face of a photograph with a size of at least 32 pixels, the largest first; those that cannot be
    /// aligned are left out. `EdgegrainError.image` if there is no such face.
    public func compressFaces(_ picture: RGB) throws -> [Payload] {
        try squares(of: picture, least: EdgeEncoder.leastPixels).map { try compressAligned(picture, $0) }
    }

    /// Compresses a photograph with all its faces, also small ones, up to `FaceScene.maxFaces`; errors as `compressFaces`.
    ///
    /// - Parameter backgroundWebP: the whole photograph as a small lossy WebP file, see `FaceScene`; nil for none.
    public func compressScene(_ picture: RGB, backgroundWebP: [UInt8]? = nil) throws -> FaceScene {
        let faces = try squares(of: picture, least: 0).prefix(FaceScene.maxFaces).map { try compress(picture, square: $0) }
        return try FaceScene(
            faces: Array(faces), originalSize: (picture.width, picture.height), backgroundWebP: backgroundWebP)
    }

    /// Compresses the face at these points, for apps that find faces themselves; parameters and errors as
    /// `FFHQSquare.around`. A picture that is already framed like FFHQ's is encoded whole.
    public func compressFace(_ picture: RGB, leftEye: CGPoint, rightEye: CGPoint, mouth: CGPoint) throws -> Payload {
        try compressAligned(
            picture,
            FFHQSquare.around(
                leftEye: leftEye, rightEye: rightEye, mouth: mouth, width: picture.width, height: picture.height))
    }

    /// Compresses a square of a picture; `EdgegrainError.payload` if `OrientedSquare.check` refuses it.
    /// `maxBytes` as in `compressPhoto`.
    public func compress(_ picture: RGB, square: OrientedSquare, maxBytes: Int = .max) throws -> Payload {
        let lr = try runner.encode(ExactSquare.cut(picture, square, side: bundle.hr))
        return try pack(lr, of: picture, fit: .align, square: square, maxBytes: maxBytes)
    }

    /// Compresses a whole picture: the same bytes as `sdk.compress` in Python makes with this fit. `maxBytes` as in
    /// `compressPhoto`.
    public func compress(_ picture: RGB, fit: Fit, maxBytes: Int = .max) throws -> Payload {
        let lr = try runner.encode(fit.apply(to: picture, hr: bundle.hr))
        return try pack(lr, of: picture, fit: fit, square: nil, maxBytes: maxBytes)
    }

    private func compressAligned(_ picture: RGB, _ square: OrientedSquare, maxBytes: Int = .max) throws -> Payload {
        FFHQSquare.isFramed(square, width: picture.width, height: picture.height)
            ? try compress(picture, fit: .pad, maxBytes: maxBytes)
            : try compress(picture, square: square, maxBytes: maxBytes)
    }

    /// The best rate whose payload has at most `maxBytes`, else the last; without a limit the bundle's own.
    private func pack(_ lr: RGB, of picture: RGB, fit: Fit, square: OrientedSquare?, maxBytes: Int) throws -> Payload {
        func payload(_ rate: Rate) throws -> Payload {
            try Payload(
                lr: lr, contractId: rate.contractId, tables: rate.tables,
                originalSize: (picture.width, picture.height), fit: fit, square: square)
        }
        if maxBytes == .max { return try payload(bundle.ownRate) }
        var packed = try payload(bundle.rates[0])
        for rate in bundle.rates.dropFirst() where packed.bytes.count > maxBytes {
            packed = try payload(rate)
        }
        return packed
    }

    private func squares(of picture: RGB, least: Double) throws -> [OrientedSquare] {
        guard bundle.domain == EdgeEncoder.faces else {
            throw EdgegrainError.image("bundle \(bundle.id) is for \(bundle.domain), not for faces of photographs")
        }
        let faces = try FaceFinder.find(picture)
        guard let largest = faces.first else { throw EdgeEncoder.noFace(in: picture) }
        guard largest.side >= least else {
            throw EdgegrainError.image(
                "the face has a size of \(Int(largest.side)) pixels, expected at least \(Int(least)); use a larger picture")
        }
        return faces.filter { $0.side >= least }.compactMap { try? $0.square(width: picture.width, height: picture.height) }
    }

    private static func noFace(in picture: RGB) -> EdgegrainError {
        .image(
            "no face was found in the picture of \(picture.width) x \(picture.height) pixels; use another picture, or "
                + "encode all of it: compress(picture, fit: .pad)")
    }
}

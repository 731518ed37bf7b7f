import CoreGraphics
import Foundation
import ImageIO

/// Pictures of Apple's platforms as RGB. JPEG decoders differ from platform to platform: equality of bytes begins at
/// the RGB that comes out here.
extension RGB {
    /// Decodes a file, upright and in sRGB, on a white background; `EdgegrainError.image` if it is no picture.
    public init(contentsOf url: URL) throws {
        guard let data = try? Data(contentsOf: url) else {
            throw EdgegrainError.image("\(url.lastPathComponent) cannot be read")
        }
        try self.init(encoded: data)
    }

    /// Decodes the bytes of a file, as `init(contentsOf:)`.
    public init(encoded data: Data) throws {
        guard let source = CGImageSourceCreateWithData(data as CFData, nil),
            let image = CGImageSourceCreateImageAtIndex(source, 0, nil)
        else {
            throw EdgegrainError.image("the picture of \(data.count) bytes cannot be decoded")
        }
        let properties = CGImageSourceCopyPropertiesAtIndex(source, 0, nil) as? [CFString: Any]
        let orientation = (properties?[kCGImagePropertyOrientation] as? NSNumber)?.intValue ?? 1
        self = try RGB(image).upright(orientation: orientation)
    }

    /// The pixels of an image, converted to sRGB, on a white background.
    public init(_ image: CGImage) throws {
        let (width, height) = (image.width, image.height)
        var rgba = [UInt8](repeating: 0, count: 4 * width * height)
        let drawn = rgba.withUnsafeMutableBytes { memory -> Bool in
            guard let space = CGColorSpace(name: CGColorSpace.sRGB),
                let context = CGContext(
                    data: memory.baseAddress, width: width, height: height, bitsPerComponent: 8, bytesPerRow: 4 * width,
                    space: space, bitmapInfo: CGImageAlphaInfo.noneSkipLast.rawValue)
            else { return false }
            let whole = CGRect(x: 0, y: 0, width: width, height: height)
            context.interpolationQuality = .none
            // Core Graphics has no straight alpha to draw into, so it composites itself.
            context.setFillColor(red: 1, green: 1, blue: 1, alpha: 1)
            context.fill(whole)
            context.draw(image, in: whole)
            return true
        }
        guard drawn else {
            throw EdgegrainError.image("a picture of \(width) x \(height) cannot be drawn")
        }
        var rgb: [UInt8] = []
        rgb.reserveCapacity(3 * width * height)
        for pixel in stride(from: 0, to: rgba.count, by: 4) {
            rgb += rgba[pixel..<(pixel + 3)]
        }
        try self.init(width: width, height: height, data: rgb)
    }
}

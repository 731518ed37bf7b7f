import CoreGraphics
import Foundation
import ImageIO

/// Pictures of Apple's platforms as RGB. JPEG decoders differ from platform to platform: equality of bytes begins at
/// the RGB that comes out here.
extension RGB {
    /// The most pixels of a file that is decoded, if no other limit is given; less than in Python, as phones are.
    public static let maxPixels = 89_478_485

    /// At most this many pixels are drawn at once.
    private static let stripPixels = 1 << 22

    /// Decodes a file, upright and in sRGB, on a white background.
    ///
    /// Throws `EdgegrainError.image` if the file is no picture, is damaged or truncated, has a side of more than 65,535
    /// pixels, or claims more than `maxPixels`. Sizes are checked before the pixels are decoded.
    public init(contentsOf url: URL, maxPixels: Int = RGB.maxPixels) throws {
        guard let data = try? Data(contentsOf: url) else {
            throw EdgegrainError.image("\(url.lastPathComponent) cannot be read")
        }
        try self.init(encoded: data, maxPixels: maxPixels)
    }

    /// Decodes the bytes of a file, as `init(contentsOf:maxPixels:)`.
    public init(encoded data: Data, maxPixels: Int = RGB.maxPixels) throws {
        let (picture, orientation) = try RGB.decode(data, maxPixels: maxPixels)
        self = try picture.upright(orientation: orientation)
    }

    /// The pixels of an image, converted to sRGB, on a white background.
    public init(_ image: CGImage) throws {
        let (width, height) = (image.width, image.height)
        try RGB.checkSides(width, height)
        let rows = min(height, max(1, RGB.stripPixels / width))
        var data = [UInt8](repeating: 0, count: 3 * width * height)
        var strip = [UInt8](repeating: 0, count: 4 * width * rows)
        let drawn = strip.withUnsafeMutableBytes { memory -> Bool in
            guard let space = CGColorSpace(name: CGColorSpace.sRGB),
                let context = CGContext(
                    data: memory.baseAddress, width: width, height: rows, bitsPerComponent: 8, bytesPerRow: 4 * width,
                    space: space, bitmapInfo: CGImageAlphaInfo.noneSkipLast.rawValue)
            else { return false }
            context.interpolationQuality = .none
            // Core Graphics has no straight alpha to draw into, so it composites itself.
            context.setFillColor(red: 1, green: 1, blue: 1, alpha: 1)
            var to = 0
            for top in stride(from: 0, to: height, by: rows) {
                context.fill(CGRect(x: 0, y: 0, width: width, height: rows))
                // y = 0 is the bottom: this places the image's row `top` at the top of the strip.
                context.draw(image, in: CGRect(x: 0, y: rows + top - height, width: width, height: height))
                for pixel in 0..<(width * min(rows, height - top)) {
                    data[to] = memory[4 * pixel]
                    data[to + 1] = memory[4 * pixel + 1]
                    data[to + 2] = memory[4 * pixel + 2]
                    to += 3
                }
            }
            return true
        }
        guard drawn else {
            throw EdgegrainError.image("a picture of \(width) x \(height) cannot be drawn")
        }
        try self.init(width: width, height: height, data: data)
    }

    /// The picture for Apple's frameworks; `EdgegrainError.image` if there is not enough memory.
    public func image() throws -> CGImage {
        guard let provider = CGDataProvider(data: Data(data) as CFData),
            let space = CGColorSpace(name: CGColorSpace.sRGB),
            let image = CGImage(
                width: width, height: height, bitsPerComponent: 8, bitsPerPixel: 24, bytesPerRow: 3 * width,
                space: space, bitmapInfo: CGBitmapInfo(rawValue: CGImageAlphaInfo.none.rawValue), provider: provider,
                decode: nil, shouldInterpolate: false, intent: .defaultIntent)
        else {
            throw EdgegrainError.image("no image of \(width) x \(height) could be made")
        }
        return image
    }

    /// The primary picture of a file, as it is stored, and its EXIF orientation.
    ///
    /// A function of its own, so that Image I/O's copy of the pixels is freed before they are turned upright.
    private static func decode(_ data: Data, maxPixels: Int) throws -> (RGB, Int) {
        guard let source = CGImageSourceCreateWithData(data as CFData, nil), CGImageSourceGetCount(source) > 0 else {
            throw EdgegrainError.image("the \(data.count) bytes are no picture, or one of an unknown format")
        }
        let index = CGImageSourceGetPrimaryImageIndex(source)
        let properties = CGImageSourceCopyPropertiesAtIndex(source, index, nil) as? [CFString: Any]
        func property(_ key: CFString) -> Int? { (properties?[key] as? NSNumber)?.intValue }
        guard let width = property(kCGImagePropertyPixelWidth), let height = property(kCGImagePropertyPixelHeight)
        else {
            throw EdgegrainError.image("the picture of \(data.count) bytes does not say its size")
        }
        try checkSides(width, height)
        guard width * height <= maxPixels else {
            throw EdgegrainError.image(
                "the picture claims \(width) x \(height) pixels, more than \(maxPixels); "
                    + "if you trust it, raise maxPixels")
        }
        // Decoded at once: the status tells afterwards whether all of it could be.
        let options = [kCGImageSourceShouldCacheImmediately: true] as CFDictionary
        guard !isTruncated(data), let image = CGImageSourceCreateImageAtIndex(source, index, options),
            CGImageSourceGetStatus(source) == .statusComplete,
            CGImageSourceGetStatusAtIndex(source, index) == .statusComplete
        else {
            throw EdgegrainError.image(
                "the picture of \(data.count) bytes cannot be decoded, it is damaged or truncated")
        }
        return (try RGB(image), property(kCGImagePropertyOrientation) ?? 1)
    }
}

/// True if the bytes of a JPEG or PNG stop before the picture's end. Image I/O may fill the rest with grey and call it
/// complete.
private func isTruncated(_ data: Data) -> Bool {
    data.withUnsafeBytes { (bytes: UnsafeRawBufferPointer) -> Bool in
        if bytes.starts(with: [0xff, 0xd8]) { return !reachesEOI(bytes) }
        if bytes.starts(with: [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]) { return !reachesIEND(bytes) }
        return false
    }
}

/// Walks the segments of a JPEG to the marker EOI; further bytes may follow it.
private func reachesEOI(_ bytes: UnsafeRawBufferPointer) -> Bool {
    var position = 2
    while position + 1 < bytes.count {
        let marker = bytes[position + 1]
        if bytes[position] != 0xff || marker == 0xff {
            position += 1  // coded data, or a fill byte
        } else if marker <= 0x01 || (0xd0...0xd8).contains(marker) {
            position += 2  // a stuffed zero, or a marker without a segment
        } else if marker == 0xd9 {
            return true
        } else if position + 3 < bytes.count {
            position += 2 + (Int(bytes[position + 2]) << 8 | Int(bytes[position + 3]))
        } else {
            return false
        }
    }
    return false
}

/// Walks the chunks of a PNG to IEND.
private func reachesIEND(_ bytes: UnsafeRawBufferPointer) -> Bool {
    var position = 8
    while position + 12 <= bytes.count {
        if bytes[(position + 4)..<(position + 8)].elementsEqual("IEND".utf8) { return true }
        let length = bytes[position..<(position + 4)].reduce(0) { ($0 << 8) | Int($1) }
        position += 12 + length
    }
    return false
}

/// A picture: 8-bit RGB, upright, sRGB, in reading order.
public struct RGB: Equatable, Sendable {
    public let width: Int
    public let height: Int
    /// R, G, B of each pixel: `3 * width * height` bytes.
    public let data: [UInt8]

    /// Throws `EdgegrainError.image` if a side is not 1 to 65,535, or if there are not as many bytes as the size says.
    public init(width: Int, height: Int, data: [UInt8]) throws {
        try RGB.checkSides(width, height)
        guard data.count == 3 * width * height else {
            throw EdgegrainError.image(
                "an RGB picture of \(width) x \(height) has \(3 * width * height) bytes, got \(data.count)")
        }
        self.width = width
        self.height = height
        self.data = data
    }

    /// Composites pixels with straight alpha, R, G, B, A each, on a background, with the rounding that Python's client
    /// has (Pillow's `paste`).
    public static func flatten(
        width: Int, height: Int, rgba: [UInt8], background: [UInt8] = [255, 255, 255]
    ) throws -> RGB {
        try checkSides(width, height)
        guard rgba.count == 4 * width * height, background.count == 3 else {
            throw EdgegrainError.image(
                "\(width) x \(height) pixels have \(4 * width * height) bytes, got \(rgba.count), and a background "
                    + "has 3 levels, got \(background.count)")
        }
        var data = [UInt8](repeating: 0, count: 3 * width * height)
        for pixel in 0..<(width * height) {
            let alpha = Int(rgba[4 * pixel + 3])
            for channel in 0..<3 {
                let level = Int(rgba[4 * pixel + channel])
                let sum = level * alpha + Int(background[channel]) * (255 - alpha) + 128
                data[3 * pixel + channel] = UInt8(alpha == 255 ? level : ((sum >> 8) + sum) >> 8)
            }
        }
        return try RGB(width: width, height: height, data: data)
    }

    /// The picture as it is meant to be seen; `orientation` is EXIF's 1 to 8, others mean nothing.
    public func upright(orientation: Int) throws -> RGB {
        guard (2...8).contains(orientation) else { return self }
        let transposed = orientation >= 5
        let downwards = [3, 4, 7, 8].contains(orientation)
        let leftwards = [2, 3, 6, 7].contains(orientation)
        let (newWidth, newHeight) = transposed ? (height, width) : (width, height)
        var turned = [UInt8](repeating: 0, count: data.count)
        for y in 0..<newHeight {
            let row = downwards ? newHeight - 1 - y : y
            for x in 0..<newWidth {
                let column = leftwards ? newWidth - 1 - x : x
                let from = 3 * (transposed ? width * column + row : width * row + column)
                let to = 3 * (newWidth * y + x)
                turned[to] = data[from]
                turned[to + 1] = data[from + 1]
                turned[to + 2] = data[from + 2]
            }
        }
        return try RGB(width: newWidth, height: newHeight, data: turned)
    }

    /// Throws `EdgegrainError.image` unless both sides are 1 to 65,535.
    static func checkSides(_ width: Int, _ height: Int) throws {
        let sides = 1...ExactResize.maxSide
        guard sides.contains(width), sides.contains(height) else {
            throw EdgegrainError.image(
                "a picture has sides of 1 to \(ExactResize.maxSide) pixels, got \(width) x \(height)")
        }
    }
}

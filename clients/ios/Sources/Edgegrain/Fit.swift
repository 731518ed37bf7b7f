/// How a picture comes to the encoder's square; the raw value is the code on the wire.
public enum Fit: Int, CaseIterable, Sendable {
    /// Padded at its edges; the original's size and aspect come back.
    case pad
    /// Stretched; the original's size and aspect come back.
    case stretch
    /// Cut to its centre square, which comes back.
    case crop
    /// A square at any angle was cut out, see `ExactSquare`; it comes back.
    case align

    /// Width and height of a picture scaled so that its longest side has `hr` pixels, halves up, at least 1.
    ///
    /// Throws `EdgegrainError.image` if one of the three is not 1 to 65,535.
    public static func contentSize(width: Int, height: Int, hr: Int) throws -> (width: Int, height: Int) {
        try RGB.checkSides(width, height)
        try RGB.checkSides(hr, hr)
        let longest = max(width, height)
        func scaled(_ side: Int) -> Int { max(1, (2 * side * hr + longest) / (2 * longest)) }
        return (scaled(width), scaled(height))
    }

    /// Brings a picture to `hr` x `hr` pixels, in integers only; `EdgegrainError.image` if `hr` is not 1 to 65,535, and
    /// for `align`, which needs a square: `EdgeEncoder.compress(_:square:)`.
    public func apply(to rgb: RGB, hr: Int) throws -> RGB {
        switch self {
        case .align:
            throw EdgegrainError.image(
                "the fit align needs a square; use compressPhoto, compressFace or compress(_:square:)")
        case .stretch:
            return try ExactResize.resize(rgb, width: hr, height: hr)
        case .crop:
            return try ExactResize.resize(Fit.centreSquare(of: rgb), width: hr, height: hr)
        case .pad:
            let size = try Fit.contentSize(width: rgb.width, height: rgb.height, hr: hr)
            return try Fit.padded(ExactResize.resize(rgb, width: size.width, height: size.height), side: hr)
        }
    }

    private static func centreSquare(of rgb: RGB) throws -> RGB {
        let side = min(rgb.width, rgb.height)
        let left = (rgb.width - side) / 2
        let top = (rgb.height - side) / 2
        var data: [UInt8] = []
        data.reserveCapacity(3 * side * side)
        for y in top..<(top + side) {
            let from = 3 * (rgb.width * y + left)
            data += rgb.data[from..<(from + 3 * side)]
        }
        return try RGB(width: side, height: side, data: data)
    }

    /// Repeats the edge pixels: half of what is missing, rounded down, comes before the picture.
    private static func padded(_ content: RGB, side: Int) throws -> RGB {
        let left = (side - content.width) / 2
        let top = (side - content.height) / 2
        var data: [UInt8] = []
        data.reserveCapacity(3 * side * side)
        for y in 0..<side {
            let row = min(max(y - top, 0), content.height - 1) * content.width
            for x in 0..<side {
                let from = 3 * (row + min(max(x - left, 0), content.width - 1))
                data += content.data[from..<(from + 3)]
            }
        }
        return try RGB(width: side, height: side, data: data)
    }
}

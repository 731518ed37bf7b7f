/// The exact square, docs/exact_square.md: cut out of a picture at any angle, the same bytes as every other client's.
/// Not compiled so far: see README.md.
public enum ExactSquare {
    /// Samples along a side, per pixel of the result.
    private static let oversampling = 2
    private static let halfPixel = 32768

    /// The pixels of a square; pixels outside of the picture repeat its edge.
    ///
    /// - Parameters:
    ///   - square: of this picture; `EdgegrainError.payload` if `OrientedSquare.check` refuses it.
    ///   - side: of the result, in pixels.
    public static func cut(_ rgb: RGB, _ square: OrientedSquare, side: Int) throws -> RGB {
        try square.check(width: rgb.width, height: rgb.height)
        try RGB.checkSides(oversampling * side, oversampling * side)
        return try ExactResize.resize(sample(rgb, square, samples: oversampling * side), width: side, height: side)
    }

    private static func sample(_ rgb: RGB, _ square: OrientedSquare, samples: Int) throws -> RGB {
        let edge = squareRoot(square.acrossX * square.acrossX + square.acrossY * square.acrossY)
        let factor = max(1, edge / (4 * samples))
        let width = (rgb.width + factor - 1) / factor
        let height = (rgb.height + factor - 1) / factor
        func position(_ centre: Int, _ offset: Int) -> Int {
            floorDivide(8192 * (2 * samples * centre + offset), samples * factor) - halfPixel
        }
        // The reduced picture's part that is read: the samples in the corners bound all others.
        func bounds(_ centre: Int, _ alongA: Int, _ alongB: Int, _ length: Int) -> ClosedRange<Int> {
            let end = samples - 1
            let pixels = [(-end, -end), (-end, end), (end, -end), (end, end)].map {
                position(centre, $0.0 * alongA + $0.1 * alongB) >> 16
            }
            return clamp(pixels.min()!, length)...clamp(pixels.max()! + 1, length)
        }
        let columns = bounds(square.x, square.acrossX, -square.acrossY, width)
        let rows = bounds(square.y, square.acrossY, square.acrossX, height)
        let part = factor == 1 ? rgb : try reduce(rgb, factor, columns, rows)
        let (left, top) = factor == 1 ? (0, 0) : (columns.lowerBound, rows.lowerBound)
        var data = [UInt8](repeating: 0, count: 3 * samples * samples)
        part.data.withUnsafeBufferPointer { source in
            var to = 0
            for j in 0..<samples {
                let b = 2 * j + 1 - samples
                for i in 0..<samples {
                    let a = 2 * i + 1 - samples
                    let px = position(square.x, a * square.acrossX - b * square.acrossY)
                    let py = position(square.y, a * square.acrossY + b * square.acrossX)
                    let (p, q) = (px >> 8 & 255, py >> 8 & 255)
                    let first = clamp(px >> 16, width) - left
                    let second = clamp((px >> 16) + 1, width) - left
                    let upper = (clamp(py >> 16, height) - top) * part.width
                    let lower = (clamp((py >> 16) + 1, height) - top) * part.width
                    for channel in 0..<3 {
                        func level(_ pixel: Int) -> Int { Int(source[3 * pixel + channel]) }
                        let above = level(upper + first) * (256 - p) + level(upper + second) * p
                        let below = level(lower + first) * (256 - p) + level(lower + second) * p
                        data[to] = UInt8((above * (256 - q) + below * q + halfPixel) >> 16)
                        to += 1
                    }
                }
            }
        }
        return try RGB(width: samples, height: samples, data: data)
    }

    /// Box reduction of the columns and rows named: each pixel is the mean of a block, smaller at the right and lower
    /// edge.
    private static func reduce(
        _ rgb: RGB, _ factor: Int, _ columns: ClosedRange<Int>, _ rows: ClosedRange<Int>
    ) throws -> RGB {
        var data: [UInt8] = []
        data.reserveCapacity(3 * columns.count * rows.count)
        rgb.data.withUnsafeBufferPointer { source in
            for row in rows {
                let block = (row * factor)..<min((row + 1) * factor, rgb.height)
                for column in columns {
                    let across = (column * factor)..<min((column + 1) * factor, rgb.width)
                    var (red, green, blue) = (0, 0, 0)
                    for y in block {
                        var from = 3 * (rgb.width * y + across.lowerBound)
                        for _ in across {
                            red += Int(source[from])
                            green += Int(source[from + 1])
                            blue += Int(source[from + 2])
                            from += 3
                        }
                    }
                    let count = across.count * block.count
                    for sum in [red, green, blue] {
                        data.append(UInt8(((sum + count / 2) * ((1 << 24) / count)) >> 24))
                    }
                }
            }
        }
        return try RGB(width: columns.count, height: rows.count, data: data)
    }

    private static func clamp(_ position: Int, _ length: Int) -> Int {
        max(0, min(position, length - 1))
    }

    /// Rounds down; Swift's `/` rounds towards 0.
    private static func floorDivide(_ number: Int, _ divisor: Int) -> Int {
        let (quotient, remainder) = number.quotientAndRemainder(dividingBy: divisor)
        return remainder < 0 ? quotient - 1 : quotient
    }

    /// The integer square root.
    private static func squareRoot(_ number: Int) -> Int {
        var root = Int(Double(number).squareRoot())
        while root * root > number { root -= 1 }
        while (root + 1) * (root + 1) <= number { root += 1 }
        return root
    }
}

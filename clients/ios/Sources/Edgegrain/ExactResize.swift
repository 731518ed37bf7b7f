/// The exact resize, docs/exact_square.md: the same bytes as every other client's.
///
/// A triangle filter, widened when shrinking, with weights in 22-bit fixed point; width first, then height, each pass
/// rounded to 8 bits.
public enum ExactResize {
    /// Longest side, in pixels, before and after.
    public static let maxSide = 65535

    private static let half = 1 << 21

    /// Resizes a picture; throws `EdgegrainError.image` if a side is not 1 to 65,535.
    public static func resize(_ rgb: RGB, width: Int, height: Int) throws -> RGB {
        for side in [rgb.width, rgb.height, width, height] where !(1...maxSide).contains(side) {
            throw EdgegrainError.image("the exact resize takes sides of 1 to \(maxSide) pixels, got \(side)")
        }
        let narrowed = rgb.width == width ? rgb : try resizeWidth(rgb, to: width)
        return narrowed.height == height ? narrowed : try resizeHeight(narrowed, to: height)
    }

    private static func resizeWidth(_ rgb: RGB, to width: Int) throws -> RGB {
        let taps = filterTaps(before: rgb.width, after: width)
        var data = [UInt8](repeating: 0, count: 3 * width * rgb.height)
        rgb.data.withUnsafeBufferPointer { source in
            for y in 0..<rgb.height {
                for x in 0..<width {
                    var red = half
                    var green = half
                    var blue = half
                    var from = 3 * (rgb.width * y + taps[x].first)
                    for weight in taps[x].weights {
                        red += weight * Int(source[from])
                        green += weight * Int(source[from + 1])
                        blue += weight * Int(source[from + 2])
                        from += 3
                    }
                    let to = 3 * (width * y + x)
                    data[to] = level(red)
                    data[to + 1] = level(green)
                    data[to + 2] = level(blue)
                }
            }
        }
        return try RGB(width: width, height: rgb.height, data: data)
    }

    private static func resizeHeight(_ rgb: RGB, to height: Int) throws -> RGB {
        let taps = filterTaps(before: rgb.height, after: height)
        let row = 3 * rgb.width
        var data = [UInt8](repeating: 0, count: row * height)
        var sums = [Int](repeating: 0, count: row)
        rgb.data.withUnsafeBufferPointer { source in
            for y in 0..<height {
                for index in 0..<row {
                    sums[index] = half
                }
                for (tap, weight) in taps[y].weights.enumerated() {
                    let from = row * (taps[y].first + tap)
                    for index in 0..<row {
                        sums[index] += weight * Int(source[from + index])
                    }
                }
                for index in 0..<row {
                    data[row * y + index] = level(sums[index])
                }
            }
        }
        return try RGB(width: rgb.width, height: height, data: data)
    }

    private static func level(_ sum: Int) -> UInt8 {
        UInt8(min(sum >> 22, 255))
    }

    /// First input position of an output position, and its weights in units of 2^-22.
    private struct Taps {
        let first: Int
        let weights: [Int]
    }

    private static func filterTaps(before: Int, after: Int) -> [Taps] {
        let radius = max(before, after)
        let count = 2 * ((radius + after - 1) / after) + 1
        return (0..<after).map { position in
            let centre = (2 * position + 1) * before
            let start = floorDivided(centre - 2 * radius, by: 2 * after)
            let first = max(0, start)
            let heights = (first..<min(before, start + count)).map { x in
                max(0, 2 * radius - abs((2 * x + 1) * after - centre))
            }
            let sum = heights.reduce(0, +)
            return Taps(first: first, weights: heights.map { (($0 << 23) + sum) / (2 * sum) })
        }
    }

    private static func floorDivided(_ value: Int, by divisor: Int) -> Int {
        value >= 0 ? value / divisor : -((divisor - 1 - value) / divisor)
    }
}

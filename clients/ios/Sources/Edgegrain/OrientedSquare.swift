import CoreGraphics
import Foundation

/// A square at any angle in an upright picture, in quarters of a pixel, and its encoding: docs/payload.md, "Aligned
/// pictures". x runs right and y down from the picture's upper left corner. Not compiled so far: see README.md.
public struct OrientedSquare: Equatable, Sendable {
    /// Units of a coordinate per pixel.
    public static let units = 4
    /// Longest side, in multiples of the picture's longest side.
    public static let maxSideFactor = 4

    /// The centre.
    public let x: Int
    public let y: Int
    /// The upper edge, a vector from its left to its right end, as long as the square's side.
    public let acrossX: Int
    public let acrossY: Int

    public init(x: Int, y: Int, acrossX: Int, acrossY: Int) {
        self.x = x
        self.y = y
        self.acrossX = acrossX
        self.acrossY = acrossY
    }

    /// Rounds a centre and an upper edge in pixels; `EdgegrainError.payload` if they are out of range.
    init(nearest centre: CGPoint, across: CGPoint, width: Int, height: Int) throws {
        let numbers = [centre.x, centre.y, across.x, across.y].map {
            (Double(OrientedSquare.units) * Double($0)).rounded(.toNearestOrEven)
        }
        guard numbers.allSatisfy({ abs($0) < 1e8 }) else {
            throw EdgegrainError.payload("the square lies outside of the picture of \(width) x \(height)")
        }
        self.init(x: Int(numbers[0]), y: Int(numbers[1]), acrossX: Int(numbers[2]), acrossY: Int(numbers[3]))
        try check(width: width, height: height)
    }

    /// The side in pixels.
    public var side: Double {
        hypot(Double(acrossX), Double(acrossY)) / Double(OrientedSquare.units)
    }

    /// Throws `EdgegrainError.payload` if the centre is outside of the picture, or the side shorter than a pixel or
    /// longer than four times the picture's longest one.
    public func check(width: Int, height: Int) throws {
        let units = OrientedSquare.units
        guard (0...(units * width)).contains(x), (0...(units * height)).contains(y) else {
            throw EdgegrainError.payload(
                "the square's centre (\(Double(x) / 4), \(Double(y) / 4)) lies outside of the picture of "
                    + "\(width) x \(height)")
        }
        let longest = units * OrientedSquare.maxSideFactor * max(width, height)
        let edge = -longest...longest  // so that the squares do not overflow
        guard edge.contains(acrossX), edge.contains(acrossY),
            ((units * units)...(longest * longest)).contains(acrossX * acrossX + acrossY * acrossY)
        else {
            throw EdgegrainError.payload(
                "the square's upper edge (\(Double(acrossX) / 4), \(Double(acrossY) / 4)) must be 1 to "
                    + "\(longest / units) pixels long")
        }
    }

    var bytes: [UInt8] {
        [x, y, OrientedSquare.zigzag(acrossX), OrientedSquare.zigzag(acrossY)].flatMap { LEB128.bytes($0) }
    }

    /// Reads and checks a square of a picture of `width` x `height`.
    static func read(
        _ data: [UInt8], _ position: inout Int, end: Int, width: Int, height: Int
    ) throws -> OrientedSquare {
        let x = try LEB128.read(data, &position, end: end, name: "square's x")
        let y = try LEB128.read(data, &position, end: end, name: "square's y")
        let edge = try LEB128.read(data, &position, end: end, name: "square's edge")
        let slope = try LEB128.read(data, &position, end: end, name: "square's slope")
        let square = OrientedSquare(x: x, y: y, acrossX: unzigzag(edge), acrossY: unzigzag(slope))
        try square.check(width: width, height: height)
        return square
    }

    /// 0, -1, 1, -2 become 0, 1, 2, 3.
    private static func zigzag(_ value: Int) -> Int {
        value >= 0 ? 2 * value : -2 * value - 1
    }

    private static func unzigzag(_ code: Int) -> Int {
        code & 1 == 0 ? code >> 1 : -(code >> 1) - 1
    }
}

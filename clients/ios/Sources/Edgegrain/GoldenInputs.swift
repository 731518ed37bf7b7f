import CryptoKit
import Foundation

/// A bundle's golden.json: inputs any language can generate, and the SHA-256 of their LRs.
public struct GoldenInputs: Sendable {
    let hr: Int
    let inputs: [Input]

    struct Input: Decodable, Sendable {
        let name: String
        let kind: String
        let parameters: Parameters
        let lr_sha256: String
    }

    /// Which of them there are depends on the kind.
    struct Parameters: Decodable, Sendable {
        let colour: [Int]?
        let from: [Int]?
        let to: [Int]?
        let axis: String?
        let period: Int?
        let first: [Int]?
        let second: [Int]?
        let seed: UInt32?
        let block: Int?
        let low: Int?
        let high: Int?
    }

    private struct Source: Decodable {
        let hr: Int
        let inputs: [Input]
    }

    /// Reads golden.json; throws `EdgegrainError.bundle` if it is malformed.
    public init(json: Data) throws {
        do {
            let source = try JSONDecoder().decode(Source.self, from: json)
            hr = source.hr
            inputs = source.inputs
        } catch {
            throw EdgegrainError.bundle("the golden vectors cannot be read: \(error)")
        }
        guard !inputs.isEmpty, (2...4096).contains(hr) else {
            throw EdgegrainError.bundle("the golden vectors hold no inputs; fetch the bundle again")
        }
    }

    /// Runs every input; returns the names of those whose LR is another.
    public func check(_ encode: (RGB) throws -> RGB) throws -> [String] {
        try inputs.filter { try sha256(encode(GoldenInputs.picture($0, hr: hr)).data) != $0.lr_sha256 }.map(\.name)
    }

    /// The first `count` bytes of the linear congruential generator that every client shares.
    static func generatorBytes(seed: UInt32, count: Int) -> [UInt8] {
        var state = seed
        return (0..<count).map { _ in
            state = state &* 1_664_525 &+ 1_013_904_223
            return UInt8(state >> 24)
        }
    }

    /// One input of side `hr`, as edge_encoder/golden_inputs.py defines it.
    static func picture(_ input: Input, hr: Int) throws -> RGB {
        let level = try Self.level(input, hr: hr)
        var data: [UInt8] = []
        data.reserveCapacity(3 * hr * hr)
        for y in 0..<hr {
            for x in 0..<hr {
                for channel in 0..<3 {
                    data.append(UInt8(level(x, y, channel)))
                }
            }
        }
        return try RGB(width: hr, height: hr, data: data)
    }

    private typealias Level = (_ x: Int, _ y: Int, _ channel: Int) -> Int

    private static func level(_ input: Input, hr: Int) throws -> Level {
        let parameters = input.parameters
        switch input.kind {
        case "constant":
            let colour = try Self.colour(parameters.colour)
            return { _, _, channel in colour[channel] }
        case "gradient":
            let (from, to) = (try Self.colour(parameters.from), try Self.colour(parameters.to))
            let across = parameters.axis == "y" ? 0 : 1
            let down = parameters.axis == "x" ? 0 : 1
            let steps = (across + down) * (hr - 1)
            return { x, y, channel in
                let t = across * x + down * y
                return (from[channel] * (steps - t) + to[channel] * t + steps / 2) / steps
            }
        case "checkerboard":
            let (first, second) = (try Self.colour(parameters.first), try Self.colour(parameters.second))
            let period = try Self.whole(parameters.period, 1...4096)
            return { x, y, channel in ((x / period + y / period) % 2 == 0 ? first : second)[channel] }
        case "noise":
            let block = try Self.whole(parameters.block, 1...4096)
            let low = try Self.whole(parameters.low, 0...255)
            let span = try Self.whole(parameters.high, low...255) - low + 1
            let cells = (hr + block - 1) / block
            let values = generatorBytes(seed: parameters.seed ?? 0, count: 3 * cells * cells)
            return { x, y, channel in
                low + ((Int(values[3 * (cells * (y / block) + x / block) + channel]) * span) >> 8)
            }
        default:
            throw EdgegrainError.bundle("unknown kind of golden input \(input.kind); update this library")
        }
    }

    private static func colour(_ levels: [Int]?) throws -> [Int] {
        guard let levels, levels.count == 3, levels.allSatisfy({ (0...255).contains($0) }) else {
            throw EdgegrainError.bundle("a golden input has no colour of three levels")
        }
        return levels
    }

    private static func whole(_ value: Int?, _ range: ClosedRange<Int>) throws -> Int {
        guard let value, range.contains(value) else {
            throw EdgegrainError.bundle("a golden input has a number outside \(range)")
        }
        return value
    }
}

/// SHA-256, in hex.
func sha256(_ data: [UInt8]) -> String {
    SHA256.hash(data: data).map { hex($0) }.joined()
}

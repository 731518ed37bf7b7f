import Foundation

/// A bundle's coder.json: the three small integer networks of docs/lr_coder.md, checked before use.
public struct CoderTables: Sendable {
    /// Length of the context of a red, green and blue sample.
    static let contextSizes = [39, 40, 41]

    private static let format = "edgegrain coder tables 1"
    /// Of tables with a step above 1.
    private static let formatWithStep = "edgegrain coder tables 2"
    private static let maxStep = 64
    private static let activationMax = 4095
    private static let inputLimit = 255
    private static let accumulatorLimit = 1 << 30
    private static let maxWidth = 256
    private static let maxHiddenLayers = 4
    private static let maxShift = 24
    private static let maxBias = 1 << 30

    private let channels: [Network]
    /// Payloads store levels as multiples of it, 1 to 64.
    let step: Int

    /// Reads coder.json; throws `EdgegrainError.bundle` if a shape is wrong or an accumulator could leave 2^30.
    public init(json: Data) throws {
        let source: Source
        do {
            source = try JSONDecoder().decode(Source.self, from: json)
        } catch {
            throw EdgegrainError.bundle("coder tables cannot be read: \(error)")
        }
        let withStep = source.format == CoderTables.formatWithStep
        guard withStep || source.format == CoderTables.format, source.channels.count == 3 else {
            throw EdgegrainError.bundle(
                "coder tables must be of format \(CoderTables.format) or \(CoderTables.formatWithStep) "
                    + "and list three channels")
        }
        step = withStep ? source.step ?? 1 : 1
        guard !withStep || (2...CoderTables.maxStep).contains(step) else {
            throw EdgegrainError.bundle(
                "coder tables: the step of the levels must be an integer of 2 to \(CoderTables.maxStep)")
        }
        channels = try zip(source.channels, CoderTables.contextSizes).map { try Network($0, contextSize: $1) }
    }

    /// The LR as a payload stores it: levels rounded to multiples of the step, halves up.
    func rounded(_ lr: RGB) throws -> RGB {
        try RGB(width: lr.width, height: lr.height, data: levels(indices(lr.data)))
    }

    /// What the coder codes: levels divided by the step, halves rounded up.
    func indices(_ levels: [UInt8]) -> [UInt8] {
        levels.map { UInt8((Int($0) + step / 2) / step) }
    }

    /// The levels of coded indices; throws `EdgegrainError.payload` for an index that no level has.
    func levels(_ indices: [UInt8]) throws -> [UInt8] {
        guard indices.allSatisfy({ Int($0) <= (255 + step / 2) / step }) else {
            throw EdgegrainError.payload("the payload is corrupt: a level is above 255")
        }
        return indices.map { UInt8(min(Int($0) * step, 255)) }
    }

    /// Mean minus that of the reference, in sixteenths of a level, and scale index, both before clamping.
    func predict(channel: Int, context: [Int]) -> (mean: Int, scale: Int) {
        channels[channel].predict(context)
    }

    private struct Source: Decodable {
        let format: String
        let step: Int?
        let channels: [NetworkSource]
    }

    private struct NetworkSource: Decodable {
        let hidden: [LayerSource]
        let output: LayerSource
    }

    private struct LayerSource: Decodable {
        let bias: [Int]
        let shift: [Int]
        let weight: Data  // base64, as JSONDecoder reads it
    }

    private struct Network: Sendable {
        let hidden: [Layer]
        let output: Layer

        init(_ source: NetworkSource, contextSize: Int) throws {
            guard (1...CoderTables.maxHiddenLayers).contains(source.hidden.count) else {
                throw EdgegrainError.bundle(
                    "coder tables: 1 to \(CoderTables.maxHiddenLayers) hidden layers are allowed")
            }
            let context = [Int](repeating: CoderTables.inputLimit, count: contextSize)
            var limits = context
            var layers: [Layer] = []
            for layer in source.hidden {
                layers.append(try Layer(layer, limits: limits))
                limits = [Int](repeating: CoderTables.activationMax, count: layer.bias.count)
            }
            hidden = layers
            output = try Layer(source.output, limits: context + limits)
            guard output.bias.count == 2 else {
                throw EdgegrainError.bundle("coder tables: a network has two outputs, mean and scale")
            }
        }

        func predict(_ context: [Int]) -> (mean: Int, scale: Int) {
            var values = context
            for layer in hidden {
                values = layer.accumulate(values).map { min(max($0, 0), CoderTables.activationMax) }
            }
            let result = output.accumulate(context + values)
            return (result[0], result[1])
        }
    }

    private struct Layer: Sendable {
        let inputs: Int
        /// Row by row, a row an output.
        let weight: [Int8]
        /// With the rounding half added.
        let bias: [Int]
        let shift: [Int]

        /// A layer whose inputs have at most the magnitudes `limits`.
        init(_ source: LayerSource, limits: [Int]) throws {
            let outputs = source.bias.count
            let weights = source.weight.map { Int8(bitPattern: $0) }
            guard (1...CoderTables.maxWidth).contains(outputs), source.shift.count == outputs,
                weights.count == limits.count * outputs, !weights.contains(-128),
                source.bias.allSatisfy({ (-CoderTables.maxBias...CoderTables.maxBias).contains($0) }),
                source.shift.allSatisfy({ (0...CoderTables.maxShift).contains($0) })
            else {
                throw EdgegrainError.bundle(
                    "coder tables: a layer of \(outputs) outputs and \(limits.count) inputs has other numbers of "
                        + "weights or shifts, or one out of range")
            }
            for output in 0..<outputs {
                var bound = abs(source.bias[output]) + (1 << source.shift[output])
                for (input, limit) in limits.enumerated() {
                    bound += abs(Int(weights[output * limits.count + input])) * limit
                }
                guard bound < CoderTables.accumulatorLimit else {
                    throw EdgegrainError.bundle(
                        "coder tables: a sum can reach \(bound), the limit is \(CoderTables.accumulatorLimit)")
                }
            }
            inputs = limits.count
            weight = weights
            bias = zip(source.bias, source.shift).map { $0 + ((1 << $1) >> 1) }
            shift = source.shift
        }

        func accumulate(_ values: [Int]) -> [Int] {
            bias.indices.map { output in
                var sum = bias[output]
                let row = output * inputs
                for input in 0..<inputs {
                    sum += Int(weight[row + input]) * values[input]
                }
                return sum >> shift[output]
            }
        }
    }
}

/// The lossless coder of an LR, docs/lr_coder.md: a prediction from earlier samples, then eight binary decisions.
///
/// Encoder and decoder are one walk over the samples; only the coder they are given differs.
public enum LRCoder {
    /// Codes an LR into a body, with its levels rounded to multiples of the step.
    public static func encode(_ lr: RGB, tables: CoderTables) -> [UInt8] {
        var encoder = RangeEncoder()
        var walk = Walk(width: lr.width, height: lr.height)
        walk.codeSamples(&encoder, levels: tables.indices(lr.data), tables: tables)
        return encoder.finish()
    }

    /// The LR that `encode` turned into `body`; throws `EdgegrainError.payload` if there is none, or if a side is not 1
    /// to 256.
    public static func decode(_ body: [UInt8], width: Int, height: Int, tables: CoderTables) throws -> RGB {
        let sides = 1...Payload.maxLRSide
        guard sides.contains(width), sides.contains(height) else {
            throw EdgegrainError.payload("an LR has sides of 1 to \(Payload.maxLRSide), got \(width) x \(height)")
        }
        var decoder = RangeDecoder(body)
        var walk = Walk(width: width, height: height)
        walk.codeSamples(&decoder, levels: [UInt8](repeating: 0, count: 3 * width * height), tables: tables)
        try decoder.finish()
        return try RGB(width: width, height: height, data: tables.levels(walk.coded))
    }
}

private struct Walk {
    /// (dx, dy) of the earlier pixels around one; the first is the left one, the second the upper one.
    private static let neighbours = [
        (-1, 0), (0, -1), (-1, -1), (1, -1), (-2, 0), (0, -2), (-2, -1), (2, -1), (-1, -2), (1, -2),
    ]
    private static let slant = 3
    private static let middle = 128

    /// round(2^20 / (1 + e^(-i/8))), i = 0...96; the last one twice, for interpolation.
    private static let sigmoid: [Int] = [
        524288, 557013, 589485, 621456, 652696, 682995, 712170, 740069, 766570, 791586, 815058, 836959, 857289,
        876068, 893337, 909153, 923583, 936703, 948595, 959343, 969033, 977748, 985571, 992579, 998846, 1004444,
        1009436, 1013883, 1017840, 1021358, 1024482, 1027256, 1029716, 1031897, 1033829, 1035540, 1037055,
        1038396, 1039582, 1040631, 1041558, 1042378, 1043102, 1043743, 1044308, 1044808, 1045249, 1045639,
        1045983, 1046287, 1046556, 1046793, 1047002, 1047187, 1047350, 1047494, 1047621, 1047733, 1047832,
        1047919, 1047996, 1048064, 1048125, 1048178, 1048224, 1048266, 1048302, 1048334, 1048363, 1048388,
        1048410, 1048429, 1048447, 1048462, 1048475, 1048487, 1048498, 1048507, 1048515, 1048522, 1048528,
        1048534, 1048539, 1048543, 1048547, 1048551, 1048554, 1048556, 1048558, 1048561, 1048562, 1048564,
        1048565, 1048567, 1048568, 1048569, 1048570, 1048570,
    ]
    /// round(2^16 * 2^(-i/8)), i = 0...7.
    private static let eighthOctaves = [65536, 60097, 55109, 50535, 46341, 42495, 38968, 35734]

    let width: Int
    let height: Int
    private(set) var coded: [UInt8]

    init(width: Int, height: Int) {
        self.width = width
        self.height = height
        coded = [UInt8](repeating: 0, count: 3 * width * height)
    }

    /// Encodes `levels`, or decodes some, whatever they hold; `coded` has them afterwards.
    mutating func codeSamples<Coder: BitCoder>(_ coder: inout Coder, levels: [UInt8], tables: CoderTables) {
        for line in 0...(width - 1 + Walk.slant * (height - 1)) {
            let top = max(0, (line - width + Walk.slant) / Walk.slant)
            let bottom = min(height - 1, line / Walk.slant)
            guard top <= bottom else { continue }
            for channel in 0..<3 {
                for y in top...bottom {
                    let x = line - Walk.slant * y
                    let (context, reference) = readContext(x: x, y: y, channel: channel)
                    let prediction = tables.predict(channel: channel, context: context)
                    let mean = min(max(16 * reference + prediction.mean, 0), 4080)
                    let scale = min(max(prediction.scale, 0), 63)
                    let at = 3 * (width * y + x) + channel
                    coded[at] = UInt8(Walk.codeLevel(&coder, mean: mean, scale: scale, level: Int(levels[at])))
                }
            }
        }
    }

    /// The context of a sample and its reference.
    private func readContext(x: Int, y: Int, channel: Int) -> ([Int], Int) {
        let here = width * y + x
        let west = x > 0 ? here - 1 : y > 0 ? here - width : -1
        var context: [Int] = []
        context.reserveCapacity(CoderTables.contextSizes[channel])
        for (dx, dy) in Walk.neighbours {
            let near = max(y + dy, 0) * width + min(max(x + dx, 0), width - 1)
            let pixel = near < here ? near : west
            for other in 0..<3 {
                context.append(pixel < 0 ? Walk.middle : Int(coded[3 * pixel + other]))
            }
        }
        let reference = (context[channel] + context[3 + channel] + 1) >> 1
        for before in 0..<channel {
            context.append(Int(coded[3 * here + before]))
        }
        for index in context.indices {
            context[index] -= reference
        }
        let u = (2 * x + 1) * 128 / width - 128
        let v = (2 * y + 1) * 128 / height - 128
        context += [reference - Walk.middle, u, v, (u * u) >> 7, (v * v) >> 7, (u * v) >> 7]
        context += [y == 0 ? 128 : 0, x == 0 ? 128 : 0, x == width - 1 ? 128 : 0]
        return (context, reference)
    }

    /// Encodes `level`, or decodes and returns one, by halving 0...255 eight times.
    private static func codeLevel<Coder: BitCoder>(_ coder: inout Coder, mean: Int, scale: Int, level: Int) -> Int {
        var low = 0
        var belowLow = massBelow(0, mean: mean, scale: scale)
        var belowHigh = massBelow(256, mean: mean, scale: scale)
        var size = 128
        while size > 0 {
            let middle = low + size
            let belowMiddle = massBelow(middle, mean: mean, scale: scale)
            let probability = ((belowHigh - belowMiddle) << 16) / (belowHigh - belowLow)
            if coder.code(level >= middle, probability: min(max(probability, 1), 65535)) {
                low = middle
                belowLow = belowMiddle
            } else {
                belowHigh = belowMiddle
            }
            size >>= 1
        }
        return low
    }

    /// C(v): the mass of the levels below `level`, in parts of 2^20, and one part a level.
    private static func massBelow(_ level: Int, mean: Int, scale: Int) -> Int {
        let distance = 16 * level - 8 - mean
        let product = abs(distance) * eighthOctaves[scale & 7]
        let argument = min(product >> (6 + (scale >> 3)), 96 * 512)
        let index = argument >> 9
        let mass = sigmoid[index] + (((sigmoid[index + 1] - sigmoid[index]) * (argument & 511)) >> 9)
        return (distance >= 0 ? mass : (1 << 20) - mass) + level
    }
}

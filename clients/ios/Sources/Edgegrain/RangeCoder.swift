/// Encoder and decoder alike: one decision with a probability p / 2^16 of being true, p from 1 to 65535.
protocol BitCoder {
    mutating func code(_ bit: Bool, probability: Int) -> Bool
}

/// The interval of the range coder of docs/lr_coder.md, and how decisions split it.
private struct Interval {
    private(set) var low: UInt32 = 0
    private(set) var high: UInt32 = .max

    func split(_ probability: Int) -> UInt32 {
        low + UInt32((UInt64(high - low) * UInt64(probability)) >> 16)
    }

    mutating func narrow(_ bit: Bool, at split: UInt32) {
        if bit {
            high = split
        } else {
            low = split + 1
        }
    }

    /// The top byte that both ends share, which leaves the interval; nil if they differ.
    mutating func shift() -> UInt8? {
        guard low >> 24 == high >> 24 else { return nil }
        let top = UInt8(high >> 24)
        low <<= 8
        high = high << 8 | 255
        return top
    }

    /// What was shifted out, then the shortest, then smallest, ending in the interval; without zeros at the end.
    func ended(_ settled: [UInt8]) -> [UInt8] {
        var body = settled
        for length in 0...4 {
            let unit = UInt64(1) << UInt64(32 - 8 * length)
            let value = (UInt64(low) + unit - 1) / unit * unit
            if value <= UInt64(high) {
                for index in 0..<length {
                    body.append(UInt8(truncatingIfNeeded: value >> UInt64(24 - 8 * index)))
                }
                break
            }
        }
        while body.last == 0 {
            body.removeLast()
        }
        return body
    }
}

/// Collects decisions; `finish` returns the body.
struct RangeEncoder: BitCoder {
    private var interval = Interval()
    private var output: [UInt8] = []

    mutating func code(_ bit: Bool, probability: Int) -> Bool {
        interval.narrow(bit, at: interval.split(probability))
        while let top = interval.shift() {
            output.append(top)
        }
        return bit
    }

    func finish() -> [UInt8] {
        interval.ended(output)
    }
}

/// Reads decisions back, in the order and with the probabilities they were written.
struct RangeDecoder: BitCoder {
    private var interval = Interval()
    private let body: [UInt8]
    private var value: UInt32 = 0
    private var position = 0

    init(_ body: [UInt8]) {
        self.body = body
        for _ in 0..<4 {
            next()
        }
    }

    /// The next decision, whatever `bit` is.
    mutating func code(_ bit: Bool, probability: Int) -> Bool {
        let split = interval.split(probability)
        let decision = value <= split
        interval.narrow(decision, at: split)
        while interval.shift() != nil {
            next()
        }
        return decision
    }

    /// Throws `EdgegrainError.payload` unless the body is the one and only body of the decisions read.
    func finish() throws {
        let settled = (0..<(position - 4)).map { $0 < body.count ? body[$0] : 0 }
        guard interval.ended(settled) == body else {
            throw EdgegrainError.payload(
                "the coded body of \(body.count) bytes does not end as an encoder would have ended it; "
                    + "it is corrupt or was written with other coder tables")
        }
    }

    /// Behind the body come zeros.
    private mutating func next() {
        value = value << 8 | UInt32(position < body.count ? body[position] : 0)
        position += 1
    }
}

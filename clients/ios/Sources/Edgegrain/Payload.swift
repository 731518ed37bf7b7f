import Foundation

/// What a payload says about itself; every field was checked against its range.
public struct Header: Equatable, Sendable {
    /// 0: the LR's bytes; 1: the range coder.
    public let coding: Int
    /// The first four bytes of the LR contract id, in hex.
    public let contract: String
    public let lrWidth: Int
    public let lrHeight: Int
    public let originalWidth: Int
    public let originalHeight: Int
    public let fit: Fit
    /// The square that was cut out of the original; nil unless the fit is `align`.
    public let square: OrientedSquare?
}

/// The payload, docs/payload.md: what a picture becomes on the wire.
public struct Payload: Equatable, Sendable {
    public static let maxLRSide = 256
    public static let maxOriginalSide = 65535
    public static let maxOriginalPixels = 1 << 28

    private static let magic: [UInt8] = [0xed, 0x6e]
    private static let version = 1
    private static let fixedBytes = 8
    static let crcBytes = 4
    private static let explicitSize = 15
    static let lengths = 14...196_640

    /// What to send or store.
    public let bytes: [UInt8]
    public let header: Header
    private let body: [UInt8]

    /// Packs an LR with sides of 1 to 256; `EdgegrainError.payload` for what the format cannot say.
    ///
    /// - Parameters:
    ///   - contractId: 64 hex digits, or the first eight.
    ///   - originalSize: width and height before fitting, in pixels.
    ///   - square: the square that was cut out of the original; required with the fit `align`, not allowed otherwise.
    ///   - coding: 1 for the range coder (a body that it cannot shorten is stored raw), 0 for raw bytes.
    public init(
        lr: RGB, contractId: String, tables: CoderTables, originalSize: (width: Int, height: Int), fit: Fit,
        square: OrientedSquare? = nil, coding: Int = 1
    ) throws {
        guard max(lr.width, lr.height) <= Payload.maxLRSide else {
            throw EdgegrainError.payload(
                "an LR has sides of 1 to \(Payload.maxLRSide), got \(lr.width) x \(lr.height)")
        }
        guard [8, 64].contains(contractId.count), let contract = bytesOf(hex: String(contractId.prefix(8))) else {
            throw EdgegrainError.payload("a contract id has 64 hex digits, or 8 for its beginning, got \(contractId)")
        }
        guard (0...1).contains(coding) else {
            throw EdgegrainError.payload("unknown coding \(coding), expected 0 (raw) or 1 (range coder)")
        }
        try Payload.checkOriginal(originalSize.width, originalSize.height)
        guard (fit == .align) == (square != nil) else {
            throw EdgegrainError.payload("the fit align needs a square, no other fit has one")
        }
        try square?.check(width: originalSize.width, height: originalSize.height)
        var body = try tables.rounded(lr).data
        var used = 0
        if coding == 1 {
            let coded = LRCoder.encode(lr, tables: tables)
            if coded.count < body.count {
                body = coded
                used = 1
            }
        }
        let sizeCode = Payload.lrSizeCode(lr.width, lr.height)
        var data = Payload.magic + [UInt8(Payload.version << 4 | used)] + contract
        data.append(UInt8(fit.rawValue | sizeCode << 2))
        if sizeCode == Payload.explicitSize {
            data += [UInt8(lr.width - 1), UInt8(lr.height - 1)]
        }
        data += LEB128.bytes(originalSize.width) + LEB128.bytes(originalSize.height) + (square?.bytes ?? []) + body
        try self.init(Payload.withCRC(data))
    }

    /// Checks length, CRC and every claim of received bytes; else throws `EdgegrainError.payload`.
    public init(_ data: [UInt8]) throws {
        guard Payload.lengths.contains(data.count) else {
            throw EdgegrainError.payload("a payload has \(Payload.lengths) bytes, got \(data.count)")
        }
        guard Array(data[0..<2]) == Payload.magic else {
            throw EdgegrainError.payload("not a payload: its first bytes are others")
        }
        guard !FaceScene.isScene(data) else {
            throw EdgegrainError.payload(
                "this is a scene of several faces, not the payload of one picture; use FaceScene(data)")
        }
        guard data[2] >> 4 == UInt8(Payload.version) else {
            throw EdgegrainError.payload("payload version \(data[2] >> 4) is unknown, this release reads 1")
        }
        let end = try Payload.checkCRC(data)
        let (header, position) = try Payload.readHeader(data, end: end)
        let body = Array(data[position..<end])
        let raw = 3 * header.lrWidth * header.lrHeight
        guard header.coding == 0 ? body.count == raw : body.count < raw else {
            throw EdgegrainError.payload(
                "a body of coding \(header.coding) has \(header.coding == 0 ? "" : "fewer than ")\(raw) bytes, "
                    + "this one \(body.count)")
        }
        self.header = header
        self.body = body
        bytes = data
    }

    /// The LR; throws `EdgegrainError.payload` if the payload is of another contract or its body is corrupt.
    public func lr(contractId: String, tables: CoderTables) throws -> RGB {
        guard contractId.hasPrefix(header.contract) else {
            throw EdgegrainError.payload(
                "the payload was made under LR contract \(header.contract), available: \(contractId.prefix(8))")
        }
        if header.coding == 0 {
            let lr = try RGB(width: header.lrWidth, height: header.lrHeight, data: body)
            guard try tables.rounded(lr) == lr else {
                throw EdgegrainError.payload(
                    "the payload is corrupt: its LR has levels between the steps of its contract")
            }
            return lr
        }
        return try LRCoder.decode(body, width: header.lrWidth, height: header.lrHeight, tables: tables)
    }

    /// The header and where the body begins.
    private static func readHeader(_ data: [UInt8], end: Int) throws -> (Header, Int) {
        let coding = Int(data[2] & 15)
        guard coding <= 1 else {
            throw EdgegrainError.payload("payload coding \(coding) is not read here, only 0 (raw) and 1 (range coder)")
        }
        let flags = Int(data[7])
        guard flags >> 6 == 0 else {
            throw EdgegrainError.payload("reserved flag bits are set; a newer edgegrain may read this")
        }
        guard let fit = Fit(rawValue: flags & 3) else {
            throw EdgegrainError.payload("the fit \(flags & 3) is unknown")
        }
        var position = fixedBytes
        let sizeCode = flags >> 2 & 15
        var lrWidth = 1 << sizeCode
        var lrHeight = lrWidth
        if sizeCode == explicitSize {
            lrWidth = Int(data[position]) + 1
            lrHeight = Int(data[position + 1]) + 1
            position += 2
            guard lrSizeCode(lrWidth, lrHeight) == explicitSize else {
                throw EdgegrainError.payload("the LR size \(lrWidth) x \(lrHeight) has a code that was not used")
            }
        } else if sizeCode > 8 {
            throw EdgegrainError.payload("LR size code \(sizeCode) is not read here, only 0 to 8 and 15")
        }
        let width = try LEB128.read(data, &position, end: end, name: "original width")
        let height = try LEB128.read(data, &position, end: end, name: "original height")
        try checkOriginal(width, height)
        let square = fit == .align
            ? try OrientedSquare.read(data, &position, end: end, width: width, height: height) : nil
        let contract = data[3..<7].map { hex($0) }.joined()
        let header = Header(
            coding: coding, contract: contract, lrWidth: lrWidth, lrHeight: lrHeight, originalWidth: width,
            originalHeight: height, fit: fit, square: square)
        return (header, position)
    }

    /// The bytes with their CRC-32 behind them.
    static func withCRC(_ data: [UInt8]) -> [UInt8] {
        let crc = crc32(data[...])
        return data + (0..<4).map { UInt8(truncatingIfNeeded: crc >> UInt32(8 * $0)) }
    }

    /// Where the CRC-32 begins, after it was checked.
    static func checkCRC(_ data: [UInt8]) throws -> Int {
        let end = data.count - crcBytes
        let stored = (0..<4).reduce(UInt32(0)) { $0 | UInt32(data[end + $1]) << UInt32(8 * $1) }
        guard stored == crc32(data[..<end]) else {
            throw EdgegrainError.payload("the payload is corrupt or truncated (CRC-32)")
        }
        return end
    }

    static func checkOriginal(_ width: Int, _ height: Int) throws {
        guard min(width, height) >= 1, max(width, height) <= maxOriginalSide, width * height <= maxOriginalPixels else {
            throw EdgegrainError.payload(
                "an original has sides of 1 to \(maxOriginalSide) and at most \(maxOriginalPixels) pixels, got "
                    + "\(width) x \(height)")
        }
    }

    private static func lrSizeCode(_ width: Int, _ height: Int) -> Int {
        width == height && width.nonzeroBitCount == 1 ? width.trailingZeroBitCount : explicitSize
    }
}

/// CRC-32 of zlib and PNG.
func crc32(_ data: ArraySlice<UInt8>) -> UInt32 {
    var crc = UInt32.max
    for byte in data {
        crc ^= UInt32(byte)
        for _ in 0..<8 {
            crc = crc >> 1 ^ (crc & 1 == 1 ? 0xedb8_8320 : 0)
        }
    }
    return ~crc
}

/// Two lower-case digits.
func hex(_ byte: UInt8) -> String {
    let digits = String(byte, radix: 16)
    return byte < 16 ? "0" + digits : digits
}

/// The bytes that lower-case digits stand for; nil if they are none.
func bytesOf(hex text: String) -> [UInt8]? {
    let digits = Array(text.utf8)
    guard digits.count % 2 == 0, digits.allSatisfy({ "0123456789abcdef".utf8.contains($0) }) else { return nil }
    return stride(from: 0, to: digits.count, by: 2).compactMap { index in
        UInt8(String(decoding: digits[index..<(index + 2)], as: UTF8.self), radix: 16)
    }
}

import Foundation

/// What a payload says about itself; every field was checked against its range.
public struct Header: Equatable, Sendable {
    /// 1 or 2.
    public let version: Int
    /// 0: the LR's bytes; 1: the range coder.
    public let coding: Int
    /// The first bytes of the LR contract id, in hex: four in version 1, two in version 2.
    public let contract: String
    public let lrWidth: Int
    public let lrHeight: Int
    public let originalWidth: Int
    public let originalHeight: Int
    public let fit: Fit
    /// The square that was cut out of the original; nil unless the fit is `align`.
    public let square: OrientedSquare?
}

/// The payload, docs/payload.md: what a picture becomes on the wire. Version 2 is written, 1 and 2 are read.
public struct Payload: Equatable, Sendable {
    public static let maxLRSide = 256
    public static let maxOriginalSide = 65535
    public static let maxOriginalPixels = 1 << 28

    /// The first byte of version 2 with an LR of 16 x 16; the next three are of 32, 64 and 128.
    private static let smallestLR: UInt8 = 0xa8
    /// The first byte of version 2 with an LR of another size, which follows.
    private static let explicitLR: UInt8 = 0xac
    private static let fixedBytes = 4
    private static let crcBytes = 3
    private static let originalFollows = 1 << 4
    /// Side of an original whose size is left out.
    private static let usualSide = 256
    private static let magic1: [UInt8] = [0xed, 0x6e]
    private static let fixedBytes1 = 8
    private static let crcBytes1 = 4
    private static let minBytes1 = 14
    private static let explicitSize1 = 15
    static let maxBytes = 196_640

    /// What to send or store.
    public let bytes: [UInt8]
    public let header: Header
    private let body: [UInt8]

    /// Packs an LR with sides of 1 to 256; `EdgegrainError.payload` for what the format cannot say.
    ///
    /// - Parameters:
    ///   - contractId: 64 hex digits, or the first four.
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
        guard [4, 64].contains(contractId.count), let contract = bytesOf(hex: String(contractId.prefix(4))) else {
            throw EdgegrainError.payload("a contract id has 64 hex digits, or 4 for its beginning, got \(contractId)")
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
        let first = Payload.firstByte(lr.width, lr.height)
        let usual = originalSize == (Payload.usualSide, Payload.usualSide)
        var data = [first] + contract
        data.append(UInt8(fit.rawValue | used << 2 | (usual ? 0 : Payload.originalFollows)))
        if first == Payload.explicitLR {
            data += LEB128.bytes(lr.width) + LEB128.bytes(lr.height)
        }
        if !usual {
            data += LEB128.bytes(originalSize.width) + LEB128.bytes(originalSize.height)
        }
        data += (square?.bytes ?? []) + body
        try self.init(Payload.withCRC(data, bytes: Payload.crcBytes))
    }

    /// Checks length, CRC and every claim of received bytes; else throws `EdgegrainError.payload`.
    public init(_ data: [UInt8]) throws {
        let compact = data.first.map { (Payload.smallestLR...Payload.explicitLR).contains($0) } ?? false
        let least = compact ? Payload.fixedBytes + Payload.crcBytes : Payload.minBytes1
        guard (least...Payload.maxBytes).contains(data.count) else {
            throw EdgegrainError.payload("a payload has \(least) to \(Payload.maxBytes) bytes, got \(data.count)")
        }
        if !compact {
            try Payload.checkVersion1(data)
        }
        let end = try Payload.checkCRC(data, bytes: compact ? Payload.crcBytes : Payload.crcBytes1)
        let (header, position) =
            try compact ? Payload.readHeader(data, end: end) : Payload.readHeader1(data, end: end)
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

    /// The LR; throws `EdgegrainError.payload` if no rate of the bundle has this contract, or the body is corrupt.
    public func lr(_ bundle: EdgeBundle) throws -> RGB {
        let rate = try bundle.rate(of: header)
        return try lr(contractId: rate.contractId, tables: rate.tables)
    }

    /// As `lr(_:)`, of one LR contract.
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

    /// The header of version 2 and where the body begins.
    private static func readHeader(_ data: [UInt8], end: Int) throws -> (Header, Int) {
        let flags = Int(data[3])
        guard flags >> 5 == 0 else {
            throw EdgegrainError.payload("reserved flag bits are set; a newer edgegrain may read this")
        }
        var position = fixedBytes
        var lrWidth = 16 << Int(data[0] - smallestLR)
        var lrHeight = lrWidth
        if data[0] == explicitLR {
            lrWidth = try LEB128.read(data, &position, end: end, name: "LR width")
            lrHeight = try LEB128.read(data, &position, end: end, name: "LR height")
            try checkLRSize(lrWidth, lrHeight)
        }
        var originalSize = (width: usualSide, height: usualSide)
        if flags & originalFollows != 0 {
            originalSize = try readOriginal(data, &position, end: end)
            guard originalSize != (usualSide, usualSide) else {
                throw EdgegrainError.payload("the original size 256 x 256 is written out, which is not allowed")
            }
        }
        return try readSquare(
            data, position, end: end, version: 2, coding: flags >> 2 & 3, contract: data[1..<3],
            lrSize: (lrWidth, lrHeight), originalSize: originalSize, fitCode: flags & 3)
    }

    /// Throws `EdgegrainError.payload` for bytes that do not begin as a payload of version 1.
    private static func checkVersion1(_ data: [UInt8]) throws {
        guard Array(data[0..<2]) == magic1 else {
            throw EdgegrainError.payload("not a payload: its first bytes are others")
        }
        guard !FaceScene.isScene(data) else {
            throw EdgegrainError.payload(
                "this is a scene of several faces, not the payload of one picture; use FaceScene(data)")
        }
        guard data[2] >> 4 == 1 else {
            throw EdgegrainError.payload("payload version \(data[2] >> 4) is unknown, this release reads 1 and 2")
        }
    }

    /// As `readHeader`, of version 1.
    private static func readHeader1(_ data: [UInt8], end: Int) throws -> (Header, Int) {
        let flags = Int(data[7])
        guard flags >> 6 == 0 else {
            throw EdgegrainError.payload("reserved flag bits are set; a newer edgegrain may read this")
        }
        var position = fixedBytes1
        let sizeCode = flags >> 2 & 15
        var lrSize = (width: 1 << sizeCode, height: 1 << sizeCode)
        if sizeCode == explicitSize1 {
            lrSize = (Int(data[position]) + 1, Int(data[position + 1]) + 1)
            position += 2
            guard lrSize.width != lrSize.height || lrSize.width.nonzeroBitCount != 1 else {
                throw EdgegrainError.payload(
                    "the LR size \(lrSize.width) x \(lrSize.height) has a code that was not used")
            }
        } else if sizeCode > 8 {
            throw EdgegrainError.payload("LR size code \(sizeCode) is not read here, only 0 to 8 and 15")
        }
        let originalSize = try readOriginal(data, &position, end: end)
        return try readSquare(
            data, position, end: end, version: 1, coding: Int(data[2] & 15), contract: data[3..<7], lrSize: lrSize,
            originalSize: originalSize, fitCode: flags & 3)
    }

    /// Reads the square, which ends the header of both versions.
    private static func readSquare(
        _ data: [UInt8], _ start: Int, end: Int, version: Int, coding: Int, contract: ArraySlice<UInt8>,
        lrSize: (width: Int, height: Int), originalSize: (width: Int, height: Int), fitCode: Int
    ) throws -> (Header, Int) {
        guard coding <= 1 else {
            throw EdgegrainError.payload("payload coding \(coding) is not read here, only 0 (raw) and 1 (range coder)")
        }
        guard let fit = Fit(rawValue: fitCode) else {
            throw EdgegrainError.payload("the fit \(fitCode) is unknown")
        }
        var position = start
        let square = fit == .align
            ? try OrientedSquare.read(
                data, &position, end: end, width: originalSize.width, height: originalSize.height) : nil
        let header = Header(
            version: version, coding: coding, contract: contract.map { hex($0) }.joined(), lrWidth: lrSize.width,
            lrHeight: lrSize.height, originalWidth: originalSize.width, originalHeight: originalSize.height, fit: fit,
            square: square)
        return (header, position)
    }

    private static func checkLRSize(_ width: Int, _ height: Int) throws {
        guard max(width, height) <= maxLRSide else {
            throw EdgegrainError.payload(
                "an LR of \(width) x \(height) is not read here, only sides up to \(maxLRSide)")
        }
        guard min(width, height) >= 1 else {
            throw EdgegrainError.payload("an LR has sides of at least 1, got \(width) x \(height)")
        }
        guard firstByte(width, height) == explicitLR else {
            throw EdgegrainError.payload("the LR size \(width) x \(height) has a code that was not used")
        }
    }

    private static func readOriginal(
        _ data: [UInt8], _ position: inout Int, end: Int
    ) throws -> (width: Int, height: Int) {
        let width = try LEB128.read(data, &position, end: end, name: "original width")
        let height = try LEB128.read(data, &position, end: end, name: "original height")
        try checkOriginal(width, height)
        return (width, height)
    }

    /// The bytes with the low bytes of their CRC-32 behind them.
    static func withCRC(_ data: [UInt8], bytes: Int) -> [UInt8] {
        data + crc(of: data[...], bytes: bytes)
    }

    /// Where the CRC-32 begins, after it was checked.
    static func checkCRC(_ data: [UInt8], bytes: Int) throws -> Int {
        let end = data.count - bytes
        guard Array(data[end...]) == crc(of: data[..<end], bytes: bytes) else {
            throw EdgegrainError.payload("the payload is corrupt or truncated (CRC-32)")
        }
        return end
    }

    private static func crc(of data: ArraySlice<UInt8>, bytes: Int) -> [UInt8] {
        let crc = crc32(data)
        return (0..<bytes).map { UInt8(truncatingIfNeeded: crc >> UInt32(8 * $0)) }
    }

    static func checkOriginal(_ width: Int, _ height: Int) throws {
        guard min(width, height) >= 1, max(width, height) <= maxOriginalSide, width * height <= maxOriginalPixels else {
            throw EdgegrainError.payload(
                "an original has sides of 1 to \(maxOriginalSide) and at most \(maxOriginalPixels) pixels, got "
                    + "\(width) x \(height)")
        }
    }

    /// Of a payload of version 2 with this LR.
    private static func firstByte(_ width: Int, _ height: Int) -> UInt8 {
        let coded = width == height && width.nonzeroBitCount == 1 && (16...128).contains(width)
        return coded ? smallestLR + UInt8(width.trailingZeroBitCount - 4) : explicitLR
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

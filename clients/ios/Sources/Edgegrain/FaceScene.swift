/// A photograph with all its faces, docs/payload.md, "Scenes": their payloads and a background, in one file. SwiftUI
/// has a type `Scene` already. Not compiled so far: see README.md.
public struct FaceScene: Equatable, Sendable {
    public static let maxFaces = 64
    public static let maxBytes = 1 << 20
    /// Longest side of a background, in pixels.
    public static let maxBackgroundSide = 1024

    private static let version: UInt8 = 2
    private static let fixedBytes = 4
    private static let crcBytes = 4

    /// What to send or store.
    public let bytes: [UInt8]
    /// Size of the photograph.
    public let originalWidth: Int
    public let originalHeight: Int
    /// The largest first; all have a square of this photograph and the same LR contract.
    public let faces: [Payload]
    private let background: [UInt8]

    /// Packs payloads of aligned faces of one photograph; `EdgegrainError.payload` if they are no scene.
    ///
    /// - Parameters:
    ///   - faces: the largest first.
    ///   - backgroundWebP: a lossy WebP file without alpha, with sides of at most 1,024 pixels; nil for no background.
    ///     Image I/O reads WebP and does not write it.
    public init(
        faces: [Payload], originalSize: (width: Int, height: Int), backgroundWebP: [UInt8]? = nil
    ) throws {
        let frame = try backgroundWebP.map { try WebPFile.frame($0) } ?? []
        var data: [UInt8] = [0xed, 0x6e, FaceScene.version << 4 | (frame.isEmpty ? 0 : 1), UInt8(min(faces.count, 255))]
        try Payload.checkOriginal(originalSize.width, originalSize.height)
        data += LEB128.bytes(originalSize.width) + LEB128.bytes(originalSize.height)
        for face in faces {
            data += LEB128.bytes(face.bytes.count) + face.bytes
        }
        try self.init(Payload.withCRC(data + frame, bytes: FaceScene.crcBytes))
    }

    /// True for bytes that begin as a scene does.
    public static func isScene(_ data: [UInt8]) -> Bool {
        data.count > 2 && data[0] == 0xed && data[1] == 0x6e && data[2] >> 4 == version
    }

    /// Checks length, CRC and every claim of received bytes; else throws `EdgegrainError.payload`.
    public init(_ data: [UInt8]) throws {
        guard data.count <= FaceScene.maxBytes else {
            throw EdgegrainError.payload("a scene has at most \(FaceScene.maxBytes) bytes, got \(data.count)")
        }
        guard FaceScene.isScene(data), data.count >= FaceScene.fixedBytes + FaceScene.crcBytes else {
            throw EdgegrainError.payload("not a scene: it begins in another way, or is too short")
        }
        let end = try Payload.checkCRC(data, bytes: FaceScene.crcBytes)
        let coding = data[2] & 15
        let count = Int(data[3])
        guard coding <= 1 else {
            throw EdgegrainError.payload("the background's coding \(coding) is unknown, expected 0 (none) or 1 (VP8)")
        }
        guard (1...FaceScene.maxFaces).contains(count) else {
            throw EdgegrainError.payload("a scene has 1 to \(FaceScene.maxFaces) faces, got \(count)")
        }
        var position = FaceScene.fixedBytes
        let width = try LEB128.read(data, &position, end: end, name: "original width")
        let height = try LEB128.read(data, &position, end: end, name: "original height")
        try Payload.checkOriginal(width, height)
        var faces: [Payload] = []
        for index in 0..<count {
            let length = try LEB128.read(data, &position, end: end, name: "length of face \(index)")
            guard length <= min(end - position, Payload.maxBytes) else {
                throw EdgegrainError.payload(
                    "face \(index) of the scene claims \(length) bytes, \(end - position) are left")
            }
            let face = try Payload(Array(data[position..<(position + length)]))
            position += length
            let header = face.header
            guard header.square != nil, header.originalWidth == width, header.originalHeight == height else {
                throw EdgegrainError.payload(
                    "a face of the scene is no aligned face of a picture of \(width) x \(height)")
            }
            guard header.contract == faces.first?.header.contract ?? header.contract else {
                throw EdgegrainError.payload("a face of the scene has another LR contract than the first")
            }
            faces.append(face)
        }
        let background = Array(data[position..<end])
        guard background.isEmpty == (coding == 0) else {
            throw EdgegrainError.payload("a background of \(background.count) bytes does not have the coding \(coding)")
        }
        if coding == 1 {
            try FaceScene.checkBackground(background)
        }
        bytes = data
        originalWidth = width
        originalHeight = height
        self.faces = faces
        self.background = background
    }

    /// The background as a WebP file, which Image I/O reads; nil if there is none.
    public var backgroundWebP: [UInt8]? {
        background.isEmpty ? nil : WebPFile.of(background)
    }

    /// A key frame begins with three bytes of sizes, a start code, and the sides, of 14 bits (RFC 6386, 9.1).
    private static func checkBackground(_ frame: [UInt8]) throws {
        guard frame.count >= 10, frame[0] & 1 == 0, frame[3] == 0x9d, frame[4] == 0x01, frame[5] == 0x2a else {
            throw EdgegrainError.payload("the background is no key frame of VP8")
        }
        let width = Int(frame[6]) | Int(frame[7]) << 8
        let height = Int(frame[8]) | Int(frame[9]) << 8
        guard (1...maxBackgroundSide).contains(width), (1...maxBackgroundSide).contains(height) else {
            throw EdgegrainError.payload(
                "a background has sides of 1 to \(maxBackgroundSide) without a scale, got \(width & 16383) x "
                    + "\(height & 16383)")
        }
    }
}

/// The VP8 frame in a lossy WebP file: a RIFF file of chunks, each with a name of 4 bytes, its length, and its bytes.
enum WebPFile {
    /// The bytes of the chunk `VP8 `, without colour profiles and metadata; `EdgegrainError.payload` for files without
    /// this chunk, or with transparency.
    static func frame(_ webp: [UInt8]) throws -> [UInt8] {
        func named(_ position: Int, _ name: String) -> Bool {
            position + 4 <= webp.count && webp[position..<(position + 4)].elementsEqual(name.utf8)
        }
        guard named(0, "RIFF"), named(8, "WEBP") else {
            throw EdgegrainError.payload("the background of a scene is a lossy WebP file")
        }
        var position = 12
        while position + 8 <= webp.count, !named(position, "ALPH") {
            let start = position + 8
            let length = (0..<4).reduce(0) { $0 | Int(webp[position + 4 + $1]) << (8 * $1) }
            if named(position, "VP8 "), start + length <= webp.count {
                return Array(webp[start..<(start + length)])
            }
            position = start + length + length % 2
        }
        throw EdgegrainError.payload("the background of a scene is a complete lossy WebP file without transparency")
    }

    /// A WebP file of nothing but a frame.
    static func of(_ frame: [UInt8]) -> [UInt8] {
        func head(_ name: String, _ length: Int) -> [UInt8] {
            Array(name.utf8) + (0..<4).map { UInt8(length >> (8 * $0) & 255) }
        }
        let padding = frame.count % 2
        return head("RIFF", 12 + frame.count + padding) + Array("WEBP".utf8) + head("VP8 ", frame.count) + frame
            + [UInt8](repeating: 0, count: padding)
    }
}

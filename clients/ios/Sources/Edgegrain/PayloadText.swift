import Foundation

/// Payloads and scenes as text, docs/sending.md: base64url for most places, base45 (RFC 9285) for QR codes.
public enum PayloadText {
    private static let digits = Array("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:".utf8)
    /// Of scenes and payloads of version 1, or of version 2.
    private static let text64 = "^(?:7W|(?:q|r[A-P])[^.]*\\z)"
    private static let text45 = "^(?:W0U|[0-9A-Z \\$%*+./:\\-][A-Z \\$%*]L[^a-z]*\\z)"

    /// Base64url without padding.
    public static func base64url(_ bytes: [UInt8]) -> String {
        Data(bytes).base64EncodedString().replacingOccurrences(of: "+", with: "-")
            .replacingOccurrences(of: "/", with: "_").replacingOccurrences(of: "=", with: "")
    }

    /// Only characters of the alphanumeric mode of QR codes.
    public static func base45(_ bytes: [UInt8]) -> String {
        var text: [UInt8] = []
        for at in stride(from: 0, to: bytes.count, by: 2) {
            let two = at + 1 < bytes.count
            let value = two ? Int(bytes[at]) << 8 | Int(bytes[at + 1]) : Int(bytes[at])
            text += [digits[value % 45], digits[value / 45 % 45]] + (two ? [digits[value / 2025]] : [])
        }
        return String(decoding: text, as: UTF8.self)
    }

    /// The bytes of a text of either form, of standard base64 or of a data URI; else throws `EdgegrainError.payload`.
    /// Only the form is checked: `Payload(bytes)` and `FaceScene(bytes)` check the bytes.
    public static func read(_ text: String) throws -> [UInt8] {
        func matches(_ text: String, _ pattern: String) -> Bool {
            text.range(of: pattern, options: .regularExpression) != nil
        }
        var found = text.replacingOccurrences(of: "^[\\t\\r\\n]+|\\s+\\z", with: "", options: .regularExpression)
        if !matches(found, text45) {  // its first digits may be spaces
            found = found.trimmingCharacters(in: .whitespacesAndNewlines)
            if found.hasPrefix("data:"), let comma = found.firstIndex(of: ",") {
                found = String(found[found.index(after: comma)...])
            }
        }
        let bytes: [UInt8]?
        if matches(found, text45) {
            bytes = fromBase45(Array(found.utf8))
        } else if matches(found, text64) {
            var base64 = found.components(separatedBy: .whitespacesAndNewlines).joined()
                .replacingOccurrences(of: "-", with: "+").replacingOccurrences(of: "_", with: "/")
                .replacingOccurrences(of: "=", with: "")
            base64 += String(repeating: "=", count: (4 - base64.count % 4) % 4)
            bytes = Data(base64Encoded: base64).map { Array($0) }
        } else {
            throw EdgegrainError.payload("not a payload's text: it begins with \"\(found.prefix(4))\"")
        }
        guard let bytes else { throw EdgegrainError.payload("the payload's text was altered or cut off") }
        return bytes
    }

    private static func fromBase45(_ text: [UInt8]) -> [UInt8]? {
        var bytes: [UInt8] = []
        for at in stride(from: 0, to: text.count, by: 3) {
            let values = text[at..<min(at + 3, text.count)].compactMap { digits.firstIndex(of: $0) }
            let value = values.reversed().reduce(0) { 45 * $0 + $1 }
            guard values.count == min(3, text.count - at), values.count > 1, value < 1 << (8 * (values.count - 1))
            else { return nil }
            if values.count == 3 { bytes.append(UInt8(value >> 8)) }
            bytes.append(UInt8(value & 255))
        }
        return bytes
    }
}

extension Payload {
    /// The bytes as base64url; `PayloadText` has base45 for QR codes, and reads both.
    public var text: String { PayloadText.base64url(bytes) }
}

extension FaceScene {
    /// As `Payload.text`.
    public var text: String { PayloadText.base64url(bytes) }
}

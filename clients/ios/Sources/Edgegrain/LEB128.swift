/// LEB128: seven bits a byte, low ones first, at most three bytes, in the shortest form only.
enum LEB128 {
    /// Reads the number at `position`, which then points behind it; `name` is for error messages.
    static func read(_ data: [UInt8], _ position: inout Int, end: Int, name: String) throws -> Int {
        var value = 0
        for count in 0..<3 {
            guard position < end else {
                throw EdgegrainError.payload("the payload ends inside the \(name)")
            }
            let byte = data[position]
            position += 1
            value |= Int(byte & 127) << (7 * count)
            if byte < 128 {
                guard byte != 0 || count == 0 else {
                    throw EdgegrainError.payload("the \(name) is written with more bytes than it needs")
                }
                return value
            }
        }
        throw EdgegrainError.payload("the \(name) takes more than three bytes")
    }

    static func bytes(_ number: Int) -> [UInt8] {
        var value = number
        var bytes: [UInt8] = []
        while value > 127 {
            bytes.append(UInt8(value & 127 | 128))
            value >>= 7
        }
        return bytes + [UInt8(value)]
    }
}

/// One picture, several qualities: the first payload that is small enough.
public enum RateControl {
    /// The first payload of at most `maxBytes`, of all rates of all encoders; `EdgegrainError.image` if there is none.
    /// An encoder runs once for all its rates.
    ///
    /// - Parameters:
    ///   - fit: of the whole picture; nil for `EdgeEncoder.compressPhoto`.
    ///   - encoders: best quality first; those after the first that fits do not run.
    public static func compress(
        _ picture: RGB, fit: Fit? = nil, maxBytes: Int, encoders: [EdgeEncoder]
    ) async throws -> Payload {
        var smallest = Int.max
        for encoder in encoders {
            let payload: Payload
            if let fit {
                payload = try await encoder.compress(picture, fit: fit, maxBytes: maxBytes)
            } else {
                payload = try await encoder.compressPhoto(picture, maxBytes: maxBytes)
            }
            if payload.bytes.count <= maxBytes { return payload }
            smallest = min(smallest, payload.bytes.count)
        }
        throw EdgegrainError.image(
            "no quality fits into \(maxBytes) bytes: the smallest payload of this picture has \(smallest)")
    }
}

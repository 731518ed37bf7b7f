/// One picture, several qualities: the first payload that is small enough.
public enum RateControl {
    /// Compresses with the first encoder whose payload has at most `maxBytes`; `EdgegrainError.image` if none has.
    ///
    /// - Parameter encoders: best quality first; those after the first that fits do not run.
    public static func compress(
        _ picture: RGB, fit: Fit = .pad, maxBytes: Int, encoders: [EdgeEncoder]
    ) async throws -> Payload {
        var smallest = Int.max
        for encoder in encoders {
            let payload = try await encoder.compress(picture, fit: fit)
            if payload.bytes.count <= maxBytes { return payload }
            smallest = min(smallest, payload.bytes.count)
        }
        throw EdgegrainError.image(
            "no quality fits into \(maxBytes) bytes: the smallest payload of this picture has \(smallest)")
    }
}

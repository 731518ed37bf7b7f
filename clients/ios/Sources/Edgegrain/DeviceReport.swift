import Foundation

/// What a device proves and measures about itself: device-report.json, docs/devices.md.
public struct DeviceReport: Codable, Equatable, Sendable {
    public struct Times: Codable, Equatable, Sendable {
        public let runs: Int
        public let median: Double
        public let least: Double
        public let most: Double
    }

    public let schema: Int
    public let platform: String
    public let device: String
    public let runtime: String
    public let threads: Int
    public let bundle: String
    public let lr_contract_id: String
    /// Golden inputs that were encoded, and the names of those with another LR.
    public let checked: Int
    public let failed: [String]
    /// Milliseconds for one picture: the network alone.
    public let encode_ms: Times

    #if os(macOS)
    private static let currentPlatform = "macos"
    #else
    private static let currentPlatform = "ios"
    #endif

    /// Runs the bundle's golden vectors, then one of them `runs` times, at least once.
    public static func measure(_ bundle: EdgeBundle, device: String, runs: Int = 20) throws -> DeviceReport {
        let runner = try CoreMLRunner(bundle)
        let golden = bundle.golden
        let failed = try golden.check(runner.encode)
        let picture = try GoldenInputs.picture(golden.inputs[golden.inputs.count - 1], hr: golden.hr)
        var times: [Double] = []
        for _ in 0..<max(1, runs) {
            let start = DispatchTime.now().uptimeNanoseconds
            _ = try runner.encode(picture)
            times.append(Double(DispatchTime.now().uptimeNanoseconds - start) / 1e6)
        }
        times.sort()
        return DeviceReport(
            schema: 1, platform: currentPlatform, device: device, runtime: "Core ML, CPU only", threads: 0,
            bundle: bundle.id, lr_contract_id: bundle.contractId, checked: golden.inputs.count, failed: failed,
            encode_ms: Times(
                runs: times.count, median: times[times.count / 2], least: times[0], most: times[times.count - 1]))
    }
}

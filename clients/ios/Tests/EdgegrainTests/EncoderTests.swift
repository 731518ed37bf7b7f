import XCTest

@testable import Edgegrain

final class EncoderTests: XCTestCase {
    private struct Payloads: Decodable {
        struct Case: Decodable {
            let file: String?
            let seed: UInt32?
            let block: Int?
            let size: [Int]?
            let fit: String
            let fitted_sha256: String
            let lr: String
            let payload: String
        }
        let payloads: [Case]
    }

    private struct Inputs: Decodable {
        struct Case: Decodable {
            let name: String
            let sha256: String
        }
        let inputs: [Case]
    }

    func testGoldenInputsAreMadeAsPythonMakesThem() throws {
        let expected = try GoldenFiles.read(Inputs.self, "tests/golden/clients/inputs.json").inputs
        let golden = try GoldenFiles.bundle().golden
        XCTAssertEqual(golden.inputs.map(\.name), expected.map(\.name))
        for (input, item) in zip(golden.inputs, expected) {
            XCTAssertEqual(sha256(try GoldenInputs.picture(input, hr: golden.hr).data), item.sha256, item.name)
        }
    }

    /// The whole way, Core ML included: the bytes of `sdk.compress`.
    func testPayloadsArePythons() async throws {
        let encoder = try EdgeEncoder(GoldenFiles.bundle())  // runs the bundle's golden vectors
        for item in try GoldenFiles.read(Payloads.self, "tests/golden/clients/payloads.json").payloads {
            let picture = try Source(file: item.file, seed: item.seed, block: item.block, size: item.size).picture()
            let way = try fit(item.fit)
            XCTAssertEqual(sha256(try way.apply(to: picture, hr: encoder.bundle.hr).data), item.fitted_sha256)
            let payload = try await encoder.compress(picture, fit: way)
            let lr = try payload.lr(contractId: encoder.bundle.contractId, tables: encoder.bundle.tables)
            XCTAssertEqual(lr.data, try bytes(item.lr))
            XCTAssertEqual(payload.bytes, try bytes(item.payload))
        }
    }

    /// The second rate's contract id is that of edge_encoder/contract_id.py.
    func testPayloadsOfEveryRateOfABundleAreMadeAndRead() async throws {
        let golden = GoldenFiles.repository.appendingPathComponent("bundles/faces-256-lr16-small")
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        try FileManager.default.copyItem(at: golden, to: folder)
        defer { try? FileManager.default.removeItem(at: folder) }
        let coder = try textOfDefaultBundle("coder.json")
        let coarse = Data(coder.replacingOccurrences(of: "\"step\":2,", with: "\"step\":32,").utf8)
        try coarse.write(to: folder.appendingPathComponent("coder_32.json"))
        let contract = "bfa0eee7808cfe5cfe7998da9bc538524f893f5248a116fb8e6898e3588e9125"
        let manifest = try textOfDefaultBundle("manifest.json")
        let changed = manifest.replacingOccurrences(
            of: "\"files\": {",
            with: "\"rates\": [{\"file\": \"coder_32.json\", \"lr_contract_id\": \"\(contract)\"}], "
                + "\"files\": {\"coder_32.json\": {\"sha256\": \"\(sha256([UInt8](coarse)))\"},")
        try Data(changed.utf8).write(to: folder.appendingPathComponent("manifest.json"))
        let encoder = try EdgeEncoder(EdgeBundle(folder: folder))
        XCTAssertEqual(encoder.bundle.rates.map(\.contractId), [encoder.bundle.contractId, contract])
        let picture = try RGB(contentsOf: GoldenFiles.repository.appendingPathComponent("edgegrain/demo/portrait.jpg"))
        let fine = try await encoder.compress(picture, fit: .pad)
        for (rate, maxBytes) in zip(encoder.bundle.rates, [fine.bytes.count, fine.bytes.count - 1]) {
            let payload = try await RateControl.compress(picture, fit: .pad, maxBytes: maxBytes, encoders: [encoder])
            XCTAssertLessThanOrEqual(payload.bytes.count, maxBytes)
            XCTAssertTrue(rate.contractId.hasPrefix(payload.header.contract))
            XCTAssertEqual(
                try payload.lr(encoder.bundle), try payload.lr(contractId: rate.contractId, tables: rate.tables))
        }
        do {
            _ = try await RateControl.compress(picture, fit: .pad, maxBytes: 10, encoders: [encoder])
            XCTFail("a picture became 10 bytes")
        } catch EdgegrainError.image {
        }
    }

    func testADeviceReportsWhatItProvedAndMeasured() throws {
        let report = try DeviceReport.measure(GoldenFiles.bundle(), device: "this Mac", runs: 3)
        XCTAssertEqual(report.checked, 12)
        XCTAssertEqual(report.failed, [])
        XCTAssertLessThanOrEqual(report.encode_ms.least, report.encode_ms.median)
        let file = FileManager.default.temporaryDirectory.appendingPathComponent("device-report.json")
        try JSONEncoder().encode(report).write(to: file)
        print("device report: \(file.path)")
    }

    func testManifestsOfOtherBundlesAreRefused() throws {
        let golden = GoldenFiles.repository.appendingPathComponent("bundles/faces-256-lr16-small")
        let manifest = try textOfDefaultBundle("manifest.json")
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        for name in ["coder.json", "golden.json"] {
            try FileManager.default.copyItem(
                at: golden.appendingPathComponent(name), to: folder.appendingPathComponent(name))
        }
        let changes = [
            ("\"schema\": 1", "\"schema\": 2", "schema 2"),
            ("\"lr_contract_id\": \"", "\"lr_contract_id\": \"F", "64 hex digits"),
            ("\"hr\": 256", "\"hr\": 250", "no multiple"),
            ("\"hr\": 256", "\"hr\": 512", "golden vectors"),
        ]
        for (from, to, reason) in changes {
            XCTAssertTrue(manifest.contains(from), from)
            let changed = manifest.replacingOccurrences(of: from, with: to)
            try Data(changed.utf8).write(to: folder.appendingPathComponent("manifest.json"))
            XCTAssertThrowsError(try EdgeBundle(folder: folder)) { error in
                XCTAssertTrue(error.localizedDescription.contains(reason), error.localizedDescription)
            }
        }
    }

    private func textOfDefaultBundle(_ name: String) throws -> String {
        String(decoding: try GoldenFiles.data("bundles/faces-256-lr16-small/\(name)"), as: UTF8.self)
    }

    func testAnEncoderThatComputesOtherBytesIsNoticed() throws {
        let golden = try GoldenFiles.bundle().golden
        let black = try RGB(width: 16, height: 16, data: [UInt8](repeating: 0, count: 768))
        let failed = try golden.check { _ in black }
        XCTAssertTrue(failed.contains("white"))
    }
}

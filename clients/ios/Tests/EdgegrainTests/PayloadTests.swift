import XCTest

@testable import Edgegrain

final class PayloadTests: XCTestCase {
    private struct Bodies: Decodable {
        struct Case: Decodable {
            let size: [Int]
            let lr: String
            let body: String
        }
        struct CoarseCase: Decodable {
            let step: Int
            let size: [Int]
            let lr: String
            let stored: String
            let body: String
        }
        let bodies: [Case]
        let coarse_bodies: [CoarseCase]
    }

    private struct Stored: Decodable {
        struct Case: Decodable {
            let file: String
            let version: Int
            let coding: Int
            let lr_size: [Int]
            let lr_sha256: String
            let original_size: [Int]
            let fit: String
            let square: [Int]?
        }
        let contract_id: String
        let payloads: [Case]
    }

    private struct Damaged: Decodable {
        struct Case: Decodable {
            let name: String
            let payload: String
        }
        let payloads: [Case]
    }

    private struct Texts: Decodable {
        struct Case: Decodable {
            let bytes: String
            let base64url: String
            let base45: String
            let base64: String
        }
        let texts: [Case]
        let refused: [String]
    }

    func testPayloadsAreWrittenAndReadAsText() throws {
        let golden = try GoldenFiles.read(Texts.self, "tests/golden/clients/texts.json")
        for item in golden.texts {
            let data = try bytes(item.bytes)
            let text = try FaceScene.isScene(data) ? FaceScene(data).text : PayloadText.base64url(data)
            XCTAssertEqual(text, item.base64url)
            XCTAssertEqual(PayloadText.base45(data), item.base45)
            let uri = "data:application/vnd.edgegrain;base64,\(item.base64)"
            for form in [" \(item.base64url)\r\n", "\n\(item.base45)\r\n", item.base64, uri] {
                XCTAssertEqual(try PayloadText.read(form), data)
            }
        }
        for text in golden.refused {
            XCTAssertThrowsError(try PayloadText.read(text))
        }
    }

    func testCRC32IsThatOfZlib() {
        XCTAssertEqual(crc32(Array("123456789".utf8)[...]), 0xcbf4_3926)
    }

    func testLRsAreCodedToThePinnedBodiesAndBack() throws {
        let tables = try GoldenFiles.bundle().tables
        for item in try GoldenFiles.read(Bodies.self, "tests/golden/clients/bodies.json").bodies {
            let lr = try RGB(width: item.size[0], height: item.size[1], data: bytes(item.lr))
            let body = try bytes(item.body)
            XCTAssertEqual(LRCoder.encode(lr, tables: tables), body)
            XCTAssertEqual(try LRCoder.decode(body, width: lr.width, height: lr.height, tables: tables), lr)
        }
    }

    func testLevelsAreStoredInSteps() throws {
        let json = String(decoding: try GoldenFiles.data("bundles/faces-256-lr16-small/coder.json"), as: UTF8.self)
        for item in try GoldenFiles.read(Bodies.self, "tests/golden/clients/bodies.json").coarse_bodies {
            let coarse = json.replacingOccurrences(of: "\"step\":2,", with: "\"step\":\(item.step),")
            let tables = try CoderTables(json: Data(coarse.utf8))
            let lr = try RGB(width: item.size[0], height: item.size[1], data: bytes(item.lr))
            let body = try bytes(item.body)
            XCTAssertEqual(try tables.rounded(lr).data, try bytes(item.stored))
            XCTAssertEqual(LRCoder.encode(lr, tables: tables), body)
            XCTAssertEqual(
                try LRCoder.decode(body, width: lr.width, height: lr.height, tables: tables).data,
                try bytes(item.stored))
        }
    }

    func testStoredPayloadsAreReadAndWrittenAgain() throws {
        let tables = try CoderTables(json: GoldenFiles.data("codec_contract/lr_coder/default_coder.json"))
        let golden = try GoldenFiles.read(Stored.self, "tests/golden/contract/payloads.json")
        for item in golden.payloads {
            let data = [UInt8](try GoldenFiles.data("tests/golden/contract/\(item.file)"))
            guard item.coding <= 1, item.lr_size.allSatisfy({ $0 <= Payload.maxLRSide }) else {
                assertNotReadHere(data, item.file)
                continue
            }
            let payload = try Payload(data)
            let header = payload.header
            let lr = try payload.lr(contractId: golden.contract_id, tables: tables)
            XCTAssertEqual(sha256(lr.data), item.lr_sha256, item.file)
            XCTAssertEqual([header.version, header.coding], [item.version, item.coding], item.file)
            XCTAssertEqual([header.lrWidth, header.lrHeight], item.lr_size, item.file)
            XCTAssertEqual([header.originalWidth, header.originalHeight], item.original_size, item.file)
            XCTAssertEqual(header.fit, try fit(item.fit), item.file)
            XCTAssertEqual(header.square, item.square.map { square($0) }, item.file)
            let again = try Payload(
                lr: lr, contractId: golden.contract_id, tables: tables,
                originalSize: (item.original_size[0], item.original_size[1]), fit: header.fit, square: header.square,
                coding: header.coding)
            assertRewritten(payload, again, item.file)
        }
    }

    func testDamagedPayloadsAreRefused() throws {
        let bundle = try GoldenFiles.bundle()
        for item in try GoldenFiles.read(Damaged.self, "tests/golden/clients/damaged.json").payloads {
            let data = try bytes(item.payload)
            XCTAssertThrowsError(
                try Payload(data).lr(contractId: bundle.contractId, tables: bundle.tables), item.name)
        }
    }

    func testPayloadsOfOtherKindsAreRefusedAsSuch() throws {
        for item in try GoldenFiles.read(Damaged.self, "tests/golden/clients/unsupported.json").payloads {
            assertNotReadHere(try bytes(item.payload), item.name)
        }
    }

    private func assertNotReadHere(_ data: [UInt8], _ name: String) {
        XCTAssertThrowsError(try Payload(data), name) { error in
            XCTAssertTrue(error.localizedDescription.contains(" not read here"), name)
        }
    }

    func testEveryByteOfAPayloadMatters() throws {
        for file in ["coded-16x16-smooth.grain", "v2-16x16-smooth.grain"] {
            let data = [UInt8](try GoldenFiles.data("tests/golden/contract/\(file)"))
            for index in data.indices {
                var changed = data
                changed[index] ^= 0x40
                XCTAssertThrowsError(try Payload(changed), "byte \(index) of \(file)")
            }
        }
    }

    func testWhatTheFormatCannotSayIsRefused() throws {
        let bundle = try GoldenFiles.bundle()
        let lr = try RGB(width: 1, height: 1, data: [0, 0, 0])
        let wide = try RGB(width: 257, height: 1, data: [UInt8](repeating: 0, count: 3 * 257))
        func pack(_ lr: RGB, _ id: String, _ size: (Int, Int)) throws -> Payload {
            try Payload(lr: lr, contractId: id, tables: bundle.tables, originalSize: size, fit: .pad)
        }
        XCTAssertThrowsError(try pack(wide, bundle.contractId, (1, 1)))
        XCTAssertThrowsError(try pack(lr, bundle.contractId, (1, 0)))
        XCTAssertThrowsError(try pack(lr, bundle.contractId, (65535, 65535)))
        XCTAssertThrowsError(try pack(lr, String(bundle.contractId.prefix(32)), (1, 1)))
        XCTAssertThrowsError(try CoderTables(json: Data("{}".utf8)))
    }
}

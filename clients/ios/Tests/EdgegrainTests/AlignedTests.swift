import CoreGraphics
import XCTest

@testable import Edgegrain

/// Aligned pictures: squares, their payloads, scenes, and the squares of faces.
final class AlignedTests: XCTestCase {
    private struct Squares: Decodable {
        struct Case: Decodable {
            let seed: UInt32
            let size: [Int]
            let square: [Int]
            let side: Int
            let sha256: String
        }
        let cases: [Case]
    }

    private struct Aligned: Decodable {
        struct Read: Decodable {
            let name: String
            let payload: String
            let lr_sha256: String
            let square: [Int]
            let original_size: [Int]
        }
        struct Encoding: Decodable {
            let file: String?
            let seed: UInt32?
            let block: Int?
            let size: [Int]?
            let square: [Int]
            let fitted_sha256: String
            let lr: String
            let payload: String
        }
        struct Points: Decodable {
            let size: [Int]
            let left_eye: [Double]
            let right_eye: [Double]
            let mouth: [Double]
            let square: [Int]?
            let framed: Bool?

            func around() throws -> OrientedSquare {
                func point(_ pair: [Double]) -> CGPoint { CGPoint(x: pair[0], y: pair[1]) }
                return try FFHQSquare.around(
                    leftEye: point(left_eye), rightEye: point(right_eye), mouth: point(mouth), width: size[0],
                    height: size[1])
            }
        }
        let payloads: [Read]
        let encodings: [Encoding]
        let points: [Points]
        let refused_points: [Points]
    }

    private struct Scenes: Decodable {
        struct Case: Decodable {
            let scene: String
            let original_size: [Int]
            let faces: [String]
            let background_webp: String
        }
        struct Damaged: Decodable {
            let name: String
            let scene: String
        }
        let scenes: [Case]
        let damaged: [Damaged]
    }

    private func aligned() throws -> Aligned {
        try GoldenFiles.read(Aligned.self, "tests/golden/clients/aligned.json")
    }

    func testSquaresAreCutOutAsPinned() throws {
        for item in try GoldenFiles.read(Squares.self, "tests/golden/contract/squares.json").cases {
            let picture = try Source(file: nil, seed: item.seed, block: 1, size: item.size).picture()
            let cut = try ExactSquare.cut(picture, square(item.square), side: item.side)
            XCTAssertEqual(sha256(cut.data), item.sha256, "\(item.size), \(item.square)")
        }
    }

    func testPayloadsOfAlignedPicturesAreReadAndWrittenAgain() throws {
        let bundle = try GoldenFiles.bundle()
        for item in try aligned().payloads {
            let data = try bytes(item.payload)
            let payload = try Payload(data)
            let lr = try payload.lr(contractId: bundle.contractId, tables: bundle.tables)
            XCTAssertEqual(sha256(lr.data), item.lr_sha256, item.name)
            XCTAssertEqual(payload.header.fit, .align)
            XCTAssertEqual(payload.header.square, square(item.square), item.name)
            let again = try Payload(
                lr: lr, contractId: bundle.contractId, tables: bundle.tables,
                originalSize: (item.original_size[0], item.original_size[1]), fit: .align, square: square(item.square),
                coding: payload.header.coding)
            assertRewritten(payload, again, item.name)
        }
    }

    /// The whole way from a photograph and a square to a payload, Core ML included.
    func testPayloadsOfSquaresArePythons() async throws {
        let encoder = try EdgeEncoder(GoldenFiles.bundle())
        for item in try aligned().encodings {
            let picture = try Source(file: item.file, seed: item.seed, block: item.block, size: item.size).picture()
            let fitted = try ExactSquare.cut(picture, square(item.square), side: encoder.bundle.hr)
            XCTAssertEqual(sha256(fitted.data), item.fitted_sha256, "\(item.square)")
            let payload = try await encoder.compress(picture, square: square(item.square))
            XCTAssertEqual(payload.bytes, try bytes(item.payload), "\(item.square)")
        }
    }

    func testTheSquaresOfFacesArePythons() throws {
        for item in try aligned().points {
            let found = try item.around()
            XCTAssertEqual(found, square(try XCTUnwrap(item.square)))
            XCTAssertEqual(FFHQSquare.isFramed(found, width: item.size[0], height: item.size[1]), item.framed)
        }
    }

    func testPointsThatAreNoFacesAreRefused() throws {
        for item in try aligned().refused_points {
            assertRefused(try item.around())
        }
        for number in [CGFloat.nan, .infinity, -.infinity] {
            let point = CGPoint(x: 300, y: number)
            assertRefused(
                try FFHQSquare.around(
                    leftEye: point, rightEye: CGPoint(x: 350, y: 200), mouth: CGPoint(x: 320, y: 280), width: 640,
                    height: 480))
        }
    }

    /// Vision may name the eyes from either side, and faces may be upside down.
    func testEyesAreOrderedByTheMouth() throws {
        let (left, right) = (CGPoint(x: 290, y: 210), CGPoint(x: 350, y: 210))
        let lips = [CGPoint(x: 320, y: 270), CGPoint(x: 300, y: 280), CGPoint(x: 320, y: 290), CGPoint(x: 340, y: 280)]
        for eyes in [(left, right), (right, left)] {
            let face = try XCTUnwrap(FaceFinder.face(eyes: eyes, lips: lips, side: 100))
            XCTAssertEqual([face.leftEye, face.rightEye, face.mouth], [left, right, CGPoint(x: 320, y: 280)])
            let turned = try XCTUnwrap(
                FaceFinder.face(eyes: eyes, lips: lips.map { CGPoint(x: $0.x, y: 420 - $0.y) }, side: 100))
            XCTAssertEqual([turned.leftEye, turned.rightEye], [right, left])
        }
    }

    func testAPhotographWithoutAFaceIsRefused() async throws {
        let encoder = try EdgeEncoder(GoldenFiles.bundle())
        let grey = try RGB(width: 300, height: 200, data: [UInt8](repeating: 128, count: 3 * 300 * 200))
        do {
            _ = try await encoder.compressPhoto(grey)
            XCTFail("a face was found in grey")
        } catch EdgegrainError.image {
        }
    }

    func testAFramedPortraitIsEncodedWhole() async throws {
        let encoder = try EdgeEncoder(GoldenFiles.bundle())
        let portrait = try RGB(contentsOf: GoldenFiles.repository.appendingPathComponent("edgegrain/demo/portrait.jpg"))
        let payload = try await encoder.compressPhoto(portrait)
        XCTAssertEqual(payload.header.fit, .pad)
    }

    func testScenesAreReadAndWrittenAgain() throws {
        for item in try GoldenFiles.read(Scenes.self, "tests/golden/contract/scenes.json").scenes {
            let data = try bytes(item.scene)
            let scene = try FaceScene(data)
            XCTAssertEqual([scene.originalWidth, scene.originalHeight], item.original_size)
            XCTAssertEqual(scene.faces.map(\.bytes), try item.faces.map { try bytes($0) })
            let background = try bytes(item.background_webp)
            XCTAssertEqual(scene.backgroundWebP ?? [], background)
            let again = try FaceScene(
                faces: scene.faces, originalSize: (item.original_size[0], item.original_size[1]),
                backgroundWebP: background.isEmpty ? nil : background)
            XCTAssertEqual(again.bytes, data)
            XCTAssertThrowsError(try Payload(data))
        }
    }

    func testDamagedScenesAreRefused() throws {
        for item in try GoldenFiles.read(Scenes.self, "tests/golden/contract/scenes.json").damaged {
            let data = try bytes(item.scene)
            XCTAssertThrowsError(try FaceScene(data), item.name)
        }
    }

    private func assertRefused(_ square: @autoclosure () throws -> OrientedSquare) {
        XCTAssertThrowsError(try square()) { error in
            guard case EdgegrainError.image = error else {
                return XCTFail("\(error)")
            }
        }
    }
}

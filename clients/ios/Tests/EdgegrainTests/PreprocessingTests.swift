import XCTest

@testable import Edgegrain

final class PreprocessingTests: XCTestCase {
    private struct Resizes: Decodable {
        struct Case: Decodable {
            let seed: UInt32
            let size: [Int]
            let new_size: [Int]
            let sha256: String
        }
        let cases: [Case]
    }

    private struct Fits: Decodable {
        struct Case: Decodable {
            let seed: UInt32
            let block: Int
            let size: [Int]
            let hr: Int
            let fit: String
            let sha256: String
        }
        struct ContentSize: Decodable {
            let size: [Int]
            let hr: Int
            let content_size: [Int]
        }
        let fits: [Case]
        let content_sizes: [ContentSize]
    }

    private struct Pictures: Decodable {
        struct Case: Decodable {
            let seed: UInt32
            let block: Int
            let size: [Int]
            let background: [UInt8]?
            let orientation: Int?
            let sha256: String
        }
        let pictures: [Case]
    }

    func testTheGeneratorIsThatOfNumericalRecipes() {
        XCTAssertEqual(GoldenInputs.generatorBytes(seed: 0, count: 5), [0x3c, 0x47, 0xd1, 0xaa, 0x62])
    }

    func testPicturesAreResizedAsPinned() throws {
        for item in try GoldenFiles.read(Resizes.self, "tests/golden/contract/resize.json").cases {
            let picture = try Source(file: nil, seed: item.seed, block: 1, size: item.size).picture()
            let resized = try ExactResize.resize(picture, width: item.new_size[0], height: item.new_size[1])
            XCTAssertEqual(sha256(resized.data), item.sha256, "\(item.size) to \(item.new_size)")
        }
        let pair = try RGB(width: 2, height: 1, data: [10, 10, 10, 21, 21, 21])
        XCTAssertEqual(try ExactResize.resize(pair, width: 1, height: 1).data, [16, 16, 16])
        for side in [0, -1, 65536] {
            XCTAssertThrowsError(try ExactResize.resize(pair, width: side, height: 1))
        }
    }

    func testPicturesAreFittedAsPinned() throws {
        let golden = try GoldenFiles.read(Fits.self, "tests/golden/clients/fits.json")
        for item in golden.fits {
            let picture = try Source(file: nil, seed: item.seed, block: item.block, size: item.size).picture()
            let fitted = try fit(item.fit).apply(to: picture, hr: item.hr)
            XCTAssertEqual(sha256(fitted.data), item.sha256, "\(item.size) by \(item.fit)")
        }
        for item in golden.content_sizes {
            let size = try Fit.contentSize(width: item.size[0], height: item.size[1], hr: item.hr)
            XCTAssertEqual([size.width, size.height], item.content_size)
        }
    }

    func testSidesOutOfRangeAreRefused() throws {
        let tables = try GoldenFiles.bundle().tables
        let pixel = try RGB(width: 1, height: 1, data: [0, 0, 0])
        for side in [0, -1, Int.max] {
            XCTAssertThrowsError(try RGB(width: side, height: side, data: []))
            XCTAssertThrowsError(try RGB.flatten(width: side, height: side, rgba: []))
            XCTAssertThrowsError(try Fit.contentSize(width: side, height: side, hr: 256))
            XCTAssertThrowsError(try LRCoder.decode([], width: side, height: side, tables: tables))
            for way in Fit.allCases {
                XCTAssertThrowsError(try way.apply(to: pixel, hr: side))
            }
        }
    }

    func testTransparentPicturesAreCompositedAsPinned() throws {
        for item in try GoldenFiles.read(Pictures.self, "tests/golden/clients/transparency.json").pictures {
            let rgba = try Source(file: nil, seed: item.seed, block: item.block, size: item.size).levels(channels: 4)
            let flat = try RGB.flatten(
                width: item.size[0], height: item.size[1], rgba: rgba, background: XCTUnwrap(item.background))
            XCTAssertEqual(sha256(flat.data), item.sha256)
        }
        XCTAssertThrowsError(try RGB.flatten(width: 2, height: 1, rgba: [0, 0, 0, 0]))
        XCTAssertThrowsError(try RGB(width: 2, height: 1, data: [0, 0, 0]))
    }

    func testPicturesAreTurnedUprightAsPinned() throws {
        for item in try GoldenFiles.read(Pictures.self, "tests/golden/clients/orientations.json").pictures {
            let picture = try Source(file: nil, seed: item.seed, block: item.block, size: item.size).picture()
            let upright = try picture.upright(orientation: XCTUnwrap(item.orientation))
            XCTAssertEqual(sha256(upright.data), item.sha256, "orientation \(item.orientation ?? 0)")
        }
    }
}

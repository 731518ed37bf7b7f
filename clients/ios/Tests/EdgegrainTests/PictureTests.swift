import CoreGraphics
import XCTest

@testable import Edgegrain

final class PictureTests: XCTestCase {
    private let files = ["edgegrain/demo/portrait.jpg", "tests/parity/lpips_examples/ex_ref.png"]

    func testTruncatedPicturesAreRefused() throws {
        for file in files {
            let data = try GoldenFiles.data(file)
            XCTAssertNoThrow(try RGB(encoded: data), file)
            for length in [0, 1, 100, data.count / 2, data.count - 1] {
                assertRefused(try RGB(encoded: data.prefix(length)), "\(file), \(length) bytes")
            }
        }
    }

    func testPicturesOfMorePixelsThanTheLimitAreRefused() throws {
        for file in files {
            let data = try GoldenFiles.data(file)
            let picture = try RGB(encoded: data)
            let pixels = picture.width * picture.height
            XCTAssertEqual(try RGB(encoded: data, maxPixels: pixels), picture, file)
            assertRefused(try RGB(encoded: data, maxPixels: pixels - 1), file)
        }
    }

    func testImagesOfSeveralStripsKeepTheirPixels() throws {
        let (width, height) = (4096, 1025)
        let levels = (0..<(3 * width * height)).map { UInt8(truncatingIfNeeded: $0 / 97) }
        let space = try XCTUnwrap(CGColorSpace(name: CGColorSpace.sRGB))
        let provider = try XCTUnwrap(CGDataProvider(data: Data(levels) as CFData))
        let image = try XCTUnwrap(
            CGImage(
                width: width, height: height, bitsPerComponent: 8, bitsPerPixel: 24, bytesPerRow: 3 * width,
                space: space, bitmapInfo: CGBitmapInfo(rawValue: CGImageAlphaInfo.none.rawValue), provider: provider,
                decode: nil, shouldInterpolate: false, intent: .defaultIntent))
        XCTAssertTrue(try RGB(image).data == levels)
    }

    private func assertRefused(_ picture: @autoclosure () throws -> RGB, _ message: String) {
        XCTAssertThrowsError(try picture(), message) { error in
            guard case EdgegrainError.image = error else {
                return XCTFail("\(message): \(error)")
            }
        }
    }
}

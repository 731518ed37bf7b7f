import Foundation
import XCTest

@testable import Edgegrain

/// The golden files all clients share, tests/golden/ of the repository, and the default bundle.
enum GoldenFiles {
    static let repository = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent()  // EdgegrainTests
        .deletingLastPathComponent()  // Tests
        .deletingLastPathComponent()  // ios
        .deletingLastPathComponent()  // clients
        .deletingLastPathComponent()

    static func data(_ path: String) throws -> Data {
        try Data(contentsOf: repository.appendingPathComponent(path))
    }

    static func read<Value: Decodable>(_ type: Value.Type, _ path: String) throws -> Value {
        try JSONDecoder().decode(type, from: data(path))
    }

    static func bundle() throws -> EdgeBundle {
        try EdgeBundle(folder: repository.appendingPathComponent("bundles/faces-256-lr16-small"))
    }
}

/// A picture of cells of noise, as tests/golden/regenerate_clients.py says, or the binary PPM it names.
struct Source: Decodable {
    let file: String?
    let seed: UInt32?
    let block: Int?
    let size: [Int]?

    func levels(channels: Int) throws -> [UInt8] {
        let (width, height) = (try XCTUnwrap(size)[0], try XCTUnwrap(size)[1])
        let side = block ?? 1
        let across = (width + side - 1) / side
        let down = (height + side - 1) / side
        let cells = GoldenInputs.generatorBytes(seed: try XCTUnwrap(seed), count: across * down * channels)
        var levels: [UInt8] = []
        levels.reserveCapacity(width * height * channels)
        for y in 0..<height {
            for x in 0..<width {
                let cell = channels * (across * (y / side) + x / side)
                levels += cells[cell..<(cell + channels)]
            }
        }
        return levels
    }

    func picture() throws -> RGB {
        guard let file else {
            return try RGB(width: XCTUnwrap(size)[0], height: XCTUnwrap(size)[1], data: levels(channels: 3))
        }
        let data = [UInt8](try GoldenFiles.data("tests/golden/clients/\(file)"))
        let lines = data.split(separator: 10, maxSplits: 3, omittingEmptySubsequences: false)
        let sizes = String(decoding: lines[1], as: UTF8.self).split(separator: " ").compactMap { Int($0) }
        return try RGB(width: sizes[0], height: sizes[1], data: Array(lines[3]))
    }
}

func fit(_ name: String) throws -> Fit {
    try XCTUnwrap(["pad": Fit.pad, "stretch": .stretch, "crop": .crop, "align": .align][name])
}

func square(_ numbers: [Int]) -> OrientedSquare {
    OrientedSquare(x: numbers[0], y: numbers[1], acrossX: numbers[2], acrossY: numbers[3])
}

func bytes(_ text: String) throws -> [UInt8] {
    try XCTUnwrap(bytesOf(hex: text))
}

/// Compares a payload with what is written for its LR: version 1 becomes 2.
func assertRewritten(_ payload: Payload, _ again: Payload, _ name: String) {
    XCTAssertEqual(again.header.version, 2, name)
    XCTAssertEqual(again.text, PayloadText.base64url(again.bytes), name)
    XCTAssertTrue(payload.header.contract.hasPrefix(again.header.contract), name)
    if payload.header.version == 1 {
        XCTAssertLessThan(again.bytes.count, payload.bytes.count, name)
    } else {
        XCTAssertEqual(again.bytes, payload.bytes, name)
    }
}

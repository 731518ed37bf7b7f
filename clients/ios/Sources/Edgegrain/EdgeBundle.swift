import Foundation

/// Coder tables of an encoder, and the LR contract that the two make.
public struct Rate: Sendable {
    /// 64 hex digits.
    public let contractId: String
    public let tables: CoderTables
}

/// A bundle's phone half: what its manifest says, the coder's tables and the golden vectors, checked by SHA-256, and
/// where its encoder is.
public struct EdgeBundle: Sendable {
    public let id: String
    /// The kind of pictures that it encodes, such as `faces`.
    public let domain: String
    /// Of its own rate: 64 hex digits; a payload names the first four (eight in version 1).
    public let contractId: String
    /// Side of the encoder's square, in pixels.
    public let hr: Int
    /// Side of the LR.
    public let lr: Int
    /// Of its own rate.
    public let tables: CoderTables
    /// What payloads of this bundle are coded with, from most to fewest bytes.
    public let rates: [Rate]
    let ownRate: Rate
    public let golden: GoldenInputs
    /// The folder encoder.mlmodelc if the bundle's folder has it, else encoder.mlpackage, from which Xcode compiles it.
    public let encoder: URL
    /// SHA-256 of the names and digests of encoder.mlpackage's files, in hex; nil if `encoder` is compiled already.
    let packageDigest: String?

    private struct Manifest: Decodable {
        let schema: Int
        let id: String
        let domain: String
        let lr_contract_id: String
        let hr: Int
        let lr: Int
        let preprocessing: Preprocessing
        let rates: [RateEntry]?
        let files: [String: Entry]
    }

    private struct RateEntry: Decodable {
        let file: String
        let lr_contract_id: String
    }

    private struct Preprocessing: Decodable {
        let resize: String?  // bundles of tiles have none
        let pad: String?
        let tile_overlap: Int?
    }

    private struct Entry: Decodable {
        let sha256: String
    }

    /// Reads a bundle's folder; throws `EdgegrainError.bundle` if a file is missing, altered or malformed.
    ///
    /// The files of an encoder.mlpackage are checked by SHA-256 too. An encoder.mlmodelc in the same folder is used
    /// instead and is **not** checked: the manifest has no digests of it. `EdgeEncoder` compares only its LRs of the
    /// golden inputs, so use it only where nobody else can write, as in the resources of an app.
    public init(folder: URL) throws {
        let manifest: Manifest
        do {
            let data = try Data(contentsOf: folder.appendingPathComponent("manifest.json"))
            manifest = try JSONDecoder().decode(Manifest.self, from: data)
        } catch {
            throw EdgegrainError.bundle("\(folder.path) has no readable manifest.json: \(error.localizedDescription)")
        }
        guard manifest.schema == 1 else {
            throw EdgegrainError.bundle(
                "bundle \(manifest.id) has a manifest of schema \(manifest.schema), this release reads 1; "
                    + "update this library")
        }
        let preprocessing = manifest.preprocessing
        guard preprocessing.resize == "pillow-bilinear-22bit-width-first", preprocessing.pad == "edge",
            preprocessing.tile_overlap == nil
        else {
            throw EdgegrainError.bundle(
                "bundle \(manifest.id) prepares pictures in a way that this client does not know; "
                    + "let the service compress")
        }
        guard (1...16384).contains(manifest.hr), (1...Payload.maxLRSide).contains(manifest.lr) else {
            throw EdgegrainError.bundle("bundle \(manifest.id) has sides out of range: \(manifest.hr), \(manifest.lr)")
        }
        guard manifest.hr % manifest.lr == 0 else {
            throw EdgegrainError.bundle(
                "bundle \(manifest.id): hr \(manifest.hr) is no multiple of lr \(manifest.lr)")
        }
        let further = manifest.rates ?? []
        for contract in [manifest.lr_contract_id] + further.map(\.lr_contract_id) {
            guard contract.count == 64, bytesOf(hex: contract) != nil else {
                throw EdgegrainError.bundle(
                    "bundle \(manifest.id): its LR contract id is \(contract.prefix(80)), expected 64 hex digits")
            }
        }
        func verified(_ name: String) throws -> Data {
            guard let data = try? Data(contentsOf: folder.appendingPathComponent(name)) else {
                throw EdgegrainError.bundle("\(name) is missing in \(folder.path)")
            }
            guard sha256([UInt8](data)) == manifest.files[name]?.sha256 else {
                throw EdgegrainError.bundle("\(name) is not the file that the manifest names; fetch the bundle again")
            }
            return data
        }
        id = manifest.id
        domain = manifest.domain
        contractId = manifest.lr_contract_id
        hr = manifest.hr
        lr = manifest.lr
        tables = try CoderTables(json: verified("coder.json"))
        ownRate = Rate(contractId: contractId, tables: tables)
        let others = try further.map {
            try Rate(contractId: $0.lr_contract_id, tables: CoderTables(json: verified($0.file)))
        }
        rates = ([ownRate] + others).sorted { $0.tables.step < $1.tables.step }
        let vectors = try GoldenInputs(json: verified("golden.json"))
        guard vectors.hr == manifest.hr else {
            throw EdgegrainError.bundle(
                "bundle \(manifest.id) takes pictures of side \(manifest.hr), its golden vectors have side "
                    + "\(vectors.hr); fetch the bundle again")
        }
        golden = vectors
        let compiled = folder.appendingPathComponent("encoder.mlmodelc")
        if FileManager.default.fileExists(atPath: compiled.path) {
            encoder = compiled
            packageDigest = nil
        } else {
            encoder = folder.appendingPathComponent("encoder.mlpackage")
            let names = manifest.files.keys.filter { $0.hasPrefix("encoder.mlpackage/") }
            guard !names.isEmpty else {
                throw EdgegrainError.bundle("bundle \(manifest.id) lists no encoder.mlpackage")
            }
            var digests = ""
            for name in names.sorted() {
                let digest = try sha256([UInt8](verified(name)))
                digests += "\(name) \(digest)\n"
            }
            packageDigest = sha256([UInt8](digests.utf8))
        }
    }

    /// The rate of a payload; throws `EdgegrainError.payload` if none has its LR contract.
    public func rate(of header: Header) throws -> Rate {
        guard let rate = rates.first(where: { $0.contractId.hasPrefix(header.contract) }) else {
            throw EdgegrainError.payload(
                "the payload was made under LR contract \(header.contract), available: "
                    + rates.map(\.contractId).joined(separator: ", "))
        }
        return rate
    }
}

import CoreGraphics
import Edgegrain
import PhotosUI
import SwiftUI

/// Chooses a photograph and shows the size and the LR of its largest face's payload; the device proves itself first.
///
/// Use it in an app whose resources hold the bundle's folder:
/// `EncoderView(folder: Bundle.main.url(forResource: "faces-256-lr16-small", withExtension: nil)!)`.
public struct EncoderView: View {
    private let folder: URL
    @State private var encoder: EdgeEncoder?
    @State private var chosen: PhotosPickerItem?
    @State private var status = "Checking this device…"
    @State private var preview: CGImage?
    @State private var report: URL?

    public init(folder: URL) {
        self.folder = folder
    }

    public var body: some View {
        VStack(spacing: 16) {
            PhotosPicker("Choose a picture", selection: $chosen, matching: .images)
                .buttonStyle(.borderedProminent)
                .disabled(encoder == nil)
            Text(status)
                .multilineTextAlignment(.center)
            if let preview {
                Image(preview, scale: 1, label: Text("The tiny picture that travels"))
                    .interpolation(.none)
                    .resizable()
                    .aspectRatio(contentMode: .fit)
                    .frame(maxWidth: 320)
            }
            if let report {
                ShareLink("Device report", item: report)  // docs/devices.md
            }
        }
        .padding()
        .task { await open() }
        .task(id: chosen) {  // a later choice cancels this one
            if let chosen { await compress(chosen) }
        }
    }

    @MainActor
    private func open() async {
        guard encoder == nil else { return }  // the view has appeared again
        let source = folder
        var note = ""
        // First: a device that is not exact has a report too, and no encoder.
        do {
            report = try await Task.detached { try writeReport(EdgeBundle(folder: source)) }.value
        } catch {
            note = "\nNo device report: \(error.localizedDescription)"
        }
        do {
            encoder = try await Task.detached { try EdgeEncoder(EdgeBundle(folder: source)) }.value
            status = "This device encodes exactly." + note
        } catch {
            status = error.localizedDescription
        }
    }

    @MainActor
    private func compress(_ item: PhotosPickerItem) async {
        do {
            guard let encoder else { return }
            guard let data = try await item.loadTransferable(type: Data.self) else {
                throw EdgegrainError.image("the chosen picture cannot be loaded")
            }
            let picture = try await Task.detached { try RGB(encoded: data) }.value
            try Task.checkCancellation()
            let start = ContinuousClock.now
            let payload = try await encoder.compressPhoto(picture)
            let time = ContinuousClock.now - start
            let lr = try payload.lr(encoder.bundle)
            try Task.checkCancellation()
            preview = try lr.image()
            status = "\(picture.width) × \(picture.height) pixels became \(payload.bytes.count) bytes in \(time)."
        } catch {
            if !Task.isCancelled { status = error.localizedDescription }
        }
    }
}

/// Measures this device and writes device-report.json where it can be shared from.
private func writeReport(_ bundle: EdgeBundle) throws -> URL {
    let system = ProcessInfo.processInfo.operatingSystemVersionString
    let report = try DeviceReport.measure(bundle, device: "\(deviceModel()), \(system)")
    let url = FileManager.default.temporaryDirectory.appendingPathComponent("device-report.json")
    try JSONEncoder().encode(report).write(to: url)
    return url
}

/// Such as "iPhone16,1".
private func deviceModel() -> String {
    var system = utsname()
    uname(&system)
    return withUnsafeBytes(of: &system.machine) { memory in
        String(decoding: memory.prefix { $0 != 0 }, as: UTF8.self)
    }
}

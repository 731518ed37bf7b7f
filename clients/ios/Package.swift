// swift-tools-version: 5.9
import PackageDescription

// Not compiled so far, for want of a Swift compiler: see README.md.

let package = Package(
    name: "Edgegrain",
    platforms: [.iOS(.v16), .macOS(.v13)],
    products: [
        .library(name: "Edgegrain", targets: ["Edgegrain"]),
        .library(name: "EdgegrainSample", targets: ["EdgegrainSample"]),
    ],
    targets: [
        .target(name: "Edgegrain"),
        .target(name: "EdgegrainSample", dependencies: ["Edgegrain"]),
        .testTarget(name: "EdgegrainTests", dependencies: ["Edgegrain"]),
    ]
)

import CoreGraphics
import Vision

/// A face by the points that align it: in pixels from the upper left corner of the upright picture, left and right as
/// seen in the picture.
public struct FoundFace: Sendable {
    /// Side of its box, in pixels.
    public let side: Double
    /// The mean of the left eye's outline.
    public let leftEye: CGPoint
    public let rightEye: CGPoint
    /// The midpoint of the mouth's corners.
    public let mouth: CGPoint

    /// Its square in the picture that it was found in; `EdgegrainError.image` if it cannot be aligned.
    public func square(width: Int, height: Int) throws -> OrientedSquare {
        try FFHQSquare.around(leftEye: leftEye, rightEye: rightEye, mouth: mouth, width: width, height: height)
    }
}

/// Finds faces with Vision. **Not compiled or run so far**, see README.md: Vision's points were not compared with those
/// of Python's networks, so squares may differ more than those of the other clients.
public enum FaceFinder {
    /// The faces of an upright picture, the largest first; `EdgegrainError.device` if Vision fails.
    public static func find(_ picture: RGB) throws -> [FoundFace] {
        let request = VNDetectFaceLandmarksRequest()
        do {
            try VNImageRequestHandler(cgImage: picture.image(), orientation: .up).perform([request])
        } catch let error as EdgegrainError {
            throw error
        } catch {
            throw EdgegrainError.device("Vision cannot search for faces: \(error.localizedDescription)")
        }
        return (request.results ?? []).compactMap { face(of: $0, in: picture) }.sorted { $0.side > $1.side }
    }

    private static func face(of observation: VNFaceObservation, in picture: RGB) -> FoundFace? {
        let (width, height) = (CGFloat(picture.width), CGFloat(picture.height))
        func points(_ region: VNFaceLandmarkRegion2D?) -> [CGPoint] {
            // Vision's y runs up from the lower edge.
            (region?.pointsInImage(imageSize: CGSize(width: width, height: height)) ?? []).map {
                CGPoint(x: $0.x, y: height - $0.y)
            }
        }
        guard let landmarks = observation.landmarks else { return nil }
        let eyes = [points(landmarks.leftEye), points(landmarks.rightEye)]
        let lips = points(landmarks.outerLips)
        guard !eyes[0].isEmpty, !eyes[1].isEmpty, !lips.isEmpty else { return nil }
        let box = observation.boundingBox
        let side = max(box.width * width, box.height * height)
        return face(eyes: (mean(eyes[0]), mean(eyes[1])), lips: lips, side: Double(side))
    }

    /// A face by its eyes, in any order, and the outline of its lips.
    static func face(eyes: (CGPoint, CGPoint), lips: [CGPoint], side: Double) -> FoundFace? {
        let across = CGPoint(x: eyes.1.x - eyes.0.x, y: eyes.1.y - eyes.0.y)
        // The corners of the mouth are the outline's ends in the direction of the eyes.
        func along(_ point: CGPoint) -> CGFloat { point.x * across.x + point.y * across.y }
        guard let first = lips.min(by: { along($0) < along($1) }),
            let last = lips.max(by: { along($0) < along($1) })
        else { return nil }
        let mouth = mean([first, last])
        // The turn from the direction of the eyes, left to right, to the direction of the mouth is clockwise.
        let down = CGPoint(x: mouth.x - (eyes.0.x + eyes.1.x) / 2, y: mouth.y - (eyes.0.y + eyes.1.y) / 2)
        let isLeftFirst = across.x * down.y - across.y * down.x > 0
        return FoundFace(
            side: side, leftEye: isLeftFirst ? eyes.0 : eyes.1, rightEye: isLeftFirst ? eyes.1 : eyes.0, mouth: mouth)
    }

    private static func mean(_ points: [CGPoint]) -> CGPoint {
        let count = CGFloat(points.count)
        let sum = points.reduce(CGPoint.zero) { CGPoint(x: $0.x + $1.x, y: $0.y + $1.y) }
        return CGPoint(x: sum.x / count, y: sum.y / count)
    }
}

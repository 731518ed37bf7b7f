import CoreGraphics
import Foundation

/// The square that FFHQ cuts out around a face (Karras et al., "A Style-Based Generator Architecture for Generative
/// Adversarial Networks", 2019, appendix A). Not compiled so far: see README.md.
public enum FFHQSquare {
    // Limits of a picture that is framed already: the distance of the centres and the difference of the sides, in sides
    // of the picture, and the roll in degrees.
    private static let framedCentre = 0.03
    private static let framedSide = 0.08
    private static let framedRoll = 4.0

    /// The square of a face; `EdgegrainError.image` if a number is not finite, the points coincide, or the square is
    /// out of range. Points are in pixels from the upper left corner of the upright picture.
    ///
    /// - Parameters:
    ///   - leftEye: the eye that is on the left in the picture: the mean of its outline.
    ///   - rightEye: the other one.
    ///   - mouth: the midpoint of the mouth's corners.
    public static func around(
        leftEye: CGPoint, rightEye: CGPoint, mouth: CGPoint, width: Int, height: Int
    ) throws -> OrientedSquare {
        guard [leftEye, rightEye, mouth].allSatisfy({ $0.x.isFinite && $0.y.isFinite }) else {
            throw EdgegrainError.image("the points of a face are finite numbers")
        }
        let eyes = (x: Double(leftEye.x + rightEye.x) / 2, y: Double(leftEye.y + rightEye.y) / 2)
        let eyeToEye = (x: Double(rightEye.x - leftEye.x), y: Double(rightEye.y - leftEye.y))
        let eyeToMouth = (x: Double(mouth.x) - eyes.x, y: Double(mouth.y) - eyes.y)
        // The second vector is rotated to the direction of the first.
        let across = (x: eyeToEye.x + eyeToMouth.y, y: eyeToEye.y - eyeToMouth.x)
        let length = hypot(across.x, across.y)
        guard length > 0 else {
            throw EdgegrainError.image("the points of the face coincide; it is too small to be aligned")
        }
        let half = max(2 * hypot(eyeToEye.x, eyeToEye.y), 1.8 * hypot(eyeToMouth.x, eyeToMouth.y))
        do {
            return try OrientedSquare(
                nearest: CGPoint(x: eyes.x + 0.1 * eyeToMouth.x, y: eyes.y + 0.1 * eyeToMouth.y),
                across: CGPoint(x: 2 * (across.x * (half / length)), y: 2 * (across.y * (half / length))),
                width: width, height: height)
        } catch {
            throw EdgegrainError.image("the face cannot be aligned: \(error.localizedDescription)")
        }
    }

    /// True for a picture that is already framed like FFHQ's: the square of its face is the picture.
    public static func isFramed(_ square: OrientedSquare, width: Int, height: Int) -> Bool {
        let units = Double(OrientedSquare.units)
        let (width, height) = (Double(width), Double(height))
        let roll = atan2(Double(square.acrossY), Double(square.acrossX)) * 180 / .pi
        return hypot(Double(square.x) / units / width - 0.5, Double(square.y) / units / height - 0.5) <= framedCentre
            && abs(roll) <= framedRoll && abs(square.side / width - 1) <= framedSide
            && abs(square.side / height - 1) <= framedSide
    }
}

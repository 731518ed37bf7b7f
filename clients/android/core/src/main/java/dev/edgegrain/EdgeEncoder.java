package dev.edgegrain;

import java.util.ArrayList;
import java.util.List;

/** An encoder that has proven itself on this device: pictures to payloads. It owns its runner. */
public final class EdgeEncoder implements AutoCloseable {
    private static final String FACES = "faces";

    private final Bundle bundle;
    private final EncoderRunner runner;
    private final int maxBytes;

    /**
     * Runs the bundle's golden vectors; throws {@link DeviceException} if this device computes other bytes. Closes the
     * runner if it throws anything: the caller has no encoder to close then.
     */
    public EdgeEncoder(Bundle bundle, EncoderRunner runner) {
        this(bundle, runner, Integer.MAX_VALUE);
        try {
            requireExact();
        } catch (RuntimeException | Error error) {
            runner.close();
            throw error;
        }
    }

    private EdgeEncoder(Bundle bundle, EncoderRunner runner, int maxBytes) {
        this.bundle = bundle;
        this.runner = runner;
        this.maxBytes = maxBytes;
    }

    /** This encoder with the best rate whose payload has at most {@code maxBytes}, else the last one. */
    EdgeEncoder within(int maxBytes) {
        return new EdgeEncoder(bundle, runner, maxBytes);
    }

    /**
     * Compresses a photograph: of a bundle of faces its largest face, as {@code sdk.compress} does in Python. A picture
     * that is already framed like FFHQ's is encoded whole, as is every picture of other bundles. Throws
     * {@link ImageException} if no face is found, or if it cannot be aligned.
     */
    public Payload compressPhoto(Rgb picture, FaceFinder finder) {
        if (!bundle.domain.equals(FACES)) {
            return compress(picture, Fit.PAD);
        }
        FoundFace face = requireFaces(finder.find(picture), picture).get(0);
        return compressAligned(picture, face.square(picture.width, picture.height));
    }

    /**
     * Compresses every face of a photograph with a size of at least 32 pixels, the largest first, as
     * {@code sdk.compress_faces} does in Python; those that cannot be aligned are left out. Throws
     * {@link ImageException} if there is no such face.
     */
    public List<Payload> compressFaces(Rgb picture, FaceFinder finder) {
        List<Payload> payloads = new ArrayList<>();
        for (OrientedSquare square : squares(picture, finder, DetectedFace.LEAST_PIXELS)) {
            payloads.add(compressAligned(picture, square));
        }
        return payloads;
    }

    /**
     * Compresses a photograph with all its faces, also small ones, up to {@link Scene#MAX_FACES}; errors as
     * {@link #compressFaces}.
     *
     * @param backgroundWebp the whole photograph as a small lossy WebP file, see {@link Scene#pack}; null for none
     */
    public Scene compressScene(Rgb picture, FaceFinder finder, byte[] backgroundWebp) {
        List<OrientedSquare> squares = squares(picture, finder, 0);
        List<Payload> faces = new ArrayList<>();
        for (OrientedSquare square : squares.subList(0, Math.min(squares.size(), Scene.MAX_FACES))) {
            faces.add(compressSquare(picture, square));
        }
        return Scene.pack(faces, picture.width, picture.height, backgroundWebp);
    }

    /**
     * Compresses the face at these points, for apps that find faces themselves, such as with ML Kit. All points are x
     * and y in pixels of the upright picture. A picture that is already framed like FFHQ's is encoded whole.
     *
     * @param leftEye the eye that is on the left in the picture: the mean of its outline
     * @param rightEye the other one
     * @param mouth the midpoint of the mouth's corners
     * @throws ImageException if the face cannot be aligned, see {@link FfhqSquare#around}
     */
    public Payload compressFace(Rgb picture, double[] leftEye, double[] rightEye, double[] mouth) {
        return compressAligned(picture, FfhqSquare.around(leftEye, rightEye, mouth, picture.width, picture.height));
    }

    /** Compresses a square of a picture; throws {@link PayloadException} if {@link OrientedSquare#check} refuses it. */
    public Payload compressSquare(Rgb picture, OrientedSquare square) {
        square.check(picture.width, picture.height);
        Rgb lr = runner.encode(ExactSquare.cut(picture, square, bundle.hr));
        return firstWithin(rate -> Payload.pack(
                lr, rate.contractId, rate.tables, picture.width, picture.height, square));
    }

    /** Compresses a whole picture: the same bytes as {@code sdk.compress} in Python makes with this fit. */
    public Payload compress(Rgb picture, Fit fit) {
        Rgb lr = runner.encode(fit.apply(picture, bundle.hr));
        return firstWithin(rate -> Payload.pack(
                lr, rate.contractId, rate.tables, picture.width, picture.height, fit));
    }

    /** Closes the runner. */
    @Override
    public void close() {
        runner.close();
    }

    private Payload compressAligned(Rgb picture, OrientedSquare square) {
        return FfhqSquare.isFramed(square, picture.width, picture.height)
                ? compress(picture, Fit.PAD) : compressSquare(picture, square);
    }

    private interface Packer {
        Payload pack(Rate rate);
    }

    private Payload firstWithin(Packer packer) {
        if (maxBytes == Integer.MAX_VALUE) {
            return packer.pack(bundle.ownRate);
        }
        Payload payload = null;
        for (Rate rate : bundle.rates) {
            payload = packer.pack(rate);
            if (payload.bytes().length <= maxBytes) {
                break;
            }
        }
        return payload;
    }

    private List<OrientedSquare> squares(Rgb picture, FaceFinder finder, double least) {
        if (!bundle.domain.equals(FACES)) {
            throw new ImageException(
                    "bundle " + bundle.id + " is for " + bundle.domain + ", not for faces of photographs");
        }
        List<FoundFace> faces = requireFaces(finder.find(picture, true), picture);
        DetectedFace largest = faces.get(0).detected;
        if (largest.side < least) {
            throw new ImageException(
                    largest.problems(picture.width, picture.height).get(DetectedFace.Problem.TOO_SMALL));
        }
        List<OrientedSquare> squares = new ArrayList<>();
        for (FoundFace face : faces) {
            if (face.detected.side < least) {
                break;
            }
            try {
                squares.add(face.square(picture.width, picture.height));
            } catch (ImageException error) {
                continue; // its centre lies outside of the picture
            }
        }
        return squares;
    }

    private static List<FoundFace> requireFaces(List<FoundFace> faces, Rgb picture) {
        if (faces.isEmpty()) {
            throw new ImageException("no face was found in the picture of " + picture.width + " x " + picture.height
                    + " pixels; use another picture, or encode all of it: compress(picture, Fit.PAD)");
        }
        return faces;
    }

    private void requireExact() {
        List<String> failed = bundle.golden.check(runner);
        if (!failed.isEmpty()) {
            throw new DeviceException(
                    "this device encodes " + failed + " to other bytes; let the service compress instead");
        }
    }
}

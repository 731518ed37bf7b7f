import dev.edgegrain.Bundle;
import dev.edgegrain.Payload;
import dev.edgegrain.Rate;
import dev.edgegrain.Rgb;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;

/** Reads a payload, decodes its LR, and packs it again into PAYLOAD.again. */
public final class ReadPayload {
    public static void main(String[] arguments) throws IOException {
        Path folder = Paths.get(arguments[0]);
        Path file = Paths.get(arguments[1]);
        Bundle bundle = Bundle.read(name -> Files.newInputStream(folder.resolve(name)));
        Payload payload = Payload.read(Files.readAllBytes(file));
        Rate rate = bundle.rate(payload.header);
        Rgb lr = payload.lr(rate.contractId, rate.tables);
        int width = payload.header.originalWidth;
        int height = payload.header.originalHeight;
        Payload again = payload.header.square == null
                ? Payload.pack(lr, rate.contractId, rate.tables, width, height, payload.header.fit)
                : Payload.pack(lr, rate.contractId, rate.tables, width, height, payload.header.square);
        Files.write(Paths.get(file + ".again"), again.bytes());
        System.out.println(bundle.id + ": " + payload.bytes().length + " bytes, LR " + lr.width + " x " + lr.height
                + ", picture " + width + " x " + height);
    }
}

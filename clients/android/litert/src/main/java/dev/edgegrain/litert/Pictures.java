package dev.edgegrain.litert;

import android.content.ContentResolver;
import android.graphics.Bitmap;
import android.graphics.BitmapFactory;
import android.graphics.ColorSpace;
import android.net.Uri;
import android.os.Build;
import androidx.exifinterface.media.ExifInterface;
import dev.edgegrain.ImageException;
import dev.edgegrain.Orientation;
import dev.edgegrain.Rgb;
import java.io.IOException;
import java.io.InputStream;

/**
 * Pictures of Android as RGB. JPEG decoders differ from platform to platform: equality of bytes begins at the RGB that
 * comes out here. Not built with the Android SDK so far: see README.md.
 */
public final class Pictures {
    private Pictures() {}

    /** Decodes a picture at full size, upright and in sRGB, on a white background. */
    public static Rgb read(ContentResolver resolver, Uri uri) throws IOException {
        BitmapFactory.Options options = new BitmapFactory.Options();
        options.inPreferredConfig = Bitmap.Config.ARGB_8888;
        options.inPremultiplied = false;
        options.inScaled = false;
        if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.O) {
            options.inPreferredColorSpace = ColorSpace.get(ColorSpace.Named.SRGB);
        }
        Bitmap bitmap;
        try (InputStream input = open(resolver, uri)) {
            bitmap = BitmapFactory.decodeStream(input, null, options);
        }
        if (bitmap == null) {
            throw new ImageException("Android cannot decode the picture " + uri);
        }
        return Orientation.upright(rgb(bitmap), orientation(resolver, uri));
    }

    /** The pixels of a bitmap on a white background. */
    public static Rgb rgb(Bitmap bitmap) {
        int[] pixels = new int[bitmap.getWidth() * bitmap.getHeight()];
        // getPixels gives straight alpha, whether the bitmap holds it or not.
        bitmap.getPixels(pixels, 0, bitmap.getWidth(), 0, 0, bitmap.getWidth(), bitmap.getHeight());
        return Rgb.flatten(bitmap.getWidth(), bitmap.getHeight(), pixels, Rgb.WHITE);
    }

    private static InputStream open(ContentResolver resolver, Uri uri) throws IOException {
        InputStream input = resolver.openInputStream(uri);
        if (input == null) {
            throw new IOException("there is nothing at " + uri);
        }
        return input;
    }

    private static int orientation(ContentResolver resolver, Uri uri) throws IOException {
        try (InputStream input = open(resolver, uri)) {
            return new ExifInterface(input)
                    .getAttributeInt(ExifInterface.TAG_ORIENTATION, ExifInterface.ORIENTATION_NORMAL);
        }
    }
}

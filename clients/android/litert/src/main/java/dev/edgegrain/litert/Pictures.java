package dev.edgegrain.litert;

import android.content.ContentResolver;
import android.graphics.Bitmap;
import android.graphics.BitmapFactory;
import android.graphics.Color;
import android.graphics.ColorSpace;
import android.net.Uri;
import android.os.Build;
import androidx.exifinterface.media.ExifInterface;
import dev.edgegrain.EdgeEncoder;
import dev.edgegrain.ExactResize;
import dev.edgegrain.Fit;
import dev.edgegrain.ImageException;
import dev.edgegrain.Orientation;
import dev.edgegrain.PictureFile;
import dev.edgegrain.Rgb;
import dev.edgegrain.Scene;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;

/**
 * Pictures of Android as RGB. JPEG decoders differ from platform to platform: equality of bytes begins at the RGB that
 * comes out here. Not built with the Android SDK so far: see README.md.
 */
public final class Pictures {
    /** Rows of at most this many pixels are taken from a bitmap at once. */
    private static final int STRIP_PIXELS = 1 << 20;

    private static final int BACKGROUND_SIDE = 24;

    private Pictures() {}

    /** Decodes a picture of at most {@link PictureFile#MAX_PIXELS} pixels. */
    public static Rgb read(ContentResolver resolver, Uri uri) throws IOException {
        return read(resolver, uri, PictureFile.MAX_PIXELS);
    }

    /**
     * Decodes a picture at full size, upright and in sRGB, on a white background. Throws {@link ImageException} if
     * Android cannot decode it, if it is truncated or claims more than {@code maxPixels}, or if the app has too little
     * memory for it. The size is checked before the pixels are decoded.
     */
    public static Rgb read(ContentResolver resolver, Uri uri, int maxPixels) throws IOException {
        try {
            return decode(resolver, uri, maxPixels);
        } catch (OutOfMemoryError error) {
            throw new ImageException("the app has too little memory for the picture " + uri + "; reduce the picture");
        }
    }

    /** The pixels of a bitmap on a white background; {@link ImageException} if a hardware bitmap cannot be copied. */
    public static Rgb rgb(Bitmap bitmap) {
        if (Build.VERSION.SDK_INT < Build.VERSION_CODES.O || bitmap.getConfig() != Bitmap.Config.HARDWARE) {
            return upright(bitmap, ExifInterface.ORIENTATION_NORMAL);
        }
        Bitmap copy = bitmap.copy(Bitmap.Config.ARGB_8888, false); // getPixels refuses bitmaps in graphics memory
        if (copy == null) {
            throw new ImageException("Android cannot copy the hardware bitmap; decode it as Bitmap.Config.ARGB_8888");
        }
        try {
            return upright(copy, ExifInterface.ORIENTATION_NORMAL);
        } finally {
            copy.recycle();
        }
    }

    /** A background of some dozen bytes for {@link EdgeEncoder#compressScene}, as by default in Python. */
    public static byte[] background(Rgb picture) {
        return background(picture, BACKGROUND_SIDE, 0);
    }

    /**
     * A whole photograph as a small lossy WebP file.
     *
     * @param longestSide in pixels, at most {@link Scene#MAX_BACKGROUND_SIDE}
     * @param quality 0 to 99
     */
    public static byte[] background(Rgb picture, int longestSide, int quality) {
        int[] size = Fit.contentSize(picture.width, picture.height, longestSide);
        Bitmap bitmap = bitmap(ExactResize.resize(picture, size[0], size[1]));
        ByteArrayOutputStream output = new ByteArrayOutputStream();
        try {
            bitmap.setHasAlpha(false);
            if (!bitmap.compress(lossyWebp(), quality, output)) {
                throw new ImageException("Android cannot encode the background as WebP");
            }
        } finally {
            bitmap.recycle();
        }
        return output.toByteArray();
    }

    /** The pixels as a bitmap. */
    public static Bitmap bitmap(Rgb rgb) {
        int[] colours = new int[rgb.width * rgb.height];
        for (int index = 0; index < colours.length; index++) {
            int red = rgb.data[3 * index] & 255;
            int green = rgb.data[3 * index + 1] & 255;
            int blue = rgb.data[3 * index + 2] & 255;
            colours[index] = Color.rgb(red, green, blue);
        }
        return Bitmap.createBitmap(colours, rgb.width, rgb.height, Bitmap.Config.ARGB_8888);
    }

    @SuppressWarnings("deprecation") // the only one before Android 11; it is lossy with qualities under 100
    private static Bitmap.CompressFormat lossyWebp() {
        return Build.VERSION.SDK_INT >= Build.VERSION_CODES.R
                ? Bitmap.CompressFormat.WEBP_LOSSY : Bitmap.CompressFormat.WEBP;
    }

    private static Rgb upright(Bitmap bitmap, int orientation) {
        int width = bitmap.getWidth();
        int height = bitmap.getHeight();
        int rows = Math.min(height, Math.max(1, STRIP_PIXELS / width));
        Rgb upright = Orientation.blank(width, height, orientation);
        for (int top = 0; top < height; top += rows) {
            int count = Math.min(rows, height - top);
            int[] pixels = new int[width * count];
            // getPixels gives straight alpha, whether the bitmap holds it or not.
            bitmap.getPixels(pixels, 0, width, 0, top, width, count);
            Orientation.write(Rgb.flatten(width, count, pixels, Rgb.WHITE), top, orientation, upright);
        }
        return upright;
    }

    private static Rgb decode(ContentResolver resolver, Uri uri, int maxPixels) throws IOException {
        byte[] data = PictureFile.complete(readAll(resolver, uri));
        BitmapFactory.Options bounds = new BitmapFactory.Options();
        bounds.inJustDecodeBounds = true;
        BitmapFactory.decodeByteArray(data, 0, data.length, bounds);
        if (bounds.outWidth < 0) {
            throw new ImageException("Android cannot decode the picture " + uri);
        }
        PictureFile.checkSize(bounds.outWidth, bounds.outHeight, maxPixels);
        BitmapFactory.Options options = new BitmapFactory.Options();
        options.inPreferredConfig = Bitmap.Config.ARGB_8888;
        options.inPremultiplied = false;
        options.inScaled = false;
        if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.O) {
            options.inPreferredColorSpace = ColorSpace.get(ColorSpace.Named.SRGB);
        }
        Bitmap bitmap = BitmapFactory.decodeByteArray(data, 0, data.length, options);
        if (bitmap == null) {
            throw new ImageException("Android cannot decode the picture " + uri);
        }
        try {
            if (PictureFile.isJpeg(data) && endsGrey(bitmap) && !small(data).sameAs(small(PictureFile.longerJpeg(data)))) {
                throw new ImageException("the picture " + uri + " is truncated");
            }
            return upright(bitmap, orientation(data));
        } finally {
            bitmap.recycle();
        }
    }

    /** True for the grey that decoders put in the place of missing data of a JPEG, or of one in CMYK. */
    private static boolean endsGrey(Bitmap bitmap) {
        int[] pixel = new int[1];
        bitmap.getPixels(pixel, 0, 1, bitmap.getWidth() - 1, bitmap.getHeight() - 1, 1, 1);
        byte[] levels = Rgb.flatten(1, 1, pixel, Rgb.WHITE).data;
        int least = Math.min(levels[0] & 255, Math.min(levels[1] & 255, levels[2] & 255));
        int most = Math.max(levels[0] & 255, Math.max(levels[1] & 255, levels[2] & 255));
        return least >= 127 && most <= 129 || least >= 63 && most <= 65;
    }

    private static Bitmap small(byte[] data) {
        BitmapFactory.Options options = new BitmapFactory.Options();
        options.inSampleSize = 8;
        return BitmapFactory.decodeByteArray(data, 0, data.length, options);
    }

    private static byte[] readAll(ContentResolver resolver, Uri uri) throws IOException {
        try (InputStream input = resolver.openInputStream(uri)) {
            if (input == null) {
                throw new IOException("there is nothing at " + uri);
            }
            ByteArrayOutputStream output = new ByteArrayOutputStream();
            byte[] part = new byte[1 << 16];
            for (int count = input.read(part); count >= 0; count = input.read(part)) {
                output.write(part, 0, count);
            }
            return output.toByteArray();
        }
    }

    private static int orientation(byte[] data) throws IOException {
        return new ExifInterface(new ByteArrayInputStream(data))
                .getAttributeInt(ExifInterface.TAG_ORIENTATION, ExifInterface.ORIENTATION_NORMAL);
    }
}

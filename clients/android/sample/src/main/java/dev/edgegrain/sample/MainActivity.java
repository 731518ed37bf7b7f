package dev.edgegrain.sample;

import android.app.Activity;
import android.content.Intent;
import android.graphics.Bitmap;
import android.net.Uri;
import android.os.Build;
import android.os.Bundle;
import android.view.Gravity;
import android.view.View;
import android.widget.Button;
import android.widget.ImageView;
import android.widget.LinearLayout;
import android.widget.TextView;
import dev.edgegrain.DeviceReport;
import dev.edgegrain.EdgeEncoder;
import dev.edgegrain.EncoderRunner;
import dev.edgegrain.FaceFinder;
import dev.edgegrain.Payload;
import dev.edgegrain.Rgb;
import dev.edgegrain.litert.LiteRtFaces;
import dev.edgegrain.litert.LiteRtRunner;
import dev.edgegrain.litert.Pictures;
import java.io.File;
import java.io.FileOutputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;

/**
 * Chooses a photograph and shows the size and the LR of its largest face's payload; the device proves itself first. Not
 * built so far: see README.md.
 */
public final class MainActivity extends Activity {
    private static final int CHOOSE = 1;
    private static final int THREADS = 4;
    private static final int RUNS = 20;
    private static final String RUNTIME = "LiteRT 2.3.0, CompiledModel, XNNPACK";

    private final ExecutorService worker = Executors.newSingleThreadExecutor();
    private TextView status;
    private Button choose;
    private ImageView preview;
    // Of the worker's thread only.
    private dev.edgegrain.Bundle bundle;
    private EdgeEncoder encoder;
    private FaceFinder finder;

    @Override
    protected void onCreate(Bundle state) {
        super.onCreate(state);
        status = new TextView(this);
        status.setText(R.string.checking);
        status.setAccessibilityLiveRegion(View.ACCESSIBILITY_LIVE_REGION_POLITE);
        choose = new Button(this);
        choose.setText(R.string.choose);
        choose.setEnabled(false);
        choose.setOnClickListener(view -> choosePicture());
        preview = new ImageView(this);
        preview.setContentDescription(getText(R.string.lr));
        preview.setAdjustViewBounds(true);
        LinearLayout layout = new LinearLayout(this);
        layout.setOrientation(LinearLayout.VERTICAL);
        layout.setGravity(Gravity.CENTER);
        layout.setFitsSystemWindows(true);
        layout.addView(choose);
        layout.addView(status);
        layout.addView(preview);
        setContentView(layout);
        worker.execute(this::open);
    }

    @Override
    protected void onActivityResult(int request, int result, Intent data) {
        super.onActivityResult(request, result, data);
        if (request == CHOOSE && result == RESULT_OK && data != null && data.getData() != null) {
            Uri uri = data.getData();
            worker.execute(() -> compress(uri));
        }
    }

    @Override
    protected void onDestroy() {
        worker.execute(() -> {
            if (encoder != null) {
                encoder.close();
            }
            if (finder != null) {
                finder.close();
            }
        });
        worker.shutdown();
        super.onDestroy();
    }

    private void choosePicture() {
        Intent intent = new Intent(Intent.ACTION_OPEN_DOCUMENT);
        startActivityForResult(intent.addCategory(Intent.CATEGORY_OPENABLE).setType("image/*"), CHOOSE);
    }

    private void open() {
        try {
            bundle = dev.edgegrain.Bundle.read(name -> getAssets().open("bundle/" + name));
            EncoderRunner runner = new LiteRtRunner(bundle, getCacheDir(), THREADS);
            String note = tryReport(runner); // first: a device that is not exact has a report too, and no encoder
            encoder = new EdgeEncoder(bundle, runner);
            finder = LiteRtFaces.open(this, THREADS);
            runOnUiThread(() -> {
                status.setText(getString(R.string.exact) + note);
                choose.setEnabled(true);
            });
        } catch (RuntimeException error) {
            show(error);
        }
    }

    /** Writes the report; returns the note that is shown if it cannot be written. */
    private String tryReport(EncoderRunner runner) {
        try {
            writeReport(runner);
            return "";
        } catch (IOException | RuntimeException error) {
            return "\n" + getString(R.string.no_report, error.getMessage());
        }
    }

    /** For {@code adb pull}: docs/devices.md. */
    private void writeReport(EncoderRunner runner) throws IOException {
        String device = Build.MANUFACTURER + " " + Build.MODEL + ", Android " + Build.VERSION.RELEASE;
        String report = DeviceReport.measure(bundle, runner, device, RUNTIME, THREADS, RUNS);
        File file = new File(getExternalFilesDir(null), "device-report.json");
        try (FileOutputStream output = new FileOutputStream(file)) {
            output.write(report.getBytes(StandardCharsets.UTF_8));
        }
    }

    private void compress(Uri uri) {
        try {
            Rgb picture = Pictures.read(getContentResolver(), uri);
            long start = System.nanoTime();
            Payload payload = encoder.compressPhoto(picture, finder);
            long milliseconds = (System.nanoTime() - start) / 1_000_000;
            Bitmap lr = enlarged(payload.lr(bundle));
            runOnUiThread(() -> {
                status.setText(getString(
                        R.string.done, picture.width, picture.height, payload.bytes().length, milliseconds));
                preview.setImageBitmap(lr);
            });
        } catch (IOException | RuntimeException error) { // other apps' content may be forbidden or broken
            show(error);
        }
    }

    private void show(Exception error) {
        runOnUiThread(() -> status.setText(error.getMessage()));
    }

    /** The LR with its pixels visible. */
    private static Bitmap enlarged(Rgb lr) {
        return Bitmap.createScaledBitmap(Pictures.bitmap(lr), 32 * lr.width, 32 * lr.height, false);
    }
}

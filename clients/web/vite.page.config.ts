import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { gzipSync } from "node:zlib";

import { defaultClientConditions, defineConfig, type Plugin } from "vite";

const require = createRequire(import.meta.url);

/** ONNX Runtime's WebAssembly, compressed once here instead of at every start of the service. */
function compressedRuntime(): Plugin {
  return {
    name: "edgegrain-compressed-runtime",
    generateBundle() {
      for (const name of ["ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"]) {
        const source = gzipSync(readFileSync(require.resolve(`onnxruntime-web/${name}`)), { level: 9 });
        this.emitFile({ type: "asset", fileName: `runtime/${name}.gz`, source });
      }
    },
  };
}

/** The networks that find faces, which the package has next to its modules, from `faces/` of the service. */
function faceNetworks(): Plugin {
  return {
    name: "edgegrain-face-networks",
    enforce: "pre",
    transform(code, id) {
      if (!id.endsWith("/src/face_networks.ts")) return undefined;
      return { code: code.replaceAll('new URL("./face_', 'new URL(/* @vite-ignore */ "../faces/face_'), map: null };
    },
  };
}

/** Digest of everything the page is built from, so that a test notices a page that is older than its sources. */
function sourcesDigest(): Plugin {
  return {
    name: "edgegrain-sources-digest",
    generateBundle() {
      const below = (folder: string) =>
        readdirSync(folder, { recursive: true, withFileTypes: true })
          .filter((entry) => entry.isFile())
          .map((entry) => join(entry.parentPath, entry.name).replaceAll("\\", "/"));
      const files = [...below("page"), ...below("src"), "package-lock.json", "vite.page.config.ts"].sort();
      const digest = createHash("sha256");
      for (const file of files) digest.update(`${file}\0`).update(readFileSync(file)).update("\0");
      this.emitFile({ type: "asset", fileName: "sources.txt", source: `${digest.digest("hex")}\n` });
    },
  };
}

/** `npm run build:page` writes what `edgegrain serve` serves at `/`; the result is kept in the repository. */
export default defineConfig({
  root: "page",
  base: "./",
  resolve: { conditions: ["onnxruntime-web-use-extern-wasm", ...defaultClientConditions] },
  worker: { format: "es", plugins: () => [faceNetworks()] },
  build: {
    outDir: "../../../edgegrain/service/web",
    emptyOutDir: true,
    assetsInlineLimit: 0,
    target: "es2022",
    modulePreload: { polyfill: false },
  },
  plugins: [compressedRuntime(), sourcesDigest()],
});

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

import { defaultClientConditions, type Plugin } from "vite";
import { defineConfig } from "vitest/config";

/** Copies ONNX Runtime's WebAssembly beside what is built: it is loaded at run time, by threads of its own too. */
export function runtimeFiles(folder: string): Plugin {
  const require = createRequire(import.meta.url);
  return {
    name: "edgegrain-runtime-files",
    apply: "build",
    generateBundle() {
      for (const name of ["ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"]) {
        const source = readFileSync(require.resolve(`onnxruntime-web/${name}`));
        this.emitFile({ type: "asset", fileName: `${folder}/${name}`, source });
      }
    },
  };
}

export default defineConfig({
  resolve: { conditions: ["onnxruntime-web-use-extern-wasm", ...defaultClientConditions] },
  base: "./", // the worker lies relative to the library, wherever that is
  build: {
    lib: { entry: "src/index.ts", formats: ["es"], fileName: "index" },
    target: "es2022",
    rolldownOptions: { external: [/^onnxruntime-web/, /^@noble/] },
  },
  worker: { format: "es" },
  plugins: [runtimeFiles("runtime")],
  test: {
    include: ["tests/**/*.test.ts"],
    testTimeout: 120_000,
    hookTimeout: 120_000,
    pool: "threads",
    maxWorkers: 1,
    isolate: false,
  },
});

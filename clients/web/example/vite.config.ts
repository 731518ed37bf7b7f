import { defineConfig } from "vite";

// With these two headers the page may use several threads.
const headers = { "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp" };

export default defineConfig({ server: { headers }, preview: { headers } });

import { execFileSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";

import { expect, test } from "vitest";

const web = fileURLToPath(new URL("..", import.meta.url));

interface Packed {
  readonly size: number;
  readonly files: readonly { readonly path: string }[];
}

test("the package holds every module of src/ with its types, the networks that find faces, and nothing else", () => {
  // npm is a script of Node's, which Windows cannot start by its name.
  const npm = process.env.npm_execpath;
  const [file, words] = npm ? [process.execPath, [npm]] : ["npm", []];
  execFileSync(file, [...words, "run", "build"], { cwd: web });
  const printed = execFileSync(file, [...words, "pack", "--dry-run", "--json", "--ignore-scripts"], { cwd: web });
  const [packed] = JSON.parse(String(printed)) as Packed[];
  const modules = readdirSync(`${web}src`).map((name) => name.replace(/\.ts$/, ""));
  const built = modules.flatMap((name) => [`dist/${name}.js`, `dist/${name}.d.ts`]);
  const paths = packed.files.map(({ path }) => path).filter((path) => path !== "LICENSE"); // made by `npm pack`
  const networks = ["dist/face_detector.onnx", "dist/face_landmarks.onnx"];
  expect(paths.sort()).toEqual(["README.md", "package.json", ...networks, ...built].sort());
  expect(packed.size).toBeLessThan(1_600_000);
});

/** Stand-ins of React Native's modules: its `Image` as an `<img>`, and ONNX Runtime's WebAssembly backend. */

import { createElement, type ReactElement } from "react";

export { InferenceSession, Tensor } from "onnxruntime-web/wasm";

interface ImageProps {
  readonly source: { readonly uri?: string };
  readonly alt: string;
  readonly style: readonly object[];
}

export function Image({ source, alt, style }: ImageProps): ReactElement {
  return createElement("img", { src: source.uri, alt, style: Object.assign({}, ...style) as object });
}

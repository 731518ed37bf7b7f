"use client";
/** A received payload in React: `<EdgegrainImage payload={text} service="https://host" />`. */

import { createElement, type CSSProperties, type ReactElement, useEffect, useMemo, useState } from "react";

import { payloadToText } from "./payload_text.js";
import { aspectOf, initially, type Restoring, restoring, type RestoringOptions } from "./restoring.js";

export type { Restoring, RestoringOptions };

export interface EdgegrainImageProps extends RestoringOptions {
  /** A payload, or its text as base64url or base45. */
  readonly payload: Uint8Array | string;
  readonly alt?: string;
  readonly className?: string;
  readonly style?: CSSProperties;
  /** Called with the file of the restored picture. */
  readonly onRestored?: (picture: Blob) => void;
  /** Called if there is no restored picture; the preview stays. */
  readonly onError?: (error: Error) => void;
}

/** An `<img>` of the payload's preview, then of the restored picture; `data-step` says which, for styles. */
export function EdgegrainImage(props: EdgegrainImageProps): ReactElement {
  const { payload, alt = "Restored picture; its fine detail is generated", className, style } = props;
  const { onRestored, onError } = props;
  const { step, src, restored, error } = useRestoring(payload, props);
  const aspectRatio = useMemo(() => aspectOf(payload), [payload]);
  useEffect(() => { if (restored) onRestored?.(restored); }, [restored]);
  useEffect(() => { if (error) onError?.(error); }, [error]);
  return createElement("img", { src, alt, className, style: { aspectRatio, ...style }, "data-step": step });
}

/** The same without an element: `src` is the address of what is to be shown. */
export function useRestoring(
  payload: Uint8Array | string, { service, size, token, bundle }: RestoringOptions,
): Restoring & { readonly src?: string } {
  // Arrays and tables that are equal, but made again by every rendering, must not start again.
  const text = typeof payload === "string" ? payload : payloadToText(payload);
  const first = useMemo(() => initially(text, bundle), [text, bundle?.contractId]);
  const [state, setState] = useState<Restoring & { url?: string }>(first);
  useEffect(() => {
    let url: string | undefined;
    const stop = restoring(text, { service, size, token, bundle }, (next) => {
      if (next.restored) url ??= URL.createObjectURL(next.restored);
      setState({ ...next, url });
    }, first);
    return () => {
      stop();
      if (url) URL.revokeObjectURL(url);
    };
  }, [text, service, size, token, bundle?.contractId]);
  return { ...state, src: state.url ?? state.preview };
}

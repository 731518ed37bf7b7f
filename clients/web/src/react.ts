"use client";
/** A received payload in React: `<EdgegrainImage payload={text} service="https://host" />`. */

import { createElement, type CSSProperties, type ReactElement, useEffect, useMemo, useState } from "react";

import { payloadToText } from "./payload_text.js";
import { aspectOf, initially, type Restoring, restoring, type RestoringOptions } from "./restoring.js";

export type { Restoring, RestoringOptions };

/** What the component takes on every platform. */
export interface RestoredImageProps extends RestoringOptions {
  /** A payload, or its text as base64url or base45. */
  readonly payload: Uint8Array | string;
  readonly alt?: string;
  /** Called with the file of the restored picture. */
  readonly onRestored?: (picture: Blob) => void;
  /** Called if there is no restored picture; the preview stays. */
  readonly onError?: (error: Error) => void;
}

export interface EdgegrainImageProps extends RestoredImageProps {
  readonly className?: string;
  readonly style?: CSSProperties;
}

/** Makes the address of a file, gives it to `show`, and returns what frees it. */
export type Addressing = (file: Blob, show: (url: string) => void) => () => void;

/** An `<img>` of the payload's preview, then of the restored picture; `data-step` says which, for styles. */
export function EdgegrainImage(props: EdgegrainImageProps): ReactElement {
  const { className, style } = props;
  const { step, src, alt, aspectRatio } = useRestoredImage(props);
  return createElement("img", { src, alt, className, style: { aspectRatio, ...style }, "data-step": step });
}

/** The state of the component on every platform; calls its callbacks. */
export function useRestoredImage(props: RestoredImageProps, addressing?: Addressing) {
  const { payload, alt = "Restored picture; its fine detail is generated", onRestored, onError } = props;
  const { step, src, restored, error } = useRestoring(payload, props, addressing);
  const aspectRatio = useMemo(() => aspectOf(payload), [payload]);
  useEffect(() => { if (restored) onRestored?.(restored); }, [restored]);
  useEffect(() => { if (error) onError?.(error); }, [error]);
  return { step, src, alt, aspectRatio };
}

/** The same without an element: `src` is the address of what is to be shown. */
export function useRestoring(
  payload: Uint8Array | string, { service, size, token, bundle }: RestoringOptions, addressing = objectUrl,
): Restoring & { readonly src?: string } {
  // Arrays and tables that are equal, but made again by every rendering, must not start again.
  const text = typeof payload === "string" ? payload : payloadToText(payload);
  const first = useMemo(() => initially(text, bundle), [text, bundle?.contractId]);
  const [state, setState] = useState<Restoring & { url?: string }>(first);
  useEffect(() => {
    let latest = first;
    let url: string | undefined;
    let free: (() => void) | undefined;
    const show = () => setState({ ...latest, url });
    const stop = restoring(text, { service, size, token, bundle }, (next) => {
      latest = next;
      if (!next.restored || free) return show();
      free = addressing(next.restored, (made) => {
        url = made;
        show();
      });
    }, first);
    return () => {
      stop();
      free?.();
    };
  }, [text, service, size, token, bundle?.contractId]);
  return { ...state, src: state.url ?? state.preview };
}

const objectUrl: Addressing = (file, show) => {
  const url = URL.createObjectURL(file);
  show(url);
  return () => URL.revokeObjectURL(url);
};

/**
 * The client in React Native: `<EdgegrainImage>` over its `Image`, and everything that needs no browser. Type-checked,
 * and tested in Node with stand-ins of the native modules; not run on a device.
 */

import { createElement, type ReactElement } from "react";
import { Image, type ImageStyle, type StyleProp } from "react-native";

import { type Addressing, type RestoredImageProps, useRestoredImage } from "./react.js";

export * from "./portable.js";

export interface EdgegrainImageProps extends RestoredImageProps {
  readonly style?: StyleProp<ImageStyle>;
}

/** An `Image` of the payload's preview, then of the restored picture. */
export function EdgegrainImage(props: EdgegrainImageProps): ReactElement {
  const { src, alt, aspectRatio } = useRestoredImage(props, dataUri);
  return createElement(Image, { source: { uri: src }, alt, style: [{ aspectRatio }, props.style] });
}

/** Android shows addresses of blobs only with a provider in the app's manifest, and they are never freed. */
const dataUri: Addressing = (file, show) => {
  const reader = new FileReader();
  reader.onload = () => show(reader.result as string);
  reader.readAsDataURL(file);
  return () => reader.abort();
};

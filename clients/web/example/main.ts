/** Encodes the largest face of a photograph, or all of them and the background, in the page; the bundle is in public/bundle/, or `?service=https://host` names a service. */

import { EdgeClient, EdgegrainError } from "@edgegrain/web";

const file = document.querySelector<HTMLInputElement>("#file")!;
const scene = document.querySelector<HTMLInputElement>("#scene")!;
const status = document.querySelector<HTMLElement>("#status")!;
const link = document.querySelector<HTMLAnchorElement>("#payload")!;

const service = new URLSearchParams(location.search).get("service");

function complain(error: unknown): void {
  status.textContent = error instanceof EdgegrainError ? `${error.name}: ${error.message}` : String(error);
}

async function start(): Promise<void> {
  const client = await EdgeClient.open(service ? { service } : { folder: "/bundle/" });
  file.addEventListener("change", () => compress(client).catch(complain));
  file.disabled = false;
  status.textContent = `Ready: ${client.bundle.id}`;
}

async function compress(client: EdgeClient): Promise<void> {
  const picture = file.files?.[0];
  if (!picture) return; // the dialog was cancelled
  const start = performance.now();
  const { bytes } = await (scene.checked ? client.compressScene(picture, { maxBytes: 4000 }) : client.compress(picture));
  URL.revokeObjectURL(link.href);
  link.href = URL.createObjectURL(new Blob([bytes]));
  link.hidden = false;
  status.textContent = `${bytes.length} bytes, ${Math.round(performance.now() - start)} ms`;
}

start().catch(complain);

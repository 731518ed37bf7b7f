/** One picture, several qualities and rates: the first payload that is small enough. */

import type { CompressOptions, EdgeClient } from "./client.js";
import type { Payload } from "./encoder.js";
import { ImageError } from "./errors.js";
import type { Source } from "./pixels.js";

/**
 * Compresses with the first client, and the best rate of its bundle, whose payload has at most `maxBytes`;
 * `ImageError` if none has. Each client's encoder runs once.
 *
 *     const bundles = ["faces-256-lr32", "faces-256-lr16-small"];
 *     const clients = await Promise.all(bundles.map((bundle) => EdgeClient.open({ bundle })));
 *     const payload = await compressWithin(clients, file, 500);
 *
 * @param clients - best quality first; those after the first that fits are not asked.
 */
export async function compressWithin(
  clients: readonly Pick<EdgeClient, "compress">[],
  source: Source,
  maxBytes: number,
  options: CompressOptions = {},
): Promise<Payload> {
  let smallest = Infinity;
  for (const client of clients) {
    const payload = await client.compress(source, options, maxBytes);
    if (payload.bytes.length <= maxBytes) return payload;
    smallest = Math.min(smallest, payload.bytes.length);
  }
  throw new ImageError(`no quality fits into ${maxBytes} bytes: the smallest payload of this picture has ${smallest}`);
}

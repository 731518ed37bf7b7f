/** Addresses of folders: relative names are resolved below them only if they end with a slash. */

/** The address of a folder, with the slash at its end. */
export function asFolder(address: string): string {
  return address.endsWith("/") ? address : `${address}/`;
}

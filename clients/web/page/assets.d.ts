/** What Vite makes of an import of a file. */
declare module "*?url" {
  const url: string;
  export default url;
}

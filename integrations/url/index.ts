export { fromUrl } from "./from-url.ts";
export type { UrlOptions } from "./query.ts";

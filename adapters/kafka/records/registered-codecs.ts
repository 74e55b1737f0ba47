import kafkajs from "kafkajs";
import type { Compression } from "./contract.ts";

/** A codec as users register it with kafkajs: `CompressionCodecs[CompressionTypes.Snappy] = () => codec`. */
export interface RegisteredCodec {
  compress(encoder: { readonly buffer: Buffer }): Promise<Buffer>;
  decompress(bytes: Buffer): Promise<Buffer>;
}

const TYPES = Object.freeze({ snappy: 2, lz4: 3, zstd: 4 });

/** The codec that was registered with kafkajs for a compression; undefined if none was. */
export function registeredCodec(compression: Exclude<Compression, "none" | "gzip">): RegisteredCodec | undefined {
  const codecs = kafkajs.CompressionCodecs as unknown as Readonly<Record<number, (() => unknown) | undefined>>;
  try {
    return codecs[TYPES[compression]]?.() as RegisteredCodec | undefined;
  } catch {
    // What kafkajs has in the place of a codec that was never registered throws.
    return undefined;
  }
}

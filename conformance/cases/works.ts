import type { Work } from "../context.ts";

/** `count` bodies, numbered from 0. */
export function works(count: number): Work[] {
  return Array.from({ length: count }, (_, n) => ({ n }));
}

import { v7 } from "uuid";
import type { Clock, Random } from "./clock.ts";

/** The start of an id that an adapter makes of the content of a message that has none: equal messages have equal ids. */
export const DERIVED_ID = "sha256-";

const ID_BYTES = 16;
const UUID_V7 = /^([0-9a-f]{8})-([0-9a-f]{4})-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

/** Makes UUIDv7 ids that ascend within one millisecond too. They tell no time before 1970: an earlier clock gives that. */
export function messageIds(clock: Clock, random: Random): () => string {
  let last = -1;
  let sequence = 0;
  const rng = (): Uint8Array => random.bytes(ID_BYTES);
  return () => {
    const now = Math.max(clock.now(), 0);
    if (now > last) {
      last = now;
      sequence = Math.floor(random.fraction() * 0x7fffffff);
    } else {
      sequence++;
    }
    return v7({ msecs: last, seq: sequence, rng });
  };
}

/** The milliseconds since 1970 that a UUIDv7 was made at; undefined for any other id. */
export function idTime(id: string): number | undefined {
  const parts = UUID_V7.exec(id);
  return parts === null ? undefined : Number.parseInt(`${parts[1]}${parts[2]}`, 16);
}

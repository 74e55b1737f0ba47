import { v7 } from "uuid";
import type { Clock, Random } from "./clock.ts";

/** The prefix of ids that an adapter derives from the content of a message without an id: equal messages have equal ids. */
export const DERIVED_ID = "sha256-";

const ID_BYTES = 16;
const UUID_V7 = /^([0-9a-f]{8})-([0-9a-f]{4})-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

/** Makes UUIDv7 ids that ascend, also within a millisecond. A clock before 1970 counts as 1970. */
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

/** The time of a UUIDv7, in milliseconds since 1970; undefined for any other id. */
export function idTime(id: string): number | undefined {
  const parts = UUID_V7.exec(id);
  return parts === null ? undefined : Number.parseInt(`${parts[1]}${parts[2]}`, 16);
}

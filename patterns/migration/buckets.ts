/** The number of buckets that keys are divided into: each is 0.01 percent. */
export const BUCKETS = 10_000;

const OFFSET = 0x811c9dc5;

const PRIME = 0x01000193;

/**
 * Returns the bucket of a key: FNV-1a over its UTF-16 units with the finalizer of MurmurHash3. It must stay the same in every
 * version, since instances of different versions have to agree.
 */
export function bucketOf(key: string): number {
  let hash = OFFSET;
  for (let index = 0; index < key.length; index++) {
    const unit = key.charCodeAt(index);
    hash = Math.imul(hash ^ (unit & 0xff), PRIME);
    hash = Math.imul(hash ^ (unit >>> 8), PRIME);
  }
  hash ^= hash >>> 16;
  hash = Math.imul(hash, 0x85ebca6b);
  hash ^= hash >>> 13;
  hash = Math.imul(hash, 0xc2b2ae35);
  hash ^= hash >>> 16;
  return (hash >>> 0) % BUCKETS;
}

/** Whether a share, in percent, includes a bucket. */
export function hasBucket(share: number, bucket: number): boolean {
  return bucket < Math.round((share * BUCKETS) / 100);
}

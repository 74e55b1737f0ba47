/** Where the fields of a record batch of version 2 stand, in bytes from its beginning. */
export const AT = Object.freeze({
  baseOffset: 0,
  length: 8,
  leaderEpoch: 12,
  magic: 16,
  crc: 17,
  attributes: 21,
  lastOffsetDelta: 23,
  baseTimestamp: 27,
  maxTimestamp: 35,
  producerId: 43,
  producerEpoch: 51,
  baseSequence: 53,
  count: 57,
  records: 61,
});

/** The version of the format. It stands where older formats have theirs. */
export const MAGIC = 2;
/** The length counts what follows it. */
export const LENGTH_COVERS_FROM = AT.leaderEpoch;
export const LEAST_LENGTH = AT.records - LENGTH_COVERS_FROM;

/** Bits of the attributes. */
export const COMPRESSION_BITS = 0x07;
export const LOG_APPEND_TIME = 0x08;
export const TRANSACTIONAL = 0x10;
export const CONTROL = 0x20;

/** What reading a log may take, whatever stands in it. */
export interface DecodeLimits {
  /** The most headers of a record. Default 1,000. */
  readonly maxHeaders: number;
  /** The most bytes of a record's headers, their lengths included. Default 256 KiB. */
  readonly maxHeaderBytes: number;
  /**
   * The most bytes that a batch may inflate to; what one call inflates stays below twice as many. Default 64 MiB. Has no
   * hold on codecs registered with kafkajs, except that a result over it is refused.
   */
  readonly maxInflatedBytes: number;
  /** The most records of one call; the next goes on where it ended. Default 100,000. */
  readonly maxRecords: number;
}

export const DEFAULT_LIMITS: DecodeLimits = Object.freeze({
  maxHeaders: 1_000,
  maxHeaderBytes: 256 * 1024,
  maxInflatedBytes: 64 * 1024 * 1024,
  maxRecords: 100_000,
});

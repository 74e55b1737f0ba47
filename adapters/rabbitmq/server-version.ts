/** A version of RabbitMQ, as the server itself tells it. */
export interface ServerVersion {
  readonly text: string;
  atLeast(major: number, minor: number): boolean;
}

/** No more of it is shown: a server may write anything there. */
const VERSION = /^(\d{1,4})\.(\d{1,4})(?:\.\d{1,4})?(?:-(?:alpha|beta|rc)\.?\d{1,4})?/;

/** Reads `4.3.0`, `3.10.8` or `4.1.0-rc.1`; what cannot be read is unknown, and counts as the oldest. */
export function serverVersion(told: unknown): ServerVersion {
  const [text = "unknown", major = "0", minor = "0"] = (typeof told === "string" ? VERSION.exec(told) : null) ?? [];
  return {
    text,
    atLeast: (atLeastMajor, atLeastMinor) =>
      Number(major) > atLeastMajor || (Number(major) === atLeastMajor && Number(minor) >= atLeastMinor),
  };
}

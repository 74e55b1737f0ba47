/** A version of RabbitMQ, as the server itself tells it. */
export interface ServerVersion {
  readonly text: string;
  atLeast(major: number, minor: number): boolean;
}

/** Reads `4.3.0`, `3.10.8` or `4.1.0-rc.1`; what cannot be read counts as the oldest. */
export function serverVersion(text: string | undefined): ServerVersion {
  const [, major = "0", minor = "0"] = /^(\d+)\.(\d+)/.exec(text ?? "") ?? [];
  return {
    text: text ?? "unknown",
    atLeast: (atLeastMajor, atLeastMinor) =>
      Number(major) > atLeastMajor || (Number(major) === atLeastMajor && Number(minor) >= atLeastMinor),
  };
}

import type { Connection } from "./connection.ts";

/** A version of RabbitMQ, as the server reports it. */
export interface ServerVersion {
  readonly text: string;
  atLeast(major: number, minor: number): boolean;
}

/** No more of the text is shown: a server may write anything there. */
const VERSION = /^(\d{1,4})\.(\d{1,4})(?:\.\d{1,4})?(?:-(?:alpha|beta|rc)\.?\d{1,4})?/;

/** Parses `4.3.0`, `3.10.8` or `4.1.0-rc.1`. Anything else is `unknown` and counts as the oldest version. */
export function serverVersion(given: unknown): ServerVersion {
  const [text = "unknown", major = "0", minor = "0"] = (typeof given === "string" ? VERSION.exec(given) : null) ?? [];
  return {
    text,
    atLeast: (atLeastMajor, atLeastMinor) =>
      Number(major) > atLeastMajor || (Number(major) === atLeastMajor && Number(minor) >= atLeastMinor),
  };
}

/** The version of the server at the other end of a connection. */
export function versionOf({ model }: Pick<Connection, "model">): ServerVersion {
  return serverVersion(model.connection.serverProperties.version);
}

/** The user of a server that is started here, who may do anything; also the password and the first database. */
export const POSTGRES_USER = "postgres";

/** What differs from the server's defaults: room for the connections of a suite's many processes. */
export const POSTGRES_SETTINGS = ["-c", "max_connections=200"] as const;

/** The URL of a server that is started here. */
export function postgresUrl(host: string, port: number | undefined): string {
  return `postgres://${POSTGRES_USER}:${POSTGRES_USER}@${host}:${port}/${POSTGRES_USER}`;
}

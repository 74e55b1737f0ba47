import type { Guard } from "../guard.ts";
import type { NativeProcess } from "../native-process.ts";

/** All there is to know about a running Postgres, as plain data that can be handed to another process. */
export type PostgresRecord = PostgresByUrl | PostgresInDocker | PostgresNative;

export interface PostgresByUrl {
  readonly how: "url";
  readonly url: string;
  readonly version: string;
}

export interface PostgresInDocker {
  readonly how: "docker";
  readonly url: string;
  readonly version: string;
  readonly containerId: string;
}

export interface PostgresNative {
  readonly how: "native";
  readonly url: string;
  readonly version: string;
  readonly server: NativeProcess;
}

/** A running Postgres and what ends it, if it was started here. */
export interface StartedPostgres {
  readonly record: PostgresRecord;
  readonly guard?: Guard;
}

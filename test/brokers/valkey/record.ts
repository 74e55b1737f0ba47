import type { Guard } from "../guard.ts";
import type { NativeProcess } from "../native-process.ts";

/** All there is to know about a running Valkey or Redis, as plain data that can be handed to another process. */
export type ValkeyRecord = ValkeyByUrl | ValkeyInDocker | ValkeyNative;

interface ValkeyByUrl {
  readonly how: "url";
  readonly url: string;
  readonly version: string;
}

export interface ValkeyInDocker {
  readonly how: "docker";
  readonly url: string;
  readonly version: string;
  readonly containerId: string;
}

export interface ValkeyNative {
  readonly how: "native";
  readonly url: string;
  readonly version: string;
  readonly server: NativeProcess;
}

/** A running Valkey or Redis and what ends it, if it was started here. */
export interface StartedValkey {
  readonly record: ValkeyRecord;
  readonly guard?: Guard;
}

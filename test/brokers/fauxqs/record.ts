import type { Guard } from "../guard.ts";
import type { NativeProcess } from "../native-process.ts";

/** All there is to know about a running fauxqs, as plain data that can be handed to another process. */
export type FauxqsRecord = FauxqsByUrl | FauxqsInDocker | FauxqsNative;

interface FauxqsByUrl {
  readonly how: "url";
  readonly url: string;
  readonly version: string;
  /** Not ours to know. */
  readonly durable: false;
}

export interface FauxqsInDocker {
  readonly how: "docker";
  readonly url: string;
  readonly version: string;
  readonly durable: boolean;
  readonly containerId: string;
}

export interface FauxqsNative {
  readonly how: "native";
  readonly url: string;
  readonly version: string;
  readonly durable: boolean;
  readonly server: NativeProcess;
}

/** A running fauxqs and what ends it, if it was started here. */
export interface StartedFauxqs {
  readonly record: FauxqsRecord;
  readonly guard?: Guard;
}

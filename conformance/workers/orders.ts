import type { ProcessAdapter } from "../harness.ts";

/**
 * What a worker's handler does with a message:
 * - `effect`: records the effect and returns.
 * - `gate`: waits for `open-gate`, then the same.
 * - `gate-poison`: the same on a body with `poison`; otherwise `effect`.
 * - `throw`: throws.
 * - `throw-poison`: throws on a body with `poison`; otherwise `effect`.
 * - `kill-self-on-poison`: kills its own process on a body with `poison`; otherwise `effect`.
 */
type Behaviour = "effect" | "gate" | "gate-poison" | "throw" | "throw-poison" | "kill-self-on-poison";

/** Consume a queue until the process is killed. */
export interface ConsumeOrder {
  readonly type: "consume";
  readonly adapter: ProcessAdapter;
  /** The file that reports are appended to. */
  readonly log: string;
  readonly queue: string;
  readonly ordered: boolean;
  /** `quarantine.silenceMs`; undefined for the default. */
  readonly silenceMs?: number;
  readonly behaviour: Behaviour;
  readonly concurrency: number;
  readonly prefetch: number;
  readonly attempts: number;
  readonly retryMs: number;
}

/** Send messages to a queue with several callers, and die right after `dieAfter` confirms. */
export interface PublishOrder {
  readonly type: "publish";
  readonly adapter: ProcessAdapter;
  readonly log: string;
  readonly queue: string;
  readonly ids: readonly string[];
  readonly callers: number;
  readonly dieAfter: number;
}

export type WorkerOrder = ConsumeOrder | PublishOrder | { readonly type: "open-gate" };

/** A line of a worker's log. */
export type WorkerReport =
  | { readonly type: "ready" }
  | { readonly type: "broken"; readonly message: string }
  | { readonly type: "start"; readonly id: string; readonly attempt: number; readonly print: string | undefined }
  | { readonly type: "effect"; readonly id: string }
  | { readonly type: "acked"; readonly id: string }
  | { readonly type: "attempted"; readonly id: string; readonly print: string | undefined }
  | { readonly type: "confirmed"; readonly id: string };

import type { Depth } from "../../../core/adapter.ts";

/** A depth that the test sets, and that counts how often it was asked for. */
export class ScriptedDepth {
  ready = 0;
  asked = 0;
  /** Why it cannot be told. */
  error: Error | undefined;
  /** Never answers. */
  silent = false;

  readonly depth = (): Promise<Depth> => {
    this.asked++;
    if (this.silent) return new Promise(() => {});
    if (this.error !== undefined) return Promise.reject(this.error);
    return Promise.resolve({ ready: this.ready, unsettled: undefined, exact: true });
  };
}

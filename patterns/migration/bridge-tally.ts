import type { Clock, MessagingError } from "../../core/index.ts";
import type { LeftMessage } from "./bridge-contract.ts";

const MOST_SHOWN = 100;
const RATE_SPAN_MS = 5_000;
const RATE_STEP_MS = 500;

/** What a bridge counts, since it was made. */
export class BridgeTally {
  moved = 0;
  repeated = 0;
  left = 0;
  filtered = 0;
  readonly leftMessages: LeftMessage[] = [];
  readonly #clock: Clock;
  #steps: { readonly at: number; readonly moved: number }[] = [];

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  leave(id: string, error: MessagingError): void {
    this.left++;
    if (this.leftMessages.length < MOST_SHOWN) this.leftMessages.push({ id, error });
  }

  /** What was left comes again when the bridge goes on. */
  begin(): void {
    this.left = 0;
    this.leftMessages.length = 0;
    this.#steps = [{ at: this.#clock.monotonic(), moved: this.moved }];
  }

  /** Messages per second over the last seconds. */
  rate(): number {
    const now = this.#clock.monotonic();
    const last = this.#steps.at(-1);
    if (last === undefined) return 0;
    if (now - last.at >= RATE_STEP_MS) this.#steps.push({ at: now, moved: this.moved });
    while (this.#steps.length > 2 && now - (this.#steps[1]?.at ?? now) >= RATE_SPAN_MS) this.#steps.shift();
    const [first = last] = this.#steps;
    return now > first.at ? ((this.moved - first.moved) * 1_000) / (now - first.at) : 0;
  }
}

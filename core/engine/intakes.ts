import type { DeliverySink } from "../adapter.ts";
import type { ConsumerContext } from "./consumer-context.ts";
import type { HeldDelivery } from "./held-delivery.ts";
import { Intake, type IntakeOwner } from "./intake.ts";

/** What a consumer takes from: its source and, unless it keeps order, the suspects of it. */
export interface Intakes {
  readonly main: Intake;
  readonly suspects: Intake | undefined;
  /** The intake that a delivery came by. */
  of(held: HeldDelivery): Intake;
  close(): Promise<void>;
}

/** Opens both, or neither. */
export async function openIntakes(
  context: ConsumerContext,
  windows: { readonly main: number; readonly suspects: number },
  sink: (suspect: boolean) => DeliverySink,
  owner: IntakeOwner,
): Promise<Intakes> {
  const { adapter, source, subscription, ordered, clock, timeoutMs: handlerTimeoutMs } = context;
  const declared = subscription === undefined ? {} : { subscription };
  const options = { window: windows.main, ordered, handlerTimeoutMs, ...declared };
  const from = { kind: "suspects", of: source } as const;
  const apart = { window: windows.suspects, ordered: false, handlerTimeoutMs };
  // Side by side: where groups are joined each may take seconds.
  const [first, second] = await Promise.allSettled([
    Intake.open(adapter, source, options, sink(false), owner, clock),
    ordered ? undefined : Intake.open(adapter, from, apart, sink(true), owner, clock),
  ]);
  if (first.status === "rejected" || second.status === "rejected") {
    for (const end of [first, second]) if (end.status === "fulfilled") await end.value?.close();
    throw first.status === "rejected" ? first.reason : (second as PromiseRejectedResult).reason;
  }
  const [main, suspects] = [first.value, second.value];
  return {
    main,
    suspects,
    of: (held) => (held.suspect && suspects !== undefined ? suspects : main),
    async close() {
      await Promise.all([main.close(), suspects?.close()]);
    },
  };
}

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
  const { adapter, source, subscription, ordered, clock } = context;
  const declared = subscription === undefined ? {} : { subscription };
  const options = { window: windows.main, ordered, ...declared };
  const main = await Intake.open(adapter, source, options, sink(false), owner, clock);
  let suspects: Intake | undefined;
  if (!ordered) {
    try {
      const from = { kind: "suspects", of: source } as const;
      suspects = await Intake.open(
        adapter,
        from,
        { window: windows.suspects, ordered: false },
        sink(true),
        owner,
        clock,
      );
    } catch (error) {
      await main.close();
      throw error;
    }
  }
  return {
    main,
    suspects,
    of: (held) => (held.suspect && suspects !== undefined ? suspects : main),
    async close() {
      await Promise.all([main.close(), suspects?.close()]);
    },
  };
}

import { type Queue, queue } from "anybroker";
import { z } from "zod";

const Charge = z.object({ id: z.string(), card: z.string(), cents: z.int() });

export type Charge = z.infer<typeof Charge>;

/** The queue of the run of this name. Runs have names of their own, so what one leaves behind is not met by the next. */
export function chargesOf(run: string): Queue<Charge> {
  return queue(`exactly-once-charge.${run}`, { schema: Charge, key: (charge) => charge.card });
}

/** One charge for each of so many cards. */
export function chargesFor(cards: number): Charge[] {
  return Array.from({ length: cards }, (_, index) => {
    const number = String(index + 1).padStart(6, "0");
    return { id: `charge-${number}`, card: `card-${number}`, cents: 1_000 + (index % 400) * 5 };
  });
}

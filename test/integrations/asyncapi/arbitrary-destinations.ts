import { type Destination, queue, subscription, topic } from "anybroker";
import { type } from "arktype";
import fc from "fast-check";
import { z } from "zod";

const name = fc
  .stringMatching(/^[A-Za-z0-9][A-Za-z0-9_-]{0,3}(\.[A-Za-z0-9_-]{1,4})?$/)
  .filter((text) => !/(^|\.)(dlq|quarantine|delays|queue)$/.test(text));
const schema = fc.constantFrom(undefined, z.object({ id: z.string() }), type({ id: "string" }), z.bigint());
const options = fc.record({
  schema,
  ordered: fc.boolean(),
  ttlMs: fc.option(fc.integer({ min: 1, max: 1_000_000 }), { nil: undefined }),
});
const filter = fc.option(fc.constantFrom("geo.us.#", "*.paid", "geo.us.ny"), { nil: undefined });

/** Without what is undefined: an option that is given has a value. */
function set<Options extends object>(given: Options): Options {
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)) as Options;
}

/** Lists of queues, topics and subscriptions that contradict neither each other nor any broker. */
export const destinationLists: fc.Arbitrary<readonly Destination[]> = fc
  .uniqueArray(
    fc.tuple(
      name,
      fc.constantFrom("queue", "topic"),
      options,
      fc.uniqueArray(fc.tuple(name, filter), { maxLength: 3, selector: ([one]) => one }),
    ),
    {
      maxLength: 8,
      // Some brokers take `.` for `_`.
      selector: ([one]) => one.replaceAll(/[._-]/g, "").toLowerCase(),
    },
  )
  .map((parts) =>
    parts.flatMap(([called, kind, chosen, subscriptions]): Destination[] => {
      const { ordered } = chosen;
      const settings = { ...set(chosen), ordered } as { schema: z.ZodType<{ id: string }> };
      if (kind === "queue") return [queue(called, settings)];
      const of = topic(called, settings);
      return [
        of,
        ...subscriptions.map(([sub, filter]) => subscription(of, sub, set({ filter }) as { filter: string })),
      ];
    }),
  );

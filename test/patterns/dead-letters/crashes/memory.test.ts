import { memoryArchive, type Plan } from "anybroker/dead-letters";
import { describe, expect, test } from "vitest";
import { memory, memorySpace } from "../../../../adapters/memory/index.ts";
import type { Adapter } from "../../../../core/adapter.ts";
import { withoutBrowse } from "../adapters.ts";
import { burials, Graveyard } from "../graveyard.ts";
import { Death, mortal, mortalArchive, STEPS, type Step } from "./steps.ts";

const SELECTED = burials(20, "selected", { headers: { tenant: "acme" } });
const OTHERS = burials(10, "other");
const LATE = burials(3, "late", { headers: { tenant: "acme" } });
const ids = (all: readonly { readonly id: string }[]): string[] => all.map(({ id }) => id).sort();
const WAYS = [
  ["looked at", (adapter: Adapter) => adapter],
  ["taken to be seen", withoutBrowse],
] as const;

describe.for(WAYS)("a run over dead letters that are %s", ([, seen]) => {
  describe.for(["replay", "discard"] as const)("a %s that dies", (verb) => {
    // What is discarded is archived, and told, in one batch.
    const times = (step: Step): readonly number[] => (verb === "discard" && step === "progress" ? [1] : [1, 10, 20]);
    test.for(STEPS.flatMap((step) => times(step).map((nth) => [step, nth] as const)))(
      "at the step %s, time %i, loses nothing and touches nothing else",
      async ([step, nth]) => {
        const space = memorySpace();
        const grounds = { name: "memory", adapter: () => memory({ space }) };
        const yard = await Graveyard.open(grounds);
        await yard.bury([...SELECTED, ...OTHERS]);
        const archive = memoryArchive();

        const inner = memory({ space });
        const death = new Death(step, nth, () => void inner.close());
        const dying = await Graveyard.open(
          { name: "memory", adapter: () => mortal(seen(inner), death) },
          { orders: yard.orders },
        );
        const planned =
          verb === "replay"
            ? await dying.dead.replay("header.tenant = acme")
            : await dying.dead.discard("header.tenant = acme", { archive: mortalArchive(archive, death) });
        death.begin();
        void planned.run({ onProgress: () => void death.step("progress") });
        await yard.until("its death", () => death.isDead);
        const plan = JSON.parse(JSON.stringify(planned.plan)) as Plan;
        await yard.bury(LATE);

        const resumed = await yard.dead.resume(plan, verb === "replay" ? {} : { archive });
        const result = await resumed.run();
        expect(result).toMatchObject({ failed: 0, stopped: undefined });
        expect(result.done + result.missing).toBe(20);

        const handled: string[] = [];
        const { ready } = await yard.broker.depth(yard.orders);
        yard.broker.consume(yard.orders, (_, { id }) => void handled.push(id));
        await yard.until("all that was sent", () => handled.length === ready);
        if (verb === "replay") expect([...new Set(handled)].sort()).toEqual(ids(SELECTED));
        else {
          expect(handled).toEqual([]);
          expect(archive.entries.map(({ messageId }) => messageId).sort()).toEqual(ids(SELECTED));
        }
        const left = (await yard.dead.list({ limit: 100 })).entries;
        expect(ids(left.map(({ messageId }) => ({ id: messageId })))).toEqual(ids([...OTHERS, ...LATE]));
        await yard.stop();
      },
    );
  });
});

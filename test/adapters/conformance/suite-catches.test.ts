// The suite's own proof: it passes a sound adapter and fails each of these, for the reason given.
import { describe, expect, test } from "vitest";
import { memory, memorySpace } from "../../../adapters/memory/index.ts";
import { delegate } from "../../../conformance/decorators/delegate.ts";
import { type Harness, runCase } from "../../../conformance/index.ts";
import { until } from "../../../conformance/until.ts";
import type { Adapter } from "../../../core/adapter.ts";
import {
  acksOnDelivery,
  type Breakage,
  confirmsBeforeStoring,
  confirmsTheUnroutable,
  createsWhatIsMissing,
  delaysTooShort,
  exceedsTheWindow,
  extendsNothing,
  fallsIntoHeaderTraps,
  filtersCopies,
  filtersInSilence,
  forgetsAttempts,
  forgetsHeaders,
  forgetsIds,
  forgetsKeys,
  forgetsPriorities,
  ignoresFilters,
  leavesItsWatch,
  losesDeadLetters,
  losesMessages,
  losesWhatIsMoved,
  neverAcks,
  releasesInsteadOfAcking,
  removesNothing,
  requeuesBehind,
  reversesBatches,
  saysSettledAlways,
  storesTwice,
  swallowsRefusals,
  truncatesBodies,
  watchesByTaking,
} from "./broken-adapters.ts";
import { caseOf } from "./case-of.ts";

const SEED = 1;
/** Far longer than anything takes, however busy the machine is. */
const PATIENCE_MS = 120_000;
/** Long enough to be renewed in time by a machine that is busy; a lease that nobody renews may be short. */
const LEASE_MS = 10_000;
const sound: Breakage = (adapter) => adapter;

const CATCHES: readonly (readonly [breakage: Breakage, number: string, reason: RegExp])[] = [
  [losesMessages, "6", /every confirmed message to be handled[\s\S]*lost: 30/],
  [losesMessages, "7", /every confirmed message to be handled[\s\S]*lost: /],
  [losesDeadLetters, "15", /7 dead letters/],
  [losesDeadLetters, "27", /2 dead letters/],
  [losesDeadLetters, "K6", /10 dead letters/],
  [confirmsBeforeStoring, "4a", /1 messages are confirmed and 0 are on the queue/],
  [confirmsTheUnroutable, "4b", /an event without a subscription: confirmed/],
  [storesTwice, "6", /duplicates, 0 allowed/],
  [reversesBatches, "16", /began, /],
  [forgetsKeys, "16", /began(,| while)/],
  [delaysTooShort, "K4", /before they were due/],
  [delaysTooShort, "26b", /before they were due/],
  [forgetsPriorities, "K5", /a lower priority was handled before a higher one/],
  [forgetsKeys, "1", /the key of/],
  [forgetsHeaders, "1", /the headers of/],
  [forgetsHeaders, "5b", /the headers of/],
  [forgetsAttempts, "26c", /the restart lost count/],
  [fallsIntoHeaderTraps, "1", /the headers of/],
  [truncatesBodies, "1", /the bytes of/],
  [forgetsIds, "11a", /every confirmed message to be handled/],
  [exceedsTheWindow, "19", /unsettled deliveries in a prefetch|13 !== 10/],
  [acksOnDelivery, "13", /every confirmed message to be handled/],
  [acksOnDelivery, "23b", /every confirmed message to be handled/],
  [acksOnDelivery, "25", /every confirmed message to be handled|progress after a change of consumers/],
  [acksOnDelivery, "29", /copies to the dead letters to be refused/],
  [acksOnDelivery, "30c", /6 messages to be parked/],
  [losesWhatIsMoved, "30b", /6 dead letters/],
  [losesDeadLetters, "30a", /1 dead letters/],
  [neverAcks, "6", /every confirmed message to be handled/],
  [neverAcks, "11a", /is not empty: 0 ready, [1-9]/],
  [releasesInsteadOfAcking, "1", /is not empty/],
  [releasesInsteadOfAcking, "23a", /is not empty|duplicates, /],
  [saysSettledAlways, "11b", /a second ack/],
  [extendsNothing, "14", /duplicates, |was started again/],
  [extendsNothing, "17b", /the attempts of the message|before it was due|began(,| while)/],
  [requeuesBehind, "17c", /was handled (where|but)/],
  [ignoresFilters, "10a", /handled, but never published there/],
  [filtersCopies, "10c", /every copy to be handled/],
  [filtersInSilence, "10c", /waiting events to be handled or counted/],
  [createsWhatIsMissing, "3", /sending ended as confirmed/],
  [swallowsRefusals, "3", /sending ended as unconfirmed/],
  [watchesByTaking, "37", /everything at queue/],
  [leavesItsWatch, "37", /the ended watch left something/],
];

/** What is waited for is named behind "in vain for". */
const WAITS_IN_VAIN = /^every|^copies|parked|dead letters|empty|handled or counted|everything at/;

/** A sound or broken in-process broker. Leases only where they are what is tried: they need a machine that keeps up. */
function harness(breakage: Breakage, number: string, waitsInVain = false): Harness {
  const space = memorySpace();
  const leased = number === "14" || number === "17b";
  const leases = leased ? { leaseMs: breakage === sound ? LEASE_MS : 300 } : {};
  // Where a breakage shows by what never comes, all of it is used up.
  const patienceMs = waitsInVain ? 10_000 : PATIENCE_MS;
  return { name: breakage.name, adapter: () => breakage(memory({ space, ...leases })), patienceMs };
}

// Most of the time each only waits, or uses up its patience.
describe.concurrent("a sound adapter passes", () => {
  for (const number of new Set(CATCHES.map(([, number]) => number))) {
    test(`case ${number}`, async () => {
      const { report, error } = await runCase(harness(sound, number), caseOf(number), SEED);
      expect(error).toBeUndefined();
      expect(report.result).toBe("passed");
    });
  }
});

describe.concurrent("a broken adapter fails", () => {
  for (const [breakage, number, reason] of CATCHES) {
    test(`case ${number}: ${breakage.name}`, async () => {
      const waitsInVain = WAITS_IN_VAIN.test(reason.source);
      const { report, error } = await runCase(harness(breakage, number, waitsInVain), caseOf(number), SEED);
      expect(report.result).toBe("failed");
      expect(error?.message).toMatch(reason);
      expect(error?.message).toContain(`CONFORMANCE_SEED=${SEED}`);
    });
  }

  test("case 38: removesNothing, and the in-process broker itself, which removes nothing, is refused", async () => {
    const { report } = await runCase(harness(sound, "38"), caseOf("38"), SEED);
    expect(report.result).toBe("refused");
    const { error } = await runCase(harness(removesNothing, "38"), caseOf("38"), SEED);
    expect(error?.message).toMatch(/was removed, and still exists: it exists/);
  });

  test("case 31: a broker that loses what it confirmed while it restarts", async () => {
    const space = memorySpace();
    let restarting = false;
    let lost = 0;
    const adapter = (): Adapter => {
      const inner = memory({ space });
      const losing = delegate(inner, {
        send(to, batch, report) {
          // No faster than a broker that is elsewhere, so that there is something under way when it restarts.
          if (!restarting) return void setTimeout(() => inner.send(to, batch, report), 1);
          lost += batch.length;
          for (const index of batch.keys()) report(index, { status: "confirmed" });
        },
      });
      return { ...losing, capabilities: { ...inner.capabilities, durable: { support: "native", note: "it says" } } };
    };
    const restart = async (): Promise<void> => {
      restarting = true;
      await until(() => lost > 0, { timeoutMs: PATIENCE_MS, what: "a loss" });
      restarting = false;
    };
    const harness = { name: "forgetful", adapter, restart, patienceMs: 5_000, recoveryMs: 5_000 };
    const { report, error } = await runCase(harness, caseOf("31"), SEED);
    expect(report.result).toBe("failed");
    expect(error?.message).toMatch(/every confirmed message to be handled[\s\S]*lost: /);
  });
});

describe("what is declared unsupported is refused, and reported so", () => {
  const adapter = (): Adapter => {
    const inner = memory();
    const none = { support: "unsupported", note: "not here" } as const;
    const { delay, priority } = inner.capabilities;
    const capabilities = {
      ...inner.capabilities,
      ...{
        order: none,
        ttl: none,
        routingFilter: none,
        delay: { ...delay, ...none },
        priority: { ...priority, ...none },
      },
    };
    return { ...delegate(inner), capabilities };
  };
  for (const number of ["K2", "K3", "K4", "K5", "K6", "10a", "16", "17a", "17b", "17c", "18"]) {
    test(`case ${number}`, async () => {
      const { report, error } = await runCase({ name: "poor", adapter }, caseOf(number), SEED);
      expect(error).toBeUndefined();
      expect(report.result).toBe("refused");
    });
  }

  test("case K1 fails where an adapter cannot say why", async () => {
    const mute = (): Adapter => {
      const inner = memory();
      const capabilities = { ...inner.capabilities, rewind: { support: "unsupported", note: "" } as const };
      return { ...delegate(inner), capabilities };
    };
    const { report, error } = await runCase({ name: "mute", adapter: mute }, caseOf("K1"), SEED);
    expect(report.result).toBe("failed");
    expect(error?.message).toMatch(/rewind has no note/);
  });
});

describe("what could not be tried is no pass", () => {
  test("a durable adapter without processes or restart", async () => {
    const durable = (): Adapter => {
      const inner = memory();
      const capabilities = { ...inner.capabilities, durable: { support: "native", note: "it says" } as const };
      return { ...delegate(inner), capabilities };
    };
    for (const number of ["28a", "28c", "28d", "31", "32"]) {
      const { report } = await runCase({ name: "durable", adapter: durable }, caseOf(number), SEED);
      expect(report.result).toBe("not-run");
      expect(report.note).toMatch(/the harness/);
    }
  });
});

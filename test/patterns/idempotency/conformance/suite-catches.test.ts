// The suite's own proof: it passes a sound store and fails each of these, for the reason given.
import { afterAll, describe, expect, test } from "vitest";
import { runCase, STORE_CASES, type StoreCase, type StoreHarness } from "../../../../conformance/idempotency/index.ts";
import { MessagingError } from "../../../../core/errors.ts";
import { type IdempotencyStore, memoryIdempotencyStore } from "../../../../patterns/idempotency/index.ts";
import { newDatabase, openStore } from "../sqlite-database.ts";
import type { BrokenProcess } from "./broken-process.ts";
import {
  type Breakage,
  claimsWhatIsHeld,
  cleansClaims,
  cleansNothing,
  cleansWithoutLimit,
  completesForAnybody,
  completesWhatItForgot,
  cutsKeys,
  foldsCase,
  forgetsCompletions,
  forgetsEarly,
  givesOneToken,
  leasesEndEarly,
  leasesNeverEnd,
  looksThenClaims,
  losesAtRenewal,
  losesSecondCompletions,
  marksDoneAtClaim,
  neverForgets,
  neverReleases,
  releasesForAnybody,
  releasesWhatIsDone,
  renewsForAnybody,
  renewsNothing,
  saysBusyForEver,
  saysBusyForNoTime,
  trimsKeys,
  usesTheWorkersClock,
} from "./broken-stores.ts";

const SEED = 1;
const PATIENCE_MS = 2_000;

const CATCHES: readonly (readonly [breakage: Breakage, number: string, reason: RegExp])[] = [
  [forgetsCompletions, "I1", /'claimed'/],
  [losesSecondCompletions, "I1", /a completion whose answer was lost/],
  [releasesWhatIsDone, "I1", /'claimed'/],
  [claimsWhatIsHeld, "I2", /a key that is held was claimed/],
  [saysBusyForNoTime, "I2", /held for 0 ms/],
  [saysBusyForEver, "I2", /held for Infinity ms/],
  [marksDoneAtClaim, "I2", /a key that is held was done/],
  [neverReleases, "I2", /a second release/],
  [givesOneToken, "I2", /two claims have the same token/],
  [looksThenClaims, "I3", /8 of 8 concurrent claims won/],
  [looksThenClaims, "I4", /two claims hold one key|a completed key was claimed/],
  [claimsWhatIsHeld, "I4", /two claims hold one key/],
  [foldsCase, "I5", /a free key was busy/],
  [trimsKeys, "I5", /a free key was busy/],
  [cutsKeys, "I5", /a free key was busy/],
  [leasesNeverEnd, "I6", /in vain for a claim to end/],
  [leasesEndEarly, "I6", /a lease of 300 ms ended after/],
  [marksDoneAtClaim, "I6", /a key without a completion is done/],
  [renewsNothing, "I7", /a renewed claim ended/],
  [losesAtRenewal, "I7", /a lease of 300 ms was lost after/],
  [renewsForAnybody, "I8", /renewed while another holds it/],
  [releasesForAnybody, "I8", /released while another holds it/],
  [completesForAnybody, "I8", /completed while another holds it/],
  [givesOneToken, "I8", /two claims have the same token/],
  [usesTheWorkersClock, "I9", /a claim ended for a worker a day ahead/],
  [forgetsEarly, "I10", /a retention of 300 ms ended after/],
  [completesWhatItForgot, "I10", /an old token completed another claim/],
  [neverForgets, "I10", /in vain for a retention to end/],
  [cleansNothing, "I11", /0 of 12 ended records were removed/],
  [cleansWithoutLimit, "I11", /cleaning at most 5 removed 12/],
  [cleansClaims, "I11", /cleaning removed a claim|removed/],
];

function caseOf(number: string): StoreCase {
  const found = STORE_CASES.find((one) => one.number === number);
  if (found === undefined) throw new Error(`there is no case ${number}`);
  return found;
}

function harness(breakage: Breakage): StoreHarness {
  const store = breakage(memoryIdempotencyStore());
  return { name: breakage.name, open: () => ({ store, close: async () => {} }), patienceMs: PATIENCE_MS };
}

// Most of the time each only uses up its patience.
describe.concurrent("a broken store fails", () => {
  for (const [breakage, number, reason] of CATCHES) {
    // A machine that stands still for longer than what a lease was cut by hides it.
    test(`case ${number}: ${breakage.name}`, { retry: 2 }, async () => {
      const { report, error } = await runCase(harness(breakage), caseOf(number), SEED);
      expect(report.result).toBe("failed");
      expect(error?.message).toMatch(reason);
      expect(error?.message).toContain(`CONFORMANCE_SEED=${SEED}`);
    });
  }
});

describe.concurrent("a store whose processes do not agree fails", () => {
  const { file, remove } = newDatabase();
  afterAll(remove);

  for (const [broken, number, reason, patienceMs] of [
    ["keepsToItself", "I12", /3 of 3 processes hold/, 120_000],
    // It uses up all of it, and part of it goes to the start of a process.
    ["leasesNeverEnd", "I13", /in vain for the claim of a dead process to end/, 40_000],
  ] as const) {
    test(`case ${number}: ${broken}`, async () => {
      const options: BrokenProcess = { file, broken };
      const processes = { module: new URL("broken-process.ts", import.meta.url).href, options };
      const broker = { name: broken, open: () => openStore(file), processes, patienceMs };
      const { report, error } = await runCase(broker, caseOf(number), SEED);
      expect(report.result).toBe("failed");
      expect(error?.message).toMatch(reason);
    });
  }
});

type Call = (call: () => Promise<unknown>) => Promise<unknown>;

/** A store in memory whose calls go through `whileDown` in an outage, and through `afterwards` after it. */
function mortal(whileDown: Call, afterwards: Call = (call) => call()): StoreHarness {
  const inner = memoryIdempotencyStore();
  let through: Call = (call) => call();
  const passing = <T>(call: () => Promise<T>): Promise<T> => through(call) as Promise<T>;
  const store: IdempotencyStore = {
    name: inner.name,
    claim: (key, leaseMs) => passing(() => inner.claim(key, leaseMs)),
    renew: (key, token, leaseMs) => passing(() => inner.renew(key, token, leaseMs)),
    complete: (key, token, retentionMs) => passing(() => inner.complete(key, token, retentionMs)),
    release: (key, token) => passing(() => inner.release(key, token)),
    clean: (limit) => passing(() => inner.clean(limit)),
  };
  const outage = {
    begin: async () => {
      through = whileDown;
    },
    end: async () => {
      through = afterwards;
    },
  };
  return { name: "mortal", open: () => ({ store, close: async () => {} }), outage, patienceMs: PATIENCE_MS };
}

describe.concurrent("an outage of the database", () => {
  const refuse: Call = () => Promise.reject(new MessagingError("unreachable", "the database is down"));

  test("passes where every call fails, and works again afterwards", async () => {
    const { report, error } = await runCase(mortal(refuse), caseOf("I14"), SEED);
    expect(error).toBeUndefined();
    expect(report.result).toBe("passed");
  });

  test.for<readonly [what: string, harness: StoreHarness, reason: RegExp]>([
    ["is not noticed", mortal((call) => call()), /claim, during the outage: .*claimed/],
    ["lets claims through", mortal(async () => ({ status: "claimed", token: "t" })), /claim, during the outage/],
    [
      "is never answered",
      mortal(() => new Promise(() => {})),
      /claim, during the outage, did not come to an end within/,
    ],
    ["shows as the client's own error", mortal(() => Promise.reject(new Error("ECONNREFUSED"))), /ECONNREFUSED/],
    ["is never mended", mortal(refuse, refuse), /in vain for the store to reconnect/],
  ])("fails where it %s", async ([, harness, reason]) => {
    const { report, error } = await runCase(harness, caseOf("I14"), SEED);
    expect(report.result).toBe("failed");
    expect(error?.message).toMatch(reason);
  });
});

test("what a harness has no means for is not run, unless it says why: then it is not applicable", async () => {
  const open = harness((inner) => inner).open;
  for (const number of ["I12", "I14"]) {
    const hole = await runCase({ name: "poor", open }, caseOf(number), SEED);
    expect(hole).toMatchObject({ report: { result: "not-run" } });
    const known = { name: "poor", open, withoutProcesses: "none", withoutOutage: "none" };
    expect(await runCase(known, caseOf(number), SEED)).toMatchObject({
      report: { result: "not-applicable", note: "none" },
    });
  }
});

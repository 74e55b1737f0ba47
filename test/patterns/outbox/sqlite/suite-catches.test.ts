// The suites' own proof: they pass a sound store and fail each of these, for the reason given.
import type { DatabaseSync } from "node:sqlite";
import { afterAll, describe, expect, test } from "vitest";
import {
  INBOX_CASES,
  type InboxHarness,
  OUTBOX_CASES,
  type OutboxHarness,
  runCase,
  type StoreCase,
} from "../../../../conformance/outbox/index.ts";
import { MessagingError } from "../../../../core/errors.ts";
import type { InboxStore } from "../../../../patterns/outbox/index.ts";
import type { OutboxStore } from "../../../../patterns/outbox/store.ts";
import { newDatabase, openDatabase, openInbox, openOutbox } from "./databases.ts";

const SEED = 1;
const { file, remove } = newDatabase();
const state = { tables: 0 };
afterAll(remove);

type Outbox = OutboxStore<DatabaseSync>;
type Inbox = InboxStore<DatabaseSync>;

/** A store with some methods changed. */
function changed<Store extends object>(store: Store, changes: Partial<Store>): Store {
  return new Proxy(store, {
    get(target, name) {
      const value: unknown = Reflect.get(name in changes ? changes : target, name);
      return typeof value === "function" ? value.bind(name in changes ? changes : target) : value;
    },
  });
}

const settleAs = (outbox: Outbox, change: (one: never) => object): Outbox =>
  changed(outbox, {
    settle: (token, settlements) => outbox.settle(token, settlements.map((one) => change(one as never)) as never),
  });

/** What a broken store does with the tokens of others' claims. */
const tokens = new Map<number, string>();
function remembering(outbox: Outbox): Outbox {
  return changed(outbox, {
    async claim(request) {
      const claim = await outbox.claim(request);
      for (const { position } of claim?.rows ?? []) tokens.set(position, claim?.token ?? "");
      return claim;
    },
  });
}

/** Keys count for nothing: what SKIP LOCKED alone would do. */
const skipsLocked = (outbox: Outbox): Outbox =>
  changed(outbox, {
    insert: (transaction, rows) =>
      outbox.insert(
        transaction,
        rows.map((row) => ({ ...row, key: undefined })),
      ),
  });

type Breakage<Store> = readonly [name: string, number: string, reason: RegExp, breakage: (store: Store) => Store];

const OUTBOXES: readonly Breakage<Outbox>[] = [
  [
    "drops headers",
    "O1",
    /deep/,
    (outbox) =>
      changed(outbox, {
        insert: (to, rows) =>
          outbox.insert(
            to,
            rows.map((row) => ({ ...row, headers: {} })),
          ),
      }),
  ],
  [
    "writes outside of the transaction",
    "O2",
    /./,
    (outbox) =>
      changed(outbox, {
        insert(transaction, rows) {
          outbox.insert(transaction, rows);
          transaction.exec("COMMIT; BEGIN IMMEDIATE");
        },
      }),
  ],
  [
    "loses the end of a list",
    "O3",
    /of 5000 rows were claimed/,
    (outbox) => changed(outbox, { insert: (to, rows) => outbox.insert(to, rows.slice(0, 1_000)) }),
  ],
  [
    "claims without a limit",
    "O5",
    /a claim of at most 5 has|an empty/,
    (outbox) => changed(outbox, { claim: (request) => outbox.claim({ ...request, limit: 100 }) }),
  ],
  ["skips what is locked", "O6", /rows of a key were claimed that another claim holds/, skipsLocked],
  ["skips what is locked", "O8", /two claims hold one key|another order/, skipsLocked],
  [
    "folds the case of keys",
    "O7",
    /./,
    (outbox) =>
      changed(outbox, {
        insert: (to, rows) =>
          outbox.insert(
            to,
            rows.map((row) => ({ ...row, key: row.key?.toLowerCase().trim() })),
          ),
      }),
  ],
  [
    "counts releases",
    "O9",
    /a release counted as an attempt|\[\]/,
    (outbox) =>
      settleAs(outbox, (one: { position: number; outcome: string }) =>
        one.outcome === "released"
          ? { position: one.position, outcome: "failed", error: { code: "x", message: "x" }, retryInMs: 0 }
          : one,
      ),
  ],
  [
    "never ends a lease",
    "O10",
    /in vain for a lease to end/,
    (outbox) => changed(outbox, { claim: (request) => outbox.claim({ ...request, leaseMs: 600_000 }) }),
  ],
  [
    "ends leases early",
    "O10",
    /a lease of 400 ms ended after/,
    (outbox) => changed(outbox, { claim: (request) => outbox.claim({ ...request, leaseMs: request.leaseMs / 4 }) }),
  ],
  [
    "renews what was taken over",
    "O11",
    /a claim that was taken over was renewed/,
    (outbox) =>
      changed(outbox, { renew: (token, leaseMs) => outbox.renew(token, leaseMs).then(() => "renewed" as const) }),
  ],
  [
    "takes late marks",
    "O12",
    /a late settlement was accepted/,
    (outbox) => {
      const inner = remembering(outbox);
      return changed(inner, {
        settle: (token, settlements) => outbox.settle(tokens.get(settlements[0]?.position ?? 0) ?? token, settlements),
      });
    },
  ],
  [
    "fails without a wait",
    "O14",
    /./,
    (outbox) =>
      settleAs(outbox, (one: { outcome: string }) => (one.outcome === "failed" ? { ...one, retryInMs: 0 } : one)),
  ],
  [
    "lets every key pass",
    "O15",
    /rows passed a quarantined one/,
    (outbox) => settleAs(outbox, (one: { outcome: string }) => ({ ...one, holdsKey: false })),
  ],
  [
    "holds every key",
    "O16",
    /a later row of the key was not claimed/,
    (outbox) => settleAs(outbox, (one: { outcome: string }) => ({ ...one, holdsKey: true })),
  ],
  [
    "discards nothing",
    "O17",
    /a row that was not quarantined was discarded/,
    (outbox) => changed(outbox, { discardQuarantined: async () => [] }),
  ],
  [
    "is early",
    "O18",
    /in a century|claimed after|now/,
    (outbox) =>
      changed(outbox, {
        insert: (to, rows) =>
          outbox.insert(
            to,
            rows.map((row) => ({ ...row, delayMs: 0 })),
          ),
      }),
  ],
  [
    "cleans nothing",
    "O19",
    /in vain for sent rows to be removed/,
    (outbox) => changed(outbox, { clean: async () => 0 }),
  ],
  [
    "cleans without a limit",
    "O19",
    /cleaning at most 5 removed/,
    (outbox) => changed(outbox, { clean: () => outbox.clean(1_000) }),
  ],
  [
    "is always well",
    "O20",
    /./,
    (outbox) => changed(outbox, { health: async () => ({ unsent: 0, oldestUnsentMs: 0, quarantined: 0, stalls: [] }) }),
  ],
];

const INBOXES: readonly Breakage<Inbox>[] = [
  [
    "forgets",
    "N1",
    /committed/,
    (inbox) =>
      changed(inbox, {
        handle: (message, work, options) =>
          inbox.handle({ ...message, id: `${message.id} ${Math.random()}` }, work, options),
      }),
  ],
  [
    "commits whatever happens",
    "N2",
    /./,
    (inbox) =>
      changed(inbox, {
        handle: (message, work, options) =>
          inbox.handle(
            message,
            (transaction) =>
              work(transaction).then(
                () => true,
                () => true,
              ),
            options,
          ),
      }),
  ],
  [
    "commits its note before its effect",
    "N2",
    /the note stayed|duplicate/,
    (inbox) =>
      changed(inbox, {
        async handle(message, work, options) {
          const end = await inbox.handle(message, async () => true, options);
          return end === "committed" ? inbox.handle({ ...message, id: `${message.id} again` }, work, options) : end;
        },
      }),
  ],
  [
    "does not wait",
    "N3",
    /a copy did not wait|duplicate|busy/,
    (inbox) =>
      changed(inbox, { handle: (message, work, options) => inbox.handle(message, work, { ...options, waitMs: 0 }) }),
  ],
  [
    "mixes consumers",
    "N1",
    /duplicate/,
    (inbox) =>
      changed(inbox, {
        handle: (message, work, options) => inbox.handle({ ...message, consumer: "all" }, work, options),
      }),
  ],
  [
    "folds the case of ids",
    "N7",
    /the id/,
    (inbox) =>
      changed(inbox, {
        handle: (message, work, options) => inbox.handle({ ...message, id: message.id.toLowerCase() }, work, options),
      }),
  ],
  [
    "cleans without a limit",
    "N8",
    /cleaning at most 5 removed \d+/,
    (inbox) => changed(inbox, { clean: (consumer, olderThanMs) => inbox.clean(consumer, olderThanMs, 1_000) }),
  ],
  [
    "cleans what is new",
    "N8",
    /cleaning removed a new row/,
    (inbox) => changed(inbox, { clean: (consumer, _, limit) => inbox.clean(consumer, -1_000, limit) }),
  ],
  [
    "is deaf to signals",
    "N9",
    /did not come to an end/,
    (inbox) =>
      changed(inbox, {
        handle: (message, work, options) => inbox.handle(message, work, { ...options, signal: AbortSignal.any([]) }),
      }),
  ],
  [
    "takes a work that broke its connection for an outage",
    "N16",
    /whose connection ended/,
    (inbox) => {
      const down = () => Promise.reject(new MessagingError("unreachable", "it did not answer"));
      return changed(inbox, { handle: (...call) => inbox.handle(...call).catch(down) });
    },
  ],
];

const PATIENCE_MS = 2_000;

function outboxHarness(breakage: (store: Outbox) => Outbox): OutboxHarness<DatabaseSync> {
  return {
    name: "broken",
    patienceMs: PATIENCE_MS,
    async place() {
      const table = `outbox_${state.tables++}`;
      return {
        async open({ keepSentMs }) {
          const opened = await openOutbox({ file, table, keepSentMs, timeoutMs: 1_000 });
          return { ...opened, store: breakage(opened.store) };
        },
        remove: async () => {},
      };
    },
  };
}

function inboxHarness(breakage: (inbox: Inbox) => Inbox): InboxHarness<DatabaseSync> {
  return {
    name: "broken",
    patienceMs: PATIENCE_MS,
    async place() {
      // A file for each: a transaction that a failed case left open holds the lock of its file.
      const { file: own, remove: removeOwn } = newDatabase();
      const reader = openDatabase(own);
      reader.exec("CREATE TABLE effects (effect TEXT NOT NULL) STRICT");
      return {
        async open() {
          const opened = await openInbox({ file: own, table: "inbox" });
          return { ...opened, inbox: breakage(opened.inbox) };
        },
        effects: async () =>
          reader
            .prepare("SELECT effect FROM effects")
            .all()
            .map(({ effect }) => String(effect)),
        async remove() {
          reader.close();
          removeOwn();
        },
      };
    },
    commitFromWithin: async () => {
      throw new MessagingError("unsupported", "not needed here");
    },
    breakFromWithin: async (transaction) => transaction.close(),
  };
}

function caseOf<Harness>(cases: readonly StoreCase<Harness>[], number: string): StoreCase<Harness> {
  const found = cases.find((one) => one.number === number);
  if (found === undefined) throw new Error(`there is no case ${number}`);
  return found;
}

describe("an outbox that", () => {
  test.for(OUTBOXES)("%s fails case %s", async ([, number, reason, breakage]) => {
    const harness = outboxHarness(breakage) as OutboxHarness;
    const { report, error } = await runCase(harness, caseOf(OUTBOX_CASES, number), SEED);
    expect(report.result).toBe("failed");
    expect(error?.message).toMatch(reason);
    expect(error?.message).toContain(`CONFORMANCE_SEED=${SEED}`);
  });
});

describe("an inbox that", () => {
  test.for(INBOXES)("%s fails case %s", async ([, number, reason, breakage]) => {
    const harness = inboxHarness(breakage) as InboxHarness;
    const { report, error } = await runCase(harness, caseOf(INBOX_CASES, number), SEED);
    expect(report.result).toBe("failed");
    expect(error?.message).toMatch(reason);
  });
});

test("what a harness has no means for is not run, unless it says why: then it is not applicable", async () => {
  const poor = outboxHarness((store) => store) as OutboxHarness;
  for (const number of ["O21", "O23"]) {
    const hole = await runCase(poor, caseOf(OUTBOX_CASES, number), SEED);
    expect(hole).toMatchObject({ report: { result: "not-run" } });
    const known = { ...poor, withoutProcesses: "none", withoutOutage: "none" };
    const told = await runCase(known, caseOf(OUTBOX_CASES, number), SEED);
    expect(told).toMatchObject({ report: { result: "not-applicable", note: "none" } });
  }
});

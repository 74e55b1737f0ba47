import assert from "node:assert/strict";
import { LONGEST_INBOX_TEXT } from "../../../patterns/outbox/inbox-store.ts";
import type { StoreCase, StoreContext } from "../../stores/suite.ts";
import type { InboxHarness } from "../harness.ts";
import { handle, Inboxes, message } from "../inbox-place.ts";

export const handling: readonly StoreCase<InboxHarness>[] = [
  { number: "N1", title: "the effect of a message is committed once, for each consumer", run: commits },
  { number: "N2", title: "a handler that rolls back or throws leaves nothing; the next copy runs", run: rollsBack },
  { number: "N3", title: "a concurrent copy waits, and is then a duplicate", run: waits },
  { number: "N4", title: "a concurrent copy runs if the first is rolled back", run: runsAfterwards },
  { number: "N5", title: "a copy that waits too long is busy, and changes nothing", run: isBusy },
  { number: "N6", title: "of many concurrent copies, in several inboxes, one has its effect", run: oneRuns },
  { number: "N7", title: "consumers and ids are compared exactly, with any characters", run: keepsApart },
  { number: "N8", title: "cleaning removes only old rows of one consumer, at most `limit`", run: cleans },
];

async function commits(context: StoreContext<InboxHarness>): Promise<void> {
  const inboxes = await Inboxes.make(context);
  const [inbox, other] = [await inboxes.open(), await inboxes.open()];
  assert.equal(await handle(inbox, message("m-1")), "committed");
  for (const one of [inbox, other]) assert.equal(await handle(one, message("m-1")), "duplicate");
  assert.deepEqual(await inboxes.effects(), ["m-1"]);
  assert.equal(await handle(other, message("m-1", "placed/billing"), {}, "billed"), "committed");
  assert.deepEqual(await inboxes.effects(), ["billed", "m-1"]);
}

async function rollsBack(context: StoreContext<InboxHarness>): Promise<void> {
  const inboxes = await Inboxes.make(context);
  const inbox = await inboxes.open();
  assert.equal(await handle(inbox, message("m-1"), { afterwards: async () => false }), "rolled-back");
  const thrown = new Error("no");
  const failed = handle(inbox, message("m-1"), { afterwards: () => Promise.reject(thrown) });
  assert.equal(await failed.catch((error: unknown) => error), thrown, "the handler's error was not passed on");
  assert.deepEqual(await inboxes.effects(), [], "a rolled back effect is stored");
  assert.equal(await handle(inbox, message("m-1")), "committed", "the note of a rolled back handler stayed");
  assert.deepEqual(await inboxes.effects(), ["m-1"]);
}

/** A handler that stays in its transaction until `end` is called. */
function held() {
  const begun = Promise.withResolvers<void>();
  const end = Promise.withResolvers<boolean>();
  const afterwards = (): Promise<boolean> => {
    begun.resolve();
    return end.promise;
  };
  return { afterwards, begun: begun.promise, end: end.resolve };
}

async function copyWhile(context: StoreContext<InboxHarness>, isCommitted: boolean) {
  const inboxes = await Inboxes.make(context);
  const [inbox, other] = [await inboxes.open(), await inboxes.open()];
  const { afterwards, begun, end } = held();
  const first = handle(inbox, message("m-1"), { afterwards }, "first");
  await context.inTime("the first copy", begun);
  const ended: string[] = [];
  const copies = [inbox, other].map((one) =>
    handle(one, message("m-1"), {}, "copy").then((how) => {
      ended.push(how);
      return how;
    }),
  );
  // No copy can have ended: the first one holds the row.
  assert.equal(await handle(other, message("m-1"), { waitMs: 100 }, "impatient"), "busy");
  assert.deepEqual(ended, [], "a copy did not wait for the first one");
  end(isCommitted);
  const how = await context.inTime("all copies", Promise.all([first, ...copies]));
  return { how, effects: await inboxes.effects() };
}

async function waits(context: StoreContext<InboxHarness>): Promise<void> {
  const { how, effects } = await copyWhile(context, true);
  assert.deepEqual(how, ["committed", "duplicate", "duplicate"]);
  assert.deepEqual(effects, ["first"]);
}

async function runsAfterwards(context: StoreContext<InboxHarness>): Promise<void> {
  const { how, effects } = await copyWhile(context, false);
  assert.equal(how[0], "rolled-back");
  assert.deepEqual(how.slice(1).sort(), ["committed", "duplicate"]);
  assert.deepEqual(effects, ["copy"]);
}

async function isBusy(context: StoreContext<InboxHarness>): Promise<void> {
  const inboxes = await Inboxes.make(context);
  const [inbox, other] = [await inboxes.open(), await inboxes.open()];
  const { afterwards, begun, end } = held();
  const first = handle(inbox, message("m-1"), { afterwards });
  await context.inTime("the first copy", begun);
  for (const waitMs of [0, 50]) {
    const copy = handle(other, message("m-1"), { waitMs });
    assert.equal(await context.inTime("a copy with a short wait", copy), "busy");
  }
  end(true);
  assert.equal(await first, "committed");
  assert.equal(await handle(other, message("m-1")), "duplicate");
  assert.equal(await handle(other, message("m-2"), { waitMs: 0 }), "committed", "a free message was busy");
  assert.deepEqual(await inboxes.effects(), ["m-1", "m-2"]);
}

const INBOXES = 3;
const COPIES = 6;
const RACES = 10;

async function oneRuns(context: StoreContext<InboxHarness>): Promise<void> {
  const inboxes = await Inboxes.make(context);
  const opened = await Promise.all(Array.from({ length: INBOXES }, () => inboxes.open()));
  const ids = Array.from({ length: RACES }, (_, race) => `m-${race}`);
  for (const id of ids) {
    const copies = Array.from({ length: COPIES }, (_, copy) => opened[copy % INBOXES]).flatMap((one) =>
      one === undefined ? [] : [handle(one, message(id))],
    );
    const how = await context.inTime("all copies", Promise.all(copies));
    const [first, ...rest] = how.sort();
    assert.equal(first, "committed");
    assert.deepEqual(new Set(rest), new Set(["duplicate"]), `several of ${COPIES} concurrent copies were handled`);
  }
  assert.deepEqual(await inboxes.effects(), ids);
}

async function keepsApart(context: StoreContext<InboxHarness>): Promise<void> {
  const inbox = await (await Inboxes.make(context)).open();
  const long = "k".repeat(LONGEST_INBOX_TEXT - 1);
  const texts = [
    ..." aA'\"\\%_?$1:/;-*",
    "a ",
    " a",
    "null",
    "0",
    "00",
    "1e3",
    "''",
    "$1",
    `${long}a`,
    `${long}b`,
    long,
  ];
  const unique = [...new Set(texts)];
  for (const text of unique) assert.equal(await handle(inbox, message(text, "c")), "committed", `the id ${text}`);
  for (const text of unique)
    assert.equal(await handle(inbox, message("id", text)), "committed", `the consumer ${text}`);
  for (const text of unique) assert.equal(await handle(inbox, message(text, "c")), "duplicate", `the id ${text}`);
}

const OLD = 12;

async function cleans(context: StoreContext<InboxHarness>): Promise<void> {
  const inboxes = await Inboxes.make(context);
  const inbox = await inboxes.open();
  const clean = (olderThanMs: number, limit: number, consumer = "orders"): Promise<number> =>
    inbox.inbox.clean(consumer, olderThanMs, limit);
  for (let n = 0; n < OLD; n++) assert.equal(await handle(inbox, message(`old-${n}`)), "committed");
  assert.equal(await handle(inbox, message("old-0", "other")), "committed");
  const oldAt = performance.now();
  assert.equal(await clean(600_000, 100), 0, "cleaning removed a new row");
  await context.until("some time to pass", () => performance.now() - oldAt > 100);
  assert.equal(await handle(inbox, message("new")), "committed");
  let removed = 0;
  await context.until("all old rows to be removed", async () => {
    // The age is counted from before the new row.
    const count = await clean(performance.now() - oldAt + 1 < 100 ? 100 : Math.floor(performance.now() - oldAt), 5);
    assert.ok(count <= 5, `cleaning at most 5 removed ${count}`);
    removed += count;
    return removed >= OLD;
  });
  assert.equal(removed, OLD, "cleaning removed more than the old rows");
  assert.equal(await handle(inbox, message("new")), "duplicate", "cleaning removed a new row");
  assert.equal(await handle(inbox, message("old-0", "other")), "duplicate", "cleaning removed another consumer's row");
  assert.equal(await handle(inbox, message("old-0"), {}, "again"), "committed", "a removed row still counts");
}

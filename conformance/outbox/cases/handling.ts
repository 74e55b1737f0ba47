import assert from "node:assert/strict";
import { LONGEST_INBOX_TEXT } from "../../../patterns/outbox/inbox-store.ts";
import type { StoreCase, StoreContext } from "../../stores/suite.ts";
import type { InboxHarness } from "../harness.ts";
import { handle, Inboxes, message } from "../inbox-place.ts";

export const handling: readonly StoreCase<InboxHarness>[] = [
  { number: "N1", title: "the effect of a message is committed once, for each consumer", run: commits },
  { number: "N2", title: "what is rolled back, or throws, leaves nothing; the next one runs", run: rollsBack },
  { number: "N3", title: "a copy that comes meanwhile waits, and then is known", run: waits },
  { number: "N4", title: "a copy that comes meanwhile runs if the first is rolled back", run: runsAfterwards },
  { number: "N5", title: "a copy that waits too long is busy, and changes nothing", run: isBusy },
  { number: "N6", title: "of many copies at once, over several inboxes, one has its effect", run: oneRuns },
  { number: "N7", title: "consumers and ids are told apart exactly, whatever is in them", run: keepsApart },
  { number: "N8", title: "cleaning removes old rows of one consumer, as many as asked for, and no other", run: cleans },
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
  assert.equal(await failed.catch((error: unknown) => error), thrown, "what was thrown did not go on");
  assert.deepEqual(await inboxes.effects(), [], "an effect is there that was rolled back");
  assert.equal(await handle(inbox, message("m-1")), "committed", "the note stayed of what was rolled back");
  assert.deepEqual(await inboxes.effects(), ["m-1"]);
}

/** A handling that stays in its transaction until it is told how to end. */
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
  // Neither can have come to an end: the row is held for as long as this takes.
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
    assert.equal(await context.inTime("a copy that waits little", copy), "busy");
  }
  end(true);
  assert.equal(await first, "committed");
  assert.equal(await handle(other, message("m-1")), "duplicate");
  assert.equal(await handle(other, message("m-2"), { waitMs: 0 }), "committed", "nobody holds it");
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
    assert.deepEqual(new Set(rest), new Set(["duplicate"]), `of ${COPIES} copies at once several were handled`);
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
  assert.equal(await clean(600_000, 100), 0, "what is new was cleaned away");
  await context.until("some time to pass", () => performance.now() - oldAt > 100);
  assert.equal(await handle(inbox, message("new")), "committed");
  let removed = 0;
  await context.until("all that is old to be cleaned away", async () => {
    // Counted from before the new row was made.
    const count = await clean(performance.now() - oldAt + 1 < 100 ? 100 : Math.floor(performance.now() - oldAt), 5);
    assert.ok(count <= 5, `cleaning at most 5 removed ${count}`);
    removed += count;
    return removed >= OLD;
  });
  assert.equal(removed, OLD, "more was cleaned away than was old");
  assert.equal(await handle(inbox, message("new")), "duplicate", "what is new was cleaned away");
  assert.equal(await handle(inbox, message("old-0", "other")), "duplicate", "another consumer's row was cleaned away");
  assert.equal(await handle(inbox, message("old-0"), {}, "again"), "committed", "what was cleaned away is still known");
}

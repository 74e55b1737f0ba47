import assert from "node:assert/strict";
import { isMessagingError } from "../../../core/errors.ts";
import { processesOf } from "../../stores/store-process.ts";
import { outageOf, type StoreCase, type StoreContext } from "../../stores/suite.ts";
import type { InboxHarness } from "../harness.ts";
import { handle, Inboxes, message } from "../inbox-place.ts";
import { startStoreProcess } from "../store-process.ts";

export const handlingFaults: readonly StoreCase<InboxHarness>[] = [
  { number: "N9", title: "an aborted signal rolls back at once, and late writes fail", run: aborts },
  { number: "N10", title: "an aborted signal ends a wait", run: abortsWaiting },
  { number: "N11", title: "a handler that ended its transaction is a conflict", run: endedFromWithin },
  { number: "N12", title: "a handler that ignored a failed statement does not commit", run: doomed },
  {
    number: "N13",
    title: "a process is killed before its commit: nothing is stored, and the next copy runs",
    run: killedBefore,
  },
  { number: "N14", title: "a process is killed after its commit: the next copy is a duplicate", run: killedAfter },
  {
    number: "N15",
    title: "during an outage calls fail in bounded time; afterwards the rows are unchanged",
    run: outage,
  },
  {
    number: "N16",
    title: "a handler whose connection ended is no outage: its result counts, and nothing is stored",
    run: broken,
  },
  {
    number: "N17",
    title: "a handler that ended its transaction and was aborted does not count as handled",
    run: endedAndAborted,
  },
];

async function aborts(context: StoreContext<InboxHarness>): Promise<void> {
  const inboxes = await Inboxes.make(context);
  const [inbox, other] = [await inboxes.open(), await inboxes.open()];
  const controller = new AbortController();
  const reason = new Error("stopped");
  const late = Promise.withResolvers<unknown>();
  const mayContinue = Promise.withResolvers<void>();
  const begun = Promise.withResolvers<void>();
  const afterwards = async (transaction: unknown): Promise<boolean> => {
    begun.resolve();
    await mayContinue.promise;
    await inbox.write(transaction, "late").then(
      () => late.resolve("it was written"),
      (error: unknown) => late.resolve(error),
    );
    return true;
  };
  const handled = handle(inbox, message("m-1"), { afterwards, signal: controller.signal }, "aborted");
  await context.inTime("the handler to begin", begun.promise);
  controller.abort(reason);
  const end = await context.inTime(
    "an aborted call",
    handled.catch((error: unknown) => error),
  );
  assert.equal(end, reason, "an aborted call did not reject with the signal's reason");
  const next = handle(other, message("m-1"), {}, "next");
  assert.equal(await context.inTime("the next copy", next), "committed");
  assert.equal(await handle(inbox, message("m-2")), "committed", "the inbox does not work after an abort");
  mayContinue.resolve();
  assert.ok((await context.inTime("a late write", late.promise)) instanceof Error, "a late write did not fail");
  assert.deepEqual(await inboxes.effects(), ["m-2", "next"]);
}

async function abortsWaiting(context: StoreContext<InboxHarness>): Promise<void> {
  const inboxes = await Inboxes.make(context);
  const [inbox, other] = [await inboxes.open(), await inboxes.open()];
  const end = Promise.withResolvers<boolean>();
  const begun = Promise.withResolvers<void>();
  const afterwards = (): Promise<boolean> => {
    begun.resolve();
    return end.promise;
  };
  const first = handle(inbox, message("m-1"), { afterwards });
  await context.inTime("the first copy", begun.promise);
  const controller = new AbortController();
  const waiting = [inbox, other].map((one) =>
    handle(one, message("m-1"), { signal: controller.signal }).catch((error: unknown) => error),
  );
  controller.abort(new Error("stopped"));
  const ends = await context.inTime("aborted waits", Promise.all(waiting));
  assert.deepEqual(ends, [controller.signal.reason, controller.signal.reason]);
  const already = await handle(other, message("m-1"), { signal: controller.signal }).catch((error: unknown) => error);
  assert.equal(already, controller.signal.reason, "a call with an aborted signal was made");
  end.resolve(true);
  assert.equal(await first, "committed");
  assert.equal(await handle(other, message("m-1")), "duplicate");
  assert.deepEqual(await inboxes.effects(), ["m-1"]);
}

async function endedFromWithin(context: StoreContext<InboxHarness>): Promise<void> {
  const inbox = await (await Inboxes.make(context)).open();
  const { harness } = context;
  const ends: readonly (() => Promise<boolean>)[] = [
    async () => true,
    async () => false,
    () => Promise.reject(new Error("no")),
  ];
  for (const begin of [undefined, harness.beginFromWithin]) {
    for (const [n, end] of ends.entries()) {
      const afterwards = async (transaction: unknown): Promise<boolean> => {
        await harness.commitFromWithin(transaction);
        await begin?.(transaction);
        return end();
      };
      const id = `m-${n}${begin === undefined ? "" : "-begun"}`;
      const error = await handle(inbox, message(id), { afterwards }).catch((failure: unknown) => failure);
      assert.ok(isMessagingError(error, "conflict"), `a handler that ended its transaction (${id}): ${error}`);
    }
  }
  assert.equal(await handle(inbox, message("next")), "committed");
}

async function endedAndAborted(context: StoreContext<InboxHarness>): Promise<void> {
  const inbox = await (await Inboxes.make(context)).open();
  const controller = new AbortController();
  const afterwards = async (transaction: unknown): Promise<boolean> => {
    await context.harness.commitFromWithin(transaction);
    controller.abort(new Error("it took too long"));
    return new Promise(() => {});
  };
  const handled = handle(inbox, message("m-1"), { afterwards, signal: controller.signal });
  const end = await context.inTime(
    "an aborted call",
    handled.catch((error: unknown) => error),
  );
  assert.equal(end, controller.signal.reason);
  const next = await context.inTime("the next copy", handle(inbox, message("m-1"), {}, "next"));
  assert.equal(next, "ended-early", "an aborted handler that ended its transaction counts as handled");
}

async function doomed(context: StoreContext<InboxHarness>): Promise<void> {
  const { doom, withoutDoom } = context.harness;
  if (doom === undefined) return context.cannot("the harness has no `doom`", withoutDoom);
  const inboxes = await Inboxes.make(context);
  const inbox = await inboxes.open();
  const afterwards = async (transaction: unknown): Promise<boolean> => {
    await doom(transaction);
    return true;
  };
  const error = await handle(inbox, message("m-1"), { afterwards }).catch((failure: unknown) => failure);
  assert.ok(isMessagingError(error, "refused"), `a handler that ignored a failed statement: ${error}`);
  assert.deepEqual(await inboxes.effects(), []);
  assert.equal(await handle(inbox, message("m-1")), "committed");
}

async function broken(context: StoreContext<InboxHarness>): Promise<void> {
  const { breakFromWithin, withoutBreak } = context.harness;
  if (breakFromWithin === undefined) return context.cannot("the harness has no `breakFromWithin`", withoutBreak);
  const inboxes = await Inboxes.make(context);
  const inbox = await inboxes.open();
  const thrown = new Error("no");
  const ends: Readonly<Record<string, () => Promise<boolean>>> = {
    "asks for a commit": async () => true,
    "asks for a rollback": async () => false,
    throws: () => Promise.reject(thrown),
  };
  for (const [how, end] of Object.entries(ends)) {
    const afterwards = async (transaction: unknown): Promise<boolean> => {
      await breakFromWithin(transaction);
      return end();
    };
    const handled = handle(inbox, message("m-1"), { afterwards }, how);
    const got = await context.inTime(
      `a handler that ${how}`,
      handled.catch((error: unknown) => error),
    );
    const isCounted =
      got === thrown ||
      got === "rolled-back" ||
      isMessagingError(got, "refused") ||
      isMessagingError(got, "unconfirmed");
    assert.ok(isCounted, `a handler whose connection ended, and that ${how}: ${got}`);
    if (how === "throws") assert.notEqual(got, "rolled-back", "the handler's error was ignored");
    if (how === "asks for a commit")
      assert.notEqual(got, "rolled-back", "a handler that was not committed counts as rolled back");
  }
  assert.deepEqual(await inboxes.effects(), []);
  await context.until("the inbox to reconnect", () =>
    handle(inbox, message("m-1")).then(
      (end) => end === "committed",
      () => false,
    ),
  );
  assert.deepEqual(await inboxes.effects(), ["m-1"]);
}

async function killed(context: StoreContext<InboxHarness>, stay: boolean) {
  const inboxes = await Inboxes.make(context);
  const processes = processesOf(context, inboxes.place.processes);
  if (processes === undefined) return undefined;
  const worker = await startStoreProcess(context, "inbox", processes);
  const [answer] = await worker.ask({ type: "handle", message: message("m-1"), stay });
  assert.equal(answer, stay ? "working" : "committed");
  const inbox = await inboxes.open();
  if (stay) assert.equal(await handle(inbox, message("m-1"), { waitMs: 50 }), "busy");
  await worker.kill();
  const end = await context.inTime("a copy after a worker died", handle(inbox, message("m-1"), {}, "next"));
  return { end, effects: await inboxes.effects() };
}

async function killedBefore(context: StoreContext<InboxHarness>): Promise<void> {
  const after = await killed(context, true);
  if (after === undefined) return;
  assert.deepEqual(after, { end: "committed", effects: ["next"] });
}

async function killedAfter(context: StoreContext<InboxHarness>): Promise<void> {
  const after = await killed(context, false);
  if (after === undefined) return;
  assert.deepEqual(after, { end: "duplicate", effects: ["m-1"] });
}

async function outage(context: StoreContext<InboxHarness>): Promise<void> {
  const down = outageOf(context);
  if (down === undefined) return;
  const inboxes = await Inboxes.make(context);
  const inbox = await inboxes.open();
  assert.equal(await handle(inbox, message("before")), "committed");
  await down.begin();
  const calls: Readonly<Record<string, () => Promise<unknown>>> = {
    handle: () => handle(inbox, message("meanwhile"), { waitMs: 100 }),
    "handle of a handled message": () => handle(inbox, message("before"), { waitMs: 100 }),
    clean: () => inbox.inbox.clean("orders", 600_000, 1),
  };
  for (const [name, call] of Object.entries(calls)) {
    const answer = await context.inTime(
      `${name}, during the outage,`,
      call().catch((error: unknown) => error),
    );
    assert.ok(answer === "busy" || isMessagingError(answer), `${name}, during the outage: ${answer}`);
  }
  await down.end();
  await context.until("the inbox to reconnect", () =>
    handle(inbox, message("before")).then(
      (end) => end === "duplicate",
      () => false,
    ),
  );
  assert.equal(await handle(inbox, message("meanwhile")), "committed");
  assert.deepEqual(await inboxes.effects(), ["before", "meanwhile"]);
}

import { deadLetters } from "anybroker/dead-letters";
import { expect, test } from "vitest";
import { memory, memorySpace } from "../../../adapters/memory/index.ts";
import { delegate } from "../../../conformance/decorators/delegate.ts";
import type { Adapter, DeliverySink, DeliveryToken, IncomingMessage, Receiver } from "../../../core/adapter.ts";
import type { DeadLettersAddress } from "../../../core/address.ts";
import { isMessagingError, MessagingError } from "../../../core/errors.ts";
import { refusesAcks } from "../refuses-acks.ts";
import { withoutBrowse } from "./adapters.ts";
import { burials, Graveyard } from "./graveyard.ts";

const SELECTED = burials(20);
const ids = SELECTED.map(({ id }) => id);

/** An adapter that loses all that a receiver of dead letters holds, once, when so many were delivered. */
function losing(inner: Adapter, after: number): Adapter {
  let delivered = 0;
  return delegate(inner, {
    async receive(from, options, sink) {
      const held = new Set<DeliveryToken>();
      let receiver: Receiver | undefined;
      const told: DeliverySink = {
        deliver: (batch) => {
          for (const { token } of batch) held.add(token);
          sink.deliver(batch);
          delivered += batch.length;
          if (delivered < after) return;
          delivered = Number.NEGATIVE_INFINITY;
          // After those who look have had their turn.
          setImmediate(() => {
            sink.lost("all", new MessagingError("unreachable", "as ordered"));
            void receiver?.settle([...held].map((token) => ({ token, action: "requeue" })));
          });
        },
        lost: (tokens, cause) => sink.lost(tokens, cause),
        revoke: (tokens) => sink.revoke(tokens),
        stalled: (cause) => sink.stalled(cause),
        flowing: () => sink.flowing(),
        filtered: (count) => sink.filtered(count),
      };
      receiver = await inner.receive(from, options, told);
      return receiver;
    },
  });
}

test("a run whose deliveries are lost sends none twice, and removes all", async () => {
  const space = memorySpace();
  const yard = await Graveyard.open({ name: "memory", adapter: () => losing(memory({ space }), 20) });
  await yard.bury(SELECTED);
  const { run } = await yard.dead.replay("all", { rate: 200 });
  await expect(run()).resolves.toMatchObject({ done: 20, failed: 0, stopped: undefined });
  expect(
    yard
      .sentBack()
      .map(({ id }) => id)
      .sort(),
  ).toEqual(ids);
  expect((await yard.dead.list()).entries).toEqual([]);
  await yard.stop();
});

test("a look whose deliveries are lost says that it is not to be trusted; a page and a plan have each once all the same", async () => {
  for (const verb of ["count", "list", "plan"] as const) {
    const space = memorySpace();
    const yard = await Graveyard.open({ name: "memory", adapter: () => withoutBrowse(losing(memory({ space }), 20)) });
    await yard.bury(SELECTED);
    if (verb === "count") {
      expect(await yard.dead.count("reason = attempts")).toMatchObject({ complete: false, held: true });
    } else if (verb === "list") {
      const { entries, complete } = await yard.dead.list();
      expect([entries.map(({ messageId }) => messageId), complete]).toEqual([ids, false]);
    } else {
      expect((await yard.dead.replay("all")).plan).toMatchObject({ count: 20, complete: false });
    }
    expect(await yard.dead.count("reason = attempts")).toMatchObject({ count: 20, complete: true });
    await yard.stop();
  }
});

/** An adapter whose receivers of dead letters cannot be given any, as where their connection breaks on one. */
function stalling(inner: Adapter): Adapter {
  const cause = new MessagingError("invalid", "as ordered");
  const receiver: Receiver = {
    leaseMs: undefined,
    prefetch() {},
    settle: (batch) => Promise.resolve(batch.map(() => "fenced")),
    extend: (batch) => Promise.resolve(batch.map(() => true)),
    close: () => Promise.resolve(),
  };
  return delegate(inner, {
    receive: (_from, _options, sink) => {
      sink.stalled(cause);
      return Promise.resolve(receiver);
    },
    depth: () => Promise.resolve({ ready: 0, unsettled: undefined, exact: false, consumers: 1 }),
  });
}

test("a look that cannot be given any says that it is not to be trusted", async () => {
  const adapter = () => withoutBrowse(stalling(memory()));
  const yard = await Graveyard.open({ name: "memory", adapter }, { dead: { patienceMs: 500 } });
  expect(await yard.dead.count("reason = attempts")).toMatchObject({ count: 0, complete: false });
  expect(await yard.dead.list()).toMatchObject({ entries: [], complete: false });
  expect((await yard.dead.replay("all")).plan).toMatchObject({ count: 0, complete: false });
  await yard.stop();
});

test("what is looked at is given back when the look is broken off", async () => {
  const space = memorySpace();
  const yard = await Graveyard.open({ name: "memory", adapter: () => withoutBrowse(memory({ space })) });
  await yard.bury(SELECTED);
  for await (const { messageId } of yard.dead.entries()) {
    expect(messageId).toBe(ids[0]);
    break;
  }
  const reason = new Error("enough");
  const signal = AbortSignal.abort(reason);
  await expect(yard.dead.list({ signal })).rejects.toBe(reason);
  await expect(yard.dead.replay("all", { signal })).rejects.toBe(reason);
  expect(await yard.dead.count("reason = attempts")).toMatchObject({ count: 20, complete: true });
  await yard.stop();
});

test("what somebody else holds is waited for as long as there is patience, and then left", async () => {
  const space = memorySpace();
  const adapter = memory({ space });
  const yard = await Graveyard.open({ name: "memory", adapter: () => adapter }, { dead: { patienceMs: 300 } });
  await yard.bury(SELECTED);
  const { plan, run } = await yard.dead.replay("all");
  const sink: DeliverySink = { deliver() {}, lost() {}, revoke() {}, stalled() {}, flowing() {}, filtered() {} };
  const from = { kind: "dead-letters", of: yard.address } as const;
  const other = await adapter.receive(from, { prefetch: 5, ordered: false }, sink);
  await expect(run()).resolves.toMatchObject({ done: 15, missing: 0, stopped: "held" });
  await other.close();
  const patient = deadLetters(yard.broker, yard.orders, { patienceMs: 60_000 });
  await expect((await patient.resume(plan)).run()).resolves.toMatchObject({
    done: 5,
    missing: 15,
    stopped: undefined,
  });
  expect(
    yard
      .sentBack()
      .map(({ id }) => id)
      .sort(),
  ).toEqual(ids);
  await yard.stop();
});

/** An adapter that can browse some dead letters only, once `hides` says so. */
function hiding(inner: Adapter, hides: () => boolean): Adapter {
  const { browse } = inner;
  if (browse === undefined) throw new Error("it cannot browse");
  async function* partly(of: DeadLettersAddress): AsyncGenerator<readonly IncomingMessage[]> {
    for await (const batch of browse?.call(inner, of) ?? []) {
      if (!hides()) yield batch;
      else yield batch.slice(0, 1).map((one) => ({ ...one, unreadable: new MessagingError("too-large", "a bomb") }));
    }
  }
  return { ...delegate(inner), browse: partly };
}

test("a list that lacks what cannot be read says so, and a run takes nothing for removed because of it", async () => {
  const adapter = memory();
  let hides = false;
  const hidden = () => hiding(adapter, () => hides);
  const yard = await Graveyard.open({ name: "memory", adapter: hidden }, { dead: { patienceMs: 300 } });
  await yard.bury(SELECTED);
  const { run } = await yard.dead.replay("all");
  const sink: DeliverySink = { deliver() {}, lost() {}, revoke() {}, stalled() {}, flowing() {}, filtered() {} };
  const from = { kind: "dead-letters", of: yard.address } as const;
  const other = await adapter.receive(from, { prefetch: 5, ordered: false }, sink);
  expect(await yard.dead.count("all")).toMatchObject({ count: 20, complete: true });
  hides = true;
  expect(await yard.dead.list()).toMatchObject({ entries: [], complete: false });
  await expect(run()).resolves.toMatchObject({ done: 15, missing: 0, stopped: "held" });
  await other.close();
  await yard.stop();
});

test("a broker that takes no more ends the run, with nothing lost", async () => {
  const space = memorySpace();
  let sends = 0;
  const refusing = (inner: Adapter): Adapter =>
    delegate(inner, {
      send: (to, batch, report) => {
        if (to.kind !== "queue" || ++sends < 3) return inner.send(to, batch, report);
        const error = new MessagingError("unauthorized", "as ordered");
        for (const index of batch.keys()) report(index, { status: "rejected", error });
      },
    });
  const yard = await Graveyard.open({ name: "memory", adapter: () => refusing(memory({ space })) });
  await yard.bury(SELECTED);
  const { run } = await yard.dead.replay("all", { rate: 100 });
  const result = await run();
  expect(result.stopped).toBe("error");
  expect(isMessagingError(result.error, "unauthorized")).toBe(true);
  expect(result.done).toBe(2);
  expect((await yard.dead.list()).entries).toHaveLength(18);
  await yard.stop();
});

test("messages that are refused one by one stand as before, and the others go", async () => {
  const space = memorySpace();
  const picky = (inner: Adapter): Adapter =>
    delegate(inner, {
      send: (to, batch, report) =>
        inner.send(
          to,
          to.kind === "queue" ? batch.filter(({ id }) => !id.endsWith("7")) : batch,
          to.kind === "queue" ? picked(batch, report) : report,
        ),
    });
  const yard = await Graveyard.open({ name: "memory", adapter: () => picky(memory({ space })) });
  await yard.bury(SELECTED);
  const { run } = await yard.dead.replay("all");
  const result = await run();
  expect(result).toMatchObject({ done: 18, failed: 2, stopped: undefined });
  expect(result.failures.map(({ messageId }) => messageId).sort()).toEqual(["m-00007", "m-00017"]);
  expect((await yard.dead.list()).entries.map(({ messageId }) => messageId)).toEqual(["m-00007", "m-00017"]);
  await yard.stop();

  function picked(batch: readonly { readonly id: string }[], report: Parameters<Adapter["send"]>[2]): typeof report {
    const kept: number[] = [];
    for (const [index, { id }] of batch.entries()) {
      if (!id.endsWith("7")) kept.push(index);
      else report(index, { status: "rejected", error: new MessagingError("too-large", "as ordered") });
    }
    return (index, result) => report(kept[index] as number, result);
  }
});

test("a broker that lets nothing be removed ends the run when its patience is over, and everything stands", async () => {
  const space = memorySpace();
  const adapter = () => refusesAcks(memory({ space }));
  const yard = await Graveyard.open({ name: "memory", adapter }, { dead: { patienceMs: 300 } });
  await yard.bury(SELECTED);
  const { run } = await yard.dead.replay("all");
  await expect(run()).resolves.toMatchObject({ done: 0, stopped: "error", error: { code: "unauthorized" } });
  expect(await yard.dead.count("all")).toMatchObject({ count: 20, complete: true });
  await yard.stop();
});

test("a run that is cancelled waits no longer than its patience for what cannot be removed", async () => {
  const space = memorySpace();
  const adapter = () => refusesAcks(memory({ space }));
  const yard = await Graveyard.open({ name: "memory", adapter }, { dead: { patienceMs: 1_000 } });
  await yard.bury(SELECTED);
  const { run } = await yard.dead.replay("all");
  const cancel = new AbortController();
  const running = run({ signal: cancel.signal });
  await yard.until("something to be sent back", () => yard.sentBack().length > 0);
  cancel.abort();
  await expect(running).resolves.toMatchObject({ done: 0, stopped: "cancelled" });
  await yard.stop();
});

test("equal messages whose ids are made of their content are each sent", async () => {
  const space = memorySpace();
  const yard = await Graveyard.open({ name: "memory", adapter: () => memory({ space }) });
  const [one] = burials(1, "sha256");
  if (one === undefined) throw new Error("there is one");
  await yard.bury([one, { ...one, failedAt: 1 }, { ...one, failedAt: 2 }, one]);
  const replay = async () => (await yard.dead.replay("all")).run();
  expect(await replay()).toMatchObject({ failed: 0, stopped: undefined });
  await replay();
  expect(yard.sentBack()).toHaveLength(4);
  expect(await yard.dead.count()).toMatchObject({ count: 0 });
  await yard.stop();
});

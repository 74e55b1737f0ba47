import assert from "node:assert/strict";
import { isMessagingError } from "../../../core/errors.ts";
import { processesOf } from "../../stores/store-process.ts";
import { LONG_MS, outageOf, type StoreCase, type StoreContext } from "../../stores/suite.ts";
import type { OutboxHarness } from "../harness.ts";
import { committed, drain, keyed, Outboxes, positionOf, row, sentAll, take } from "../outbox-place.ts";
import { startStoreProcess } from "../store-process.ts";

export const failing: readonly StoreCase<OutboxHarness>[] = [
  { number: "O21", title: "a process is killed before its commit: its rows are not stored", run: killedBeforeCommit },
  {
    number: "O22",
    title: "a process is killed with a claim: others take its rows over after its lease",
    run: killedInClaim,
  },
  {
    number: "O23",
    title: "during an outage every call fails in bounded time; afterwards the rows are unchanged",
    run: outage,
  },
];

async function killedBeforeCommit(context: StoreContext<OutboxHarness>): Promise<void> {
  const outboxes = await Outboxes.make(context);
  const processes = processesOf(context, outboxes.place.processes);
  if (processes === undefined) return;
  const outbox = await outboxes.open();
  const worker = await startStoreProcess(context, "outbox", processes);
  const rows = [keyed("gone-1", "k"), keyed("gone-2", "k")].map((one) => ({ ...one, body: "{}" }));
  await worker.ask({ type: "insert-and-stay", rows });
  await worker.kill();
  await context.inTime("an insert after a writer died", committed(outbox, [keyed("kept", "k")]));
  assert.deepEqual(await drain(outbox.store), ["kept"], "rows of an uncommitted transaction were claimed");
}

const LEASE_MS = 1_000;

async function killedInClaim(context: StoreContext<OutboxHarness>): Promise<void> {
  const outboxes = await Outboxes.make(context);
  const processes = processesOf(context, outboxes.place.processes);
  if (processes === undefined) return;
  const outbox = await outboxes.open();
  const ids = ["a1", "a2", "b1"];
  await committed(
    outbox,
    ids.map((id) => keyed(id, id.slice(0, 1))),
  );
  const worker = await startStoreProcess(context, "outbox", processes);
  assert.deepEqual(await worker.ask({ type: "claim", leaseMs: LEASE_MS }), ids);
  await worker.kill();
  const came: string[] = [];
  await context.until("the claim of a dead process to be taken over", async () => {
    came.push(...(await drain(outbox.store)));
    return came.length > 0;
  });
  assert.deepEqual(came, ids);
}

async function outage(context: StoreContext<OutboxHarness>): Promise<void> {
  const down = outageOf(context);
  if (down === undefined) return;
  const outbox = await (await Outboxes.make(context)).open();
  const { store } = outbox;
  await committed(outbox, [keyed("held", "h"), keyed("failed", "f"), keyed("waiting", "h")]);
  const claim = await take(store, { limit: 2 });
  const [held, failed] = [positionOf(claim, "held"), positionOf(claim, "failed")];
  const failure = {
    position: failed,
    outcome: "failed",
    error: { code: "refused", message: "no" },
    retryInMs: 0,
  } as const;
  await down.begin();
  const calls: Readonly<Record<string, () => Promise<unknown>>> = {
    claim: () => store.claim({ relay: "suite", limit: 1, leaseMs: LONG_MS }),
    renew: () => store.renew(claim.token, LONG_MS),
    settle: () => store.settle(claim.token, [failure]),
    retryQuarantined: () => store.retryQuarantined([held]),
    discardQuarantined: () => store.discardQuarantined([held]),
    clean: () => store.clean(1),
    ...(down.answersReads
      ? {}
      : { listQuarantined: () => store.listQuarantined({ limit: 1 }), health: () => store.health() }),
  };
  for (const [name, call] of Object.entries(calls)) {
    const answered = call().then(JSON.stringify, (error) => error);
    const answer = await context.inTime(`${name}, during the outage,`, answered);
    assert.ok(isMessagingError(answer), `${name}, during the outage: ${answer}`);
  }
  await down.end();
  await context.until("the store to reconnect", () =>
    store.renew(claim.token, LONG_MS).then(
      (result) => result === "renewed",
      () => false,
    ),
  );
  const after = await context.inTime("a claim after the outage", take(store));
  await sentAll(store, { token: claim.token, rows: claim.rows.slice(0, 1) });
  // The effect of a failed call is unknown.
  const unchanged = await store.settle(claim.token, [failure]);
  const rest = [...after.ids, ...(await drain(store))].filter((id) => id !== "failed");
  assert.deepEqual(rest, ["waiting"]);
  assert.ok(unchanged.length <= 1);
  await committed(outbox, [row("new")]);
  assert.deepEqual((await take(store)).ids.includes("new"), true, "a new row is not claimed after an outage");
}

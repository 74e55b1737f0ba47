import assert from "node:assert/strict";
import { isMessagingError } from "../../../core/errors.ts";
import { processesOf } from "../../stores/store-process.ts";
import { LONG_MS, outageOf } from "../../stores/suite.ts";
import type { StoreCase } from "../case.ts";
import { claimed, openStore, type StoreContext } from "../context.ts";
import { startStoreProcess } from "../store-process.ts";

export const failing: readonly StoreCase[] = [
  { number: "I12", title: "one of concurrent claims in several processes wins", run: oneProcessWins },
  {
    number: "I13",
    title: "a process is killed between effect and completion: the next claim succeeds after its lease",
    run: killed,
  },
  {
    number: "I14",
    title: "during an outage every call fails in bounded time; afterwards the records are unchanged",
    run: isDown,
  },
];

const PROCESSES = 3;
const KEYS = 200;

async function oneProcessWins(context: StoreContext): Promise<void> {
  const processes = processesOf(context, context.harness.processes);
  if (processes === undefined) return;
  const keys = Array.from({ length: KEYS }, () => context.name());
  const workers = await Promise.all(Array.from({ length: PROCESSES }, () => startStoreProcess(context, processes)));
  const results = await Promise.all(
    workers.map((worker) => worker.ask({ type: "claim", keys: keys, leaseMs: LONG_MS })),
  );
  for (const [index, key] of keys.entries()) {
    const won = results.filter((statuses) => statuses[index] === "claimed").length;
    assert.equal(won, 1, `${won} of ${PROCESSES} processes hold ${key}`);
  }
}

const LEASE_MS = 1_000;

async function killed(context: StoreContext): Promise<void> {
  const processes = processesOf(context, context.harness.processes);
  if (processes === undefined) return;
  const store = await openStore(context);
  const key = context.name();
  const worker = await startStoreProcess(context, processes);
  assert.deepEqual(await worker.ask({ type: "claim", keys: [key], leaseMs: LEASE_MS }), ["claimed"]);
  await worker.kill();
  await context.until("the claim of a dead process to end", async () => {
    const { status } = await store.claim(key, LONG_MS);
    assert.notEqual(status, "done", "a key without a completion is done");
    return status === "claimed";
  });
}

async function isDown(context: StoreContext): Promise<void> {
  const { harness } = context;
  const outage = outageOf(context);
  if (outage === undefined) return;
  const store = await openStore(context);
  // The effect of a failed call is unknown, so each call that ends a claim has its own.
  const [held, ended, given, done, free] = [
    context.name(),
    context.name(),
    context.name(),
    context.name(),
    context.name(),
  ];
  const token = await claimed(store, held);
  const endedToken = await claimed(store, ended);
  const givenToken = await claimed(store, given);
  assert.equal(await store.complete(done, await claimed(store, done), LONG_MS), "completed");
  await outage.begin();
  const calls: Readonly<Record<string, () => Promise<unknown>>> = {
    claim: () => store.claim(free, LONG_MS),
    "claim of a held key": () => store.claim(held, LONG_MS),
    "claim of a completed key": () => store.claim(done, LONG_MS),
    renew: () => store.renew(held, token, LONG_MS),
    complete: () => store.complete(ended, endedToken, LONG_MS),
    release: () => store.release(given, givenToken),
    // A database that removes records by itself gets no call.
    ...(harness.removesByItself ? {} : { clean: () => store.clean(1) }),
  };
  for (const [name, call] of Object.entries(calls)) {
    const answer = await context.inTime(
      `${name}, during the outage,`,
      call().then(JSON.stringify, (error) => error),
    );
    assert.ok(isMessagingError(answer), `${name}, during the outage: ${answer}`);
  }
  await outage.end();
  await context.until("the store to reconnect", () =>
    store.claim(done, LONG_MS).then(
      ({ status }) => status === "done",
      () => false,
    ),
  );
  assert.equal((await store.claim(held, LONG_MS)).status, "busy");
  assert.equal(await store.complete(held, token, LONG_MS), "completed");
  assert.equal(await store.complete(ended, endedToken, LONG_MS), "completed", "a second try of a failed completion");
  assert.notEqual((await store.claim(given, LONG_MS)).status, "done");
  assert.notEqual((await store.claim(free, LONG_MS)).status, "done");
}

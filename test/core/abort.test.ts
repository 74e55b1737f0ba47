import { createBroker, queue } from "anybroker";
import { expect, onTestFinished, test } from "vitest";
import { PublisherEngine } from "../../core/publish/publisher-engine.ts";
import { Prng } from "../simulation/prng.ts";
import { ProcessClock, VirtualTime } from "../simulation/virtual-time.ts";
import { outgoingMessage, RecordingAdapter, settled } from "./recording-adapter.ts";

const ADDRESS = { kind: "queue", name: "work" } as const;
const LIMITS = { maxBatchMessages: 1, maxBatchBytes: 1_000, maxBatchesInFlight: 1 };

function engine(maxMessages = 100) {
  const adapter = new RecordingAdapter(LIMITS);
  adapter.holds = true;
  const publishing = new PublisherEngine(
    adapter,
    { maxMessages },
    new ProcessClock(new VirtualTime()),
    new Prng("abort"),
  );
  publishing.connected(true);
  const route = publishing.route(ADDRESS, false);
  const send = (id: string, signal?: AbortSignal) => publishing.send(route, outgoingMessage(id), 1_000, signal);
  return { adapter, publishing, send };
}

test.for([
  ["a message that waits for its batch", 100],
  ["a message that waits for room", 1],
] as const)("%s is not sent once its signal is aborted, and leaves its room", async ([, maxMessages]) => {
  const { adapter, publishing, send } = engine(maxMessages);
  const first = send("1");
  const abort = new AbortController();
  const second = expect(send("2", abort.signal)).rejects.toMatchObject({
    code: "aborted",
    message: expect.stringContaining("message 2 to queue"),
    cause: "no longer wanted",
  });
  await settled();
  expect(adapter.handed).toHaveLength(1);
  abort.abort("no longer wanted");
  await second;
  expect(publishing.messages + publishing.waiting).toBe(1);
  adapter.handed[0]?.report(0, { status: "confirmed" });
  await first;
  const third = send("3");
  await settled();
  expect(adapter.handed.map(({ batch }) => batch[0]?.id)).toEqual(["1", "3"]);
  adapter.handed[1]?.report(0, { status: "confirmed" });
  await third;
  expect(publishing.messages).toBe(0);
});

test("a message that the broker has may be stored: the send ends as unconfirmed, and counts until it is reported on", async () => {
  const { adapter, publishing, send } = engine();
  const abort = new AbortController();
  const sent = expect(send("1", abort.signal)).rejects.toMatchObject({
    code: "unconfirmed",
    message: expect.stringContaining("its signal was aborted before the broker confirmed it"),
  });
  await settled();
  abort.abort();
  await sent;
  expect(publishing.messages).toBe(1);
  adapter.handed[0]?.report(0, { status: "confirmed" });
  expect(publishing.messages).toBe(0);
});

test("a confirmed send does not listen to its signal any more", async () => {
  const { adapter, send } = engine();
  const { signal } = new AbortController();
  const listeners = { added: 0, removed: 0 };
  const { addEventListener, removeEventListener } = signal;
  signal.addEventListener = (...given: Parameters<typeof addEventListener>) => {
    listeners.added++;
    addEventListener.apply(signal, given);
  };
  signal.removeEventListener = (...given: Parameters<typeof removeEventListener>) => {
    listeners.removed++;
    removeEventListener.apply(signal, given);
  };
  const sent = send("1", signal);
  await settled();
  adapter.handed[0]?.report(0, { status: "confirmed" });
  await sent;
  expect(listeners).toEqual({ added: 1, removed: 1 });
});

async function started() {
  const adapter = new RecordingAdapter();
  const broker = createBroker(adapter);
  onTestFinished(() => broker.stop({ timeoutMs: 1 }));
  await broker.start();
  return { adapter, broker };
}

test("nothing is sent for a signal that is aborted before, and nothing for what is no signal", async () => {
  const { adapter, broker } = await started();
  const orders = queue<string>("orders");
  await expect(broker.send(orders, "x", { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: "aborted" });
  await expect(broker.send(orders, "x", { signal: {} as AbortSignal })).rejects.toMatchObject({ code: "invalid" });
  expect(adapter.handed).toEqual([]);
});

test("an asynchronous schema is not waited for once the signal is aborted, and nothing is sent afterwards", async () => {
  const { adapter, broker } = await started();
  const checked = Promise.withResolvers<{ value: string }>();
  const schema = {
    "~standard": { version: 1 as const, vendor: "slow", validate: () => checked.promise },
  };
  const orders = queue("orders", { schema });
  const abort = new AbortController();
  const sent = expect(broker.send(orders, "x", { signal: abort.signal })).rejects.toMatchObject({ code: "aborted" });
  abort.abort();
  await sent;
  checked.resolve({ value: "x" });
  await settled();
  expect(adapter.handed).toEqual([]);
});

import { expect, it } from "vitest";
import { type BrokerEvent, createBroker, MessagingError, queue } from "../../core/index.ts";
import { incoming, RecordingAdapter } from "./recording-adapter.ts";

it("says that a consumer stalled, and that it flows again, by a word of the receiver or a delivery", async () => {
  const adapter = new RecordingAdapter();
  const events: BrokerEvent[] = [];
  const broker = createBroker(adapter, { onEvent: (event) => events.push(event) });
  const consumer = broker.consume(queue("work"), () => {});
  await broker.start();
  const sink = adapter.opened[0]?.sink;
  const cause = new MessagingError("unreachable", "nobody is there");

  sink?.stalled(cause);
  expect(consumer.status()).toMatchObject({ state: "stalled", error: cause });
  sink?.flowing();
  expect(consumer.status()).toMatchObject({ state: "running", error: undefined });
  sink?.flowing();
  sink?.stalled(cause);
  sink?.deliver([incoming("one")]);
  expect(consumer.status().state).toBe("running");

  const seen = events.filter(({ type }) => type === "stalled" || type === "flowing").map(({ type }) => type);
  expect(seen).toEqual(["stalled", "flowing", "stalled", "flowing"]);
  await broker.stop();
});

it("is stalled while its receiver or that of its suspects is, whatever the other one says", async () => {
  const adapter = new RecordingAdapter();
  const events: BrokerEvent[] = [];
  const broker = createBroker(adapter, { onEvent: (event) => events.push(event) });
  const consumer = broker.consume(queue("work"), () => {});
  await broker.start();
  const [main, suspects] = ["queue", "suspects"].map((kind) => adapter.opened.find(({ from }) => from.kind === kind));
  const denied = new MessagingError("unauthorized", "no right to settle");

  main?.sink.stalled(denied);
  suspects?.sink.stalled(new MessagingError("unreachable", "nobody is there"));
  suspects?.sink.flowing();
  suspects?.sink.deliver([incoming("apart")]);
  expect(consumer.status()).toMatchObject({ state: "stalled", error: denied });
  main?.sink.flowing();
  expect(consumer.status()).toMatchObject({ state: "running", error: undefined });

  const seen = events.filter(({ type }) => type === "stalled" || type === "flowing").map(({ type }) => type);
  expect(seen).toEqual(["stalled", "stalled", "flowing"]);
  await broker.stop();
});

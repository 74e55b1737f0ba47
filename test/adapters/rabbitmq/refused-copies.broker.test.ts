import { expect, test } from "vitest";
import { rabbitmq } from "../../../adapters/rabbitmq/index.ts";
import { createBroker } from "../../../core/create-broker.ts";
import { queue } from "../../../core/destination.ts";
import type { BrokerEvent } from "../../../core/events.ts";
import { HEADER } from "../../../core/system-headers.ts";
import { deadLetters } from "../../../patterns/dead-letters/index.ts";
import { describeRabbitMQ } from "../../brokers/suite.ts";
import { until } from "../../brokers/until.ts";
import { useVirtualHost } from "../conformance/virtual-host.ts";
import { sendForeign } from "./foreign-sender.ts";
import { keepingSink, openAdapter } from "./open-adapter.ts";

interface Order {
  readonly n: number;
  readonly bad?: boolean;
}

const PATIENCE_MS = 240_000;
/** Far longer than a test may take. */
const FOREVER_MS = 3_600_000;
const HUGE = "x".repeat(70_000);

describeRabbitMQ("copies that RabbitMQ cannot take", (broker) => {
  const host = useVirtualHost(broker);

  test("six messages with more headers than a client can send: others pass, and the six are dead-lettered", async () => {
    const { url, namePrefix } = host();
    const orders = queue<Order>(`${namePrefix}huge-headers`);
    const handled: number[] = [];
    const starts: number[] = [];
    const events: BrokerEvent[] = [];
    const one = createBroker(rabbitmq({ url }), { destinations: [orders], onEvent: (event) => events.push(event) });
    await one.start();
    await sendForeign(
      url,
      orders.name,
      Array.from({ length: 6 }, (_, n) => ({
        headers: { huge: HUGE, tenant: `acme-${n}` },
        body: JSON.stringify({ n, bad: true }),
      })),
    );
    for (let n = 0; n < 20; n++) await one.send(orders, { n });
    const consumer = one.consume(
      orders,
      ({ n, bad }) => {
        if (bad) {
          starts.push(n);
          throw new Error("no total");
        }
        handled.push(n);
      },
      { concurrency: 2, prefetch: { messages: 5 }, retry: { attempts: 2, delay: { firstMs: 1_000, jitter: 0 } } },
    );
    await until("the good ones", PATIENCE_MS, () => expect(handled).toHaveLength(20));
    await until("the bad ones to be dead", PATIENCE_MS, () => expect(consumer.status().deadLettered).toBe(6));
    expect(starts).toHaveLength(12);
    expect(consumer.status()).toMatchObject({ unsettled: 0, parked: 0, state: "running" });
    const { entries } = await deadLetters(one, orders).list();
    expect(entries).toHaveLength(6);
    for (const entry of entries) {
      const { n } = JSON.parse(entry.body) as Order;
      expect(entry).toMatchObject({ reason: "attempts", error: "no total", attempts: 2 });
      expect(entry.headers).toEqual({ tenant: `acme-${n}` });
    }
    const { kept, sink } = keepingSink();
    const seam = await openAdapter({ url });
    const dead = { kind: "dead-letters", of: { kind: "queue", name: orders.name } } as const;
    await seam.adapter.receive(dead, { prefetch: 10, ordered: false }, sink);
    await until("the dead letters", PATIENCE_MS, () => expect(kept).toHaveLength(6));
    for (const { headers } of kept) expect(headers[HEADER.cut]).toBe(`huge (${HUGE.length + 4} bytes)`);
    await seam.adapter.close();
    expect(events.some(({ type }) => type === "parked")).toBe(false);
    await one.stop();
  });

  test("without the right to write: others pass, a stop does not wait, and the right mends it", async (context) => {
    const { rabbitmqctl } = broker;
    if (!rabbitmqctl) return context.skip("NOT RUN: rabbitmq was given by URL, rabbitmqctl cannot be used");
    const { url, namePrefix } = host();
    const orders = queue<Order>(`${namePrefix}no-right`);
    const operator = createBroker(rabbitmq({ url }), { destinations: [orders] });
    await operator.start();
    const user = `reader-${namePrefix.replaceAll(/[^a-z0-9]/gi, "")}${Math.random().toString(36).slice(2)}`;
    const vhost = decodeURIComponent(new URL(url).pathname.slice(1));
    await rabbitmqctl("add_user", user, "secret");
    const grant = (write: string) => rabbitmqctl("set_permissions", "-p", vhost, user, "^$", write, ".*");
    await grant("^$");
    const own = new URL(url);
    own.username = user;
    own.password = "secret";
    const handled: number[] = [];
    const start = async () => {
      const reader = createBroker(rabbitmq({ url: own.href }), { declare: "none" });
      const consumer = reader.consume(
        orders,
        ({ n, bad }) => {
          if (bad) throw new Error("no total");
          handled.push(n);
        },
        { concurrency: 2, prefetch: { messages: 5 }, retry: { attempts: 1 } },
      );
      await reader.start();
      return { reader, consumer };
    };
    for (let n = 0; n < 6; n++) await operator.send(orders, { n, bad: true });
    for (let n = 0; n < 20; n++) await operator.send(orders, { n });
    const first = await start();
    await until("the bad ones to be parked", PATIENCE_MS, () => expect(first.consumer.status().parked).toBe(6));
    await until("the good ones", PATIENCE_MS, () => expect(handled).toHaveLength(20));
    const { unsettled, state, error } = first.consumer.status();
    expect({ unsettled, state }).toEqual({ unsettled: 6, state: "stalled" });
    // Of copies that were under way when the first was refused nobody can say more.
    expect(["unauthorized", "unconfirmed"]).toContain(error?.code);
    await first.reader.stop({ timeoutMs: FOREVER_MS });
    const second = await start();
    await until("the bad ones to be parked again", PATIENCE_MS, () => expect(second.consumer.status().parked).toBe(6));
    await grant(".*");
    await until("the right to be seen", PATIENCE_MS, () => {
      second.consumer.resume();
      expect(second.consumer.status()).toMatchObject({ parked: 0, unsettled: 0, deadLettered: 6 });
    });
    expect(second.consumer.status()).toMatchObject({ state: "running", error: undefined });
    expect(await deadLetters(operator, orders).count()).toMatchObject({ count: 6 });
    await second.reader.stop();
    await operator.stop();
    await rabbitmqctl("delete_user", user);
  });
});

import { type Adapter, createBroker, MessagingError } from "anybroker";
import { type MemoryAdapter, memory } from "anybroker/memory";
import { expect, test } from "vitest";
import type { Configuration } from "../../cli/configuration.ts";
import { delegate } from "../../conformance/decorators/delegate.ts";
import { until } from "../brokers/until.ts";
import { command, documented, errorOf } from "./commands.ts";
import { shop } from "./shop.ts";

const WATCHING = /watching order\.placed/;

test("tail shows events as they are published, takes none, and leaves nothing behind", async () => {
  const { configuration, stock, placed } = shop();
  await stock();
  const { broker: make } = configuration as { readonly broker: () => MemoryAdapter };
  const publisher = createBroker(make(), { destinations: [placed] });
  await publisher.start();
  let begun = false;
  const { code, stdout } = await command(["tail", "order.placed", "--limit", "3", "--filter", "geo.us.#", "--json"], {
    configuration,
    watch: (printed) => {
      if (begun || !WATCHING.test(printed)) return;
      begun = true;
      for (const [index, state] of ["ny", "ca", "de", "tx"].entries()) {
        const routingKey = state === "de" ? "geo.eu.de" : `geo.us.${state}`;
        void publisher.publish(
          placed,
          { orderId: `o-${index}` },
          { key: `o-${index}`, routingKey, headers: { tenant: "acme" } },
        );
      }
    },
  });
  expect(code).toBe(0);
  const lines = stdout.trimEnd().split("\n").map(documented);
  expect(lines.map(({ key }) => key)).toEqual(["o-0", "o-1", "o-3"]);
  expect(lines[0]).toMatchObject({
    verb: "tail",
    destination: "order.placed",
    routingKey: "geo.us.ny",
    headers: { tenant: "acme" },
    contentType: "application/json",
    body: '{"orderId":"o-0"}',
    bodyEncoding: "text",
  });
  expect(await publisher.depth(placed, "billing")).toMatchObject({ ready: 4 });
  await publisher.stop();
});

test("tail ends with Ctrl-C, in order", async () => {
  const { configuration, stock } = shop();
  await stock();
  const { code, stderr } = await command(["tail", "order.placed"], {
    configuration,
    watch: (printed, interrupt) => {
      if (WATCHING.test(printed) && !printed.includes("stopping")) interrupt();
    },
  });
  expect(code).toBe(0);
  expect(stderr).toMatch(/stopping; press Ctrl-C again to exit at once\nwatched order\.placed: 0 seen\n$/);
});

test("tail watches a queue beside its consumers, where that can be done, and takes nothing", async () => {
  const { configuration, stock, takeOrders } = shop();
  await stock();
  const sending: Promise<unknown>[] = [];
  const { code, stdout } = await command(["tail", "orders", "--limit", "1"], {
    configuration,
    watch: (printed) => {
      if (sending.length > 0 || !printed.includes("watching orders")) return;
      sending.push(command(["send", "orders", '{"id":"o-1","total":1}', "--id", "m-1"], { configuration }));
    },
  });
  await Promise.all(sending);
  expect(code).toBe(0);
  expect(stdout).toMatch(/^\S+ m-1 key=o-1\n\{"id":"o-1","total":1\}\n$/);
  expect(await takeOrders()).toEqual([{ id: "o-1", total: 1 }]);
});

test("tail refuses by name what it could only see by taking it, and what is not there", async () => {
  const { configuration, stock } = shop();
  await stock();
  const { broker: make } = configuration as { readonly broker: () => MemoryAdapter };
  const without = (watch: Adapter["watch"]): Configuration => ({
    ...configuration,
    broker: () => {
      const { watch: _, ...rest } = delegate(make());
      return { ...rest, ...(watch === undefined ? {} : { watch }) };
    },
  });
  const never = await command(["tail", "orders", "--json"], { configuration: without(undefined) });
  expect(never.code).toBe(69);
  expect(errorOf(never).message).toContain('tail consumes nothing, and memory cannot watch queue "orders"');
  const refusing = without(async () => {
    throw new MessagingError("unsupported", "only by taking");
  });
  expect((await command(["tail", "orders"], { configuration: refusing })).stderr).toContain("only by taking");
  const missing = await command(["tail", "topic:nobody"], { configuration });
  expect(missing.code).toBe(67);
  expect((await command(["tail", "order.placed/billing"], { configuration })).stderr).toContain(
    "write topic:order.placed",
  );
  expect((await command(["tail", "order.placed", "--filter", "a b"], { configuration })).code).toBe(64);
});

test("tail watches again when it has to stop, and says so", async () => {
  const { configuration, stock } = shop();
  await stock();
  const { broker: make } = configuration as { readonly broker: () => MemoryAdapter };
  let watched = 0;
  let ended = 0;
  const broker = (): Adapter => {
    const inner = make();
    return delegate(inner, {
      watch: async (_, watcher) => {
        watched++;
        if (watched === 2) throw new MessagingError("unreachable", "still away");
        if (watched === 1) queueMicrotask(() => watcher.ended(new MessagingError("unreachable", "away for a while")));
        return async () => void ended++;
      },
    });
  };
  const { code, stderr } = await command(["tail", "order.placed"], {
    configuration: { ...configuration, broker },
    watch: (printed, interrupt) => {
      if (printed.includes("away for a while") && !printed.includes("stopping")) {
        void until("the third time", 20_000, () => expect(watched).toBe(3)).then(interrupt);
      }
    },
  });
  expect(code).toBe(0);
  expect(stderr.match(/watching order\.placed/g)).toHaveLength(1);
  expect(ended).toBe(2);
});

test("top tells what waits, how fast it changes, and what is dead", async () => {
  const { configuration, stock, orders } = shop();
  await stock([{ id: "o-1", total: 1 }]);
  const { broker: make } = configuration as { readonly broker: () => MemoryAdapter };
  const publisher = createBroker(make(), { destinations: [orders] });
  await publisher.start();
  await publisher.send(orders, { id: "o-2", total: 1 });
  let sent = false;
  const { code, stdout } = await command(["top", "--interval", "100ms", "--count", "3", "--json"], {
    configuration,
    watch: () => {
      if (sent) return;
      sent = true;
      void publisher.send(orders, { id: "o-3", total: 1 });
    },
  });
  await publisher.stop();
  expect(code).toBe(0);
  const looks = stdout.trimEnd().split("\n").map(documented);
  expect(looks).toHaveLength(3);
  expect(looks[0]).toMatchObject({ verb: "top", broker: "broker" });
  expect(looks[0]?.destinations).toMatchObject([
    {
      destination: "queue:orders",
      ready: 1,
      unsettled: 0,
      exact: true,
      changePerSecond: null,
      consumers: null,
      deadLetters: 1,
      problem: null,
    },
    { destination: "topic:order.placed/billing", ready: 0, deadLetters: 0 },
    { destination: "queue:rejected", ready: 0 },
  ]);
  const changes = looks
    .slice(1)
    .map(({ destinations }) => (destinations as readonly { changePerSecond: number }[])[0]?.changePerSecond ?? 0);
  expect(changes.some((change) => change > 0)).toBe(true);
});

test("top without a configuration finds what stands, and says what may have been meant", async () => {
  const { configuration, stock } = shop();
  await stock([{ id: "o-1", total: 1 }]);
  const { broker } = configuration as { readonly broker: () => MemoryAdapter };
  const { code, json } = await command(["top", "--once", "--json"], { configuration: { broker } });
  expect(code).toBe(0);
  expect(json.destinations).toMatchObject([
    { destination: "topic:order.placed/billing" },
    { destination: "queue:orders", deadLetters: 1, deadLettersHeld: 0 },
    { destination: "queue:rejected" },
  ]);
  expect((await command(["top", "orders", "--once"], { configuration: { broker } })).stdout).toMatch(
    /^queue:orders +0/m,
  );
  const typo = await command(["top", "oders", "--once"], { configuration: { broker } });
  expect([typo.code, typo.stdout]).toEqual([
    67,
    expect.stringContaining('no queue "oders" on memory; did you mean "orders"?'),
  ]);
  const empty = await command(["top", "--once"], { configuration: { broker: () => memory() } });
  expect([empty.code, empty.stderr]).toEqual([67, expect.stringContaining("no queues and subscriptions of anybroker")]);
});

test("top tells how many dead letters a run holds", async () => {
  const { configuration, stock } = shop();
  await stock([
    { id: "o-1", total: 1 },
    { id: "o-2", total: 1 },
  ]);
  const { broker: make } = configuration as { readonly broker: () => MemoryAdapter };
  // As on SQS, and as on RabbitMQ.
  for (const [told, held, text] of [
    [{ ready: 0, unsettled: 2 }, 2, "2 (2 held by a run)"],
    [{ ready: 0, unsettled: undefined, consumers: 1 }, null, "0 (some held by a run)"],
  ] as const) {
    const broker = (): Adapter => {
      const inner = make();
      return delegate(inner, {
        depth: async (of) => (of.kind === "dead-letters" ? { ...told, exact: false } : inner.depth(of)),
      });
    };
    for (const line of [
      ["top", "orders", "--once"],
      ["doctor", "orders"],
    ]) {
      const { json } = await command([...line, "--json"], { configuration: { ...configuration, broker } });
      expect(json.destinations).toMatchObject([{ deadLetters: held ?? 0, deadLettersHeld: held }]);
      expect((await command(line, { configuration: { ...configuration, broker } })).stdout).toContain(text);
    }
  }
});

test("top is lines where there is no terminal, is drawn over where there is one, and ends with Ctrl-C", async () => {
  const { configuration, stock } = shop();
  await stock();
  const plain = await command(["top", "orders", "--once"], { configuration });
  expect(plain.stdout).toMatch(/^queue:orders +0 +0( +-){6} +0$/m);
  expect(plain.stdout).not.toContain("\u001b");
  const drawn = await command(["top", "--interval", "100ms"], {
    configuration,
    terminal: true,
    watch: (printed, interrupt) => {
      if (printed.split("\u001b[H").length > 3 && !printed.includes("stopping")) interrupt();
    },
  });
  expect(drawn.code).toBe(0);
  expect(drawn.stdout).toContain("\u001b[2J");
  const missing = await command(["top", "queue:nobody", "--once", "--json"], { configuration });
  expect(missing.code).toBe(67);
  expect(missing.json.destinations).toMatchObject([{ ready: null, problem: expect.stringContaining("nobody") }]);
  expect((await command(["top", "order.placed"], { configuration })).stderr).toContain(
    "messages do not wait on a topic",
  );
});

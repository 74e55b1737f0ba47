import { EventEmitter } from "node:events";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { type Connection, operationSlots } from "../../../adapters/rabbitmq/connection.ts";
import type { Resource } from "../../../adapters/rabbitmq/declared-resources.ts";
import { Redactor } from "../../../adapters/rabbitmq/redactor.ts";
import { TopologyWatch } from "../../../adapters/rabbitmq/topology-recovery.ts";

const MINUTE_MS = 60_000;

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] });
});
afterEach(() => {
  vi.useRealTimers();
});

/** A server of which some things are gone, and some are nobody's business. */
class FakeServer {
  readonly gone = new Set<Resource>();
  readonly refused = new Set<Resource>();
  readonly looks: Resource[] = [];
  undelivered = 0;

  get link(): Connection {
    const model = {
      connection: {},
      once: () => {},
      createChannel: async () => this.#channel(),
    } as unknown as Connection["model"];
    const operations = operationSlots(model);
    return { where: "localhost:5672", model, operations, redactor: new Redactor("guest"), cut: () => {} };
  }

  #channel() {
    const channel = new EventEmitter();
    const look = async (thing: Resource) => {
      this.looks.push(thing);
      const code = this.gone.has(thing) ? 404 : this.refused.has(thing) ? 403 : undefined;
      if (code !== undefined) {
        channel.emit("close");
        throw Object.assign(new Error("refused"), { code });
      }
      return { messageCount: thing === "queue anybroker.delay.undelivered" ? this.undelivered : 0 };
    };
    return Object.assign(channel, {
      checkQueue: (name: string) => look(`queue ${name}`),
      checkExchange: (name: string) => look(`exchange ${name}`),
      close: async () => {},
    });
  }
}

function watching(server: FakeServer, consumed: readonly Resource[], declared: readonly Resource[]) {
  const state = { restored: 0, tended: 0, notices: [] as string[] };
  const watch = new TopologyWatch({
    // Longer than what passes at once.
    requestTimeoutMs: MINUTE_MS,
    link: () => server.link,
    consumed: () => consumed,
    isDeclared: (thing) => declared.includes(thing),
    restore: async () => {
      state.restored++;
      for (const thing of declared) server.gone.delete(thing);
    },
    maintain: async () => void state.tended++,
    notice: ({ message }) => void state.notices.push(message),
  });
  watch.start();
  return { watch, state };
}

async function pass(ms: number): Promise<void> {
  for (let passed = 0; passed < ms; passed += MINUTE_MS / 4) {
    vi.advanceTimersByTime(MINUTE_MS / 4);
    for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
  }
}

test("what is consumed is looked at about once a minute, made again, and tended to now and then", async () => {
  const server = new FakeServer();
  const dead: Resource = "queue orders.dlq";
  const { watch, state } = watching(server, ["queue orders", dead], ["queue orders", dead]);
  await pass(3 * MINUTE_MS);
  expect(new Set(server.looks)).toEqual(new Set(["queue orders", dead]));
  expect(state.restored).toBe(0);
  server.gone.add(dead);
  await pass(2 * MINUTE_MS);
  expect(state.restored).toBe(1);
  expect(server.gone).toEqual(new Set());
  await pass(30 * MINUTE_MS);
  expect(state.restored).toBe(1);
  expect(state.tended).toBeGreaterThan(2);
  expect(state.tended).toBeLessThan(12);
  watch.stop();
});

test("what is not this process's to make is told once, for as long as it is gone", async () => {
  const server = new FakeServer();
  const { watch, state } = watching(server, ["queue orders.dlq"], []);
  server.gone.add("queue orders.dlq");
  await pass(10 * MINUTE_MS);
  expect(state.notices).toEqual([expect.stringContaining('no longer has the queue "orders.dlq"')]);
  server.gone.clear();
  await pass(3 * MINUTE_MS);
  server.gone.add("queue orders.dlq");
  await pass(3 * MINUTE_MS);
  expect(state.notices).toHaveLength(2);
  expect(state.restored).toBe(0);
  watch.stop();
});

test("what may not be looked at is asked for once", async () => {
  const server = new FakeServer();
  server.refused.add("queue orders.dlq");
  const { watch, state } = watching(server, ["queue orders", "queue orders.dlq"], []);
  await pass(10 * MINUTE_MS);
  expect(server.looks.filter((thing) => thing === "queue orders.dlq")).toHaveLength(1);
  expect(server.looks.filter((thing) => thing === "queue orders").length).toBeGreaterThan(5);
  expect(state.notices).toEqual([]);
  watch.stop();
});

test("the way of delayed messages is looked at when one is sent, and while they are", async () => {
  const server = new FakeServer();
  const wait: Resource = "queue anybroker.delay.3";
  const { watch, state } = watching(server, [], [wait]);
  await pass(5 * MINUTE_MS);
  expect(server.looks).toEqual([]);
  server.gone.add(wait);
  watch.delayed();
  await pass(MINUTE_MS / 4);
  expect(state.restored).toBe(1);
  await pass(5 * MINUTE_MS);
  const looks = server.looks.length;
  // Nobody delays anything any more.
  await pass(5 * MINUTE_MS);
  expect(server.looks.length).toBe(looks);
  watch.stop();
});

test("delayed messages that nobody took are told, and what is declared here is bound again", async () => {
  const server = new FakeServer();
  server.undelivered = 7;
  const { watch, state } = watching(server, [], []);
  watch.delayed();
  await pass(2 * MINUTE_MS);
  expect([state.restored, state.notices]).toEqual([0, []]);
  server.undelivered = 9;
  watch.delayed();
  await pass(2 * MINUTE_MS);
  expect(state.restored).toBe(1);
  expect(state.notices).toEqual([expect.stringContaining("2 delayed messages had no destination")]);
  watch.stop();
});

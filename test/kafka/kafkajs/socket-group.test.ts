import { describe, expect, it } from "vitest";
import type { BrokerSocket } from "../../../adapters/kafka/kafkajs/broker-socket.ts";
import { loadOf } from "../../../adapters/kafka/kafkajs/exchange.ts";
import { SocketGroup } from "../../../adapters/kafka/kafkajs/socket-pool.ts";

/** A socket as a line sees it. */
class FakeSocket {
  load = 0;
  idleMs = 0;
  isOpen = true;
  isRetired = false;
  error: unknown;
  readonly onEnd: () => void;

  constructor(onEnd: () => void) {
    this.onEnd = onEnd;
  }

  retire(): void {
    this.isRetired = true;
    if (this.load === 0) this.onEnd();
  }

  async end(error: unknown): Promise<void> {
    this.error = error;
    this.onEnd();
  }
}

function lineOf(most: number) {
  const opened: FakeSocket[] = [];
  const line = new SocketGroup(1, most, (_, onEnd) => {
    const socket = new FakeSocket(onEnd);
    opened.push(socket);
    return socket as unknown as BrokerSocket;
  });
  /** Asks something, and returns on which socket. */
  const ask = (load: number): number => {
    const socket = line.pick(load) as unknown as FakeSocket;
    socket.load += load;
    return opened.indexOf(socket);
  };
  return { line, opened, ask };
}

const QUICK = loadOf({});
const SLOW = loadOf({ load: 256 });
const HELD = loadOf({ waitMs: 1_000 });

describe("the sockets of one purpose", () => {
  it("are one while what is asked is quick, however much it is", () => {
    const { ask } = lineOf(8);
    expect(Array.from({ length: 300 }, () => ask(QUICK)).every((index) => index === 0)).toBe(true);
  });

  it("are more while all of them are busy, up to a bound", () => {
    const { ask, opened } = lineOf(3);
    for (let asked = 0; asked < 2_000; asked++) ask(QUICK);
    expect(opened).toHaveLength(3);
    const loads = opened.map(({ load }) => load);
    expect(Math.max(...loads) - Math.min(...loads)).toBeLessThan(300);
  });

  it("let nothing wait behind what the server may hold back", () => {
    const { ask, opened } = lineOf(Number.POSITIVE_INFINITY);
    expect([ask(HELD), ask(HELD), ask(QUICK)]).toEqual([0, 1, 2]);
    // What was asked before it is answered before it.
    expect([ask(HELD), ask(QUICK)]).toEqual([2, 3]);
    (opened[1] as FakeSocket).load = 0;
    expect(ask(HELD)).toBe(1);
  });

  it("share what is slow, and keep what is quick together", () => {
    const { ask, opened } = lineOf(8);
    for (let asked = 0; asked < 12; asked++) ask(SLOW);
    expect(opened.length).toBeGreaterThan(1);
    for (const socket of opened) socket.load = 0;
    expect([ask(SLOW), ask(SLOW), ask(QUICK)]).toEqual([0, 1, 0]);
  });

  it("are closed where they fell idle, but for those that are to stay", () => {
    const { line, ask, opened } = lineOf(8);
    for (let asked = 0; asked < 2_000; asked++) ask(QUICK);
    const [busy, ...others] = opened as [FakeSocket, ...FakeSocket[]];
    for (const socket of others) Object.assign(socket, { load: 0, idleMs: 20_000 });
    line.closeIdle(1, 10_000);
    expect([busy.isRetired, ...others.map(({ isRetired }) => isRetired)]).toEqual([false, true, true, true]);
    Object.assign(busy, { load: 0, idleMs: 20_000 });
    line.closeIdle(1, 10_000);
    expect(line.isEmpty).toBe(false);
    line.closeIdle(0, 10_000);
    expect(line.isEmpty).toBe(true);
  });

  it("are not asked once they are not trusted, and end with the others", async () => {
    const { line, ask, opened } = lineOf(8);
    ask(QUICK);
    const [doubtful] = opened as [FakeSocket];
    doubtful.retire();
    expect(ask(QUICK)).toBe(1);
    const error = new Error("over");
    await line.end(error as never);
    expect(opened.map((socket) => socket.error)).toEqual([error, error]);
  });
});

import { type Adapter, MessagingError, type MessagingErrorCode, queue } from "anybroker";
import { memory, memorySpace } from "anybroker/memory";
import { expect, test } from "vitest";
import type { Configuration } from "../../cli/configuration.ts";
import { EXIT, exitOf } from "../../cli/exit-codes.ts";
import { delegate } from "../../conformance/decorators/delegate.ts";
import { command, errorOf } from "./commands.ts";

const orders = queue<number>("orders");

/** In-process brokers, changed by the test, on one space. */
function brokers(change: (inner: Adapter) => Adapter): Configuration {
  const space = memorySpace();
  return { broker: () => change(memory({ space })), destinations: [orders] };
}

const ENDS: Readonly<Record<MessagingErrorCode, number>> = {
  invalid: 65,
  "too-large": 65,
  refused: 65,
  unroutable: 67,
  "not-found": 67,
  unsupported: 69,
  unreachable: 69,
  unconfirmed: 75,
  overloaded: 75,
  timeout: 75,
  aborted: 75,
  closed: 75,
  unauthorized: 77,
  conflict: 78,
  "start-failed": 78,
  "partly-failed": 3,
};

test.for(Object.entries(ENDS))("an error of code %s ends with %s", async ([code, exitCode]) => {
  const configuration = brokers(() => {
    throw new MessagingError(code as MessagingErrorCode, "no");
  });
  const ended = await command(["topology", "diff", "--json"], { configuration });
  expect(ended.code).toBe(exitCode);
  expect(errorOf(ended)).toMatchObject({ code, message: "no", exitCode });
});

test("of several problems the first says how it ends, also from another copy of the package", () => {
  const problem = Object.assign(new Error("no"), { name: "MessagingError", code: "unauthorized", problems: [] });
  const several = Object.assign(new Error("all"), {
    name: "MessagingError",
    code: "start-failed",
    problems: [problem],
  });
  expect(exitOf(several)).toBe("not-allowed");
  expect(exitOf(Object.assign(new Error("all"), { name: "MessagingError", code: "constructor", problems: [] }))).toBe(
    "internal",
  );
  expect(exitOf("a text")).toBe("internal");
  expect(EXIT.done).toBe(0);
});

test("whatever is opened is closed, whatever happens", async () => {
  let open = 0;
  let opened = 0;
  const configuration = brokers((inner) =>
    delegate(inner, {
      open: async (signals) => {
        await inner.open(signals);
        open++;
        opened++;
      },
      close: async () => {
        await inner.close();
        open = Math.max(open - 1, 0);
      },
    }),
  );
  const lines = [
    ["topology", "create"],
    ["topology", "verify"],
    ["doctor"],
    ["send", "orders", "1"],
    ["send", "orders", "no json"],
    ["dlq", "ls", "orders"],
    ["dlq", "show", "orders", "nobody"],
    ["dlq", "replay", "orders", "nonsense is"],
    ["top", "--once"],
  ];
  for (const line of lines) {
    await command(line, { configuration });
    expect(open, line.join(" ")).toBe(0);
  }
  expect(opened).toBe(lines.length - 1);
});

test("a result is told when every message has its end", async () => {
  const waiting: (() => void)[] = [];
  const configuration = brokers((inner) =>
    delegate(inner, {
      send: (to, batch, report) =>
        inner.send(to, batch, (index, result) => {
          waiting.push(() => report(index, result));
          // The last ones come when all have been handed over.
          if (waiting.length === 50) setImmediate(() => waiting.splice(0).forEach((tell) => void tell()));
        }),
    }),
  );
  await command(["topology", "create"], { configuration });
  const stdin = Array.from({ length: 50 }, (_, index) => String(index)).join("\n");
  const { json } = await command(["send", "orders", "--file", "-", "--lines", "--json"], { configuration, stdin });
  expect(json).toMatchObject({ sent: 50, failed: 0 });
});

test("a connection that is lost is told, and that it is there again", async () => {
  const configuration = brokers((inner) =>
    delegate(inner, {
      open: async (signals) => {
        await inner.open(signals);
        signals.down(new MessagingError("unreachable", "the cable is cut"));
        signals.up();
        signals.blocked("no room");
        signals.unblocked();
        signals.notice(new MessagingError("not-found", "made again"));
      },
    }),
  );
  const { stderr } = await command(["topology", "diff"], { configuration });
  expect(stderr).toBe(
    [
      "broker: the connection is lost, reconnecting: the cable is cut",
      "broker: reconnected",
      "broker: it accepts no messages now: no room",
      "broker: it accepts messages again",
      "broker: made again",
      "",
    ].join("\n"),
  );
});

test("a broker that is never made ends the command, with where to look", async () => {
  const configuration: Configuration = { broker: () => new Promise<Adapter>(() => {}), destinations: [orders] };
  for (const verb of [["topology", "diff"], ["topology", "show"], ["asyncapi", "--title", "Shop"], ["doctor"]]) {
    const { code, stderr } = await command(verb, { configuration, faster: 1_000 });
    expect([verb.join(" "), code]).toEqual([verb.join(" "), 69]);
    expect(stderr).toContain("broker was not made within 60 s; check what its function in the configuration waits for");
  }
});

test("what never closes is left behind, and the result stands", async () => {
  const { broker, ...rest } = brokers((inner) => ({ ...delegate(inner), close: () => new Promise<void>(() => {}) }));
  const configuration: Configuration = { ...rest, broker: broker as () => Adapter, close: () => new Promise(() => {}) };
  const { code, stdout, stderr } = await command(["topology", "diff"], { configuration, faster: 1_000 });
  expect([code, stdout]).toEqual([0, expect.stringContaining("queue:orders")]);
  expect(stderr).toContain("the connections to broker were not closed within 20 s");
  expect(stderr).toContain("close() of the configuration did not end within 10 s");
});

// A server that is no RabbitMQ, or a hostile one: at each step of the handshake it sends whatever it likes.
import { createRequire } from "node:module";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { dirname, join } from "node:path";
import fc from "fast-check";
import { expect, test } from "vitest";
import { rabbitmq } from "../../adapters/rabbitmq/index.ts";
import { createBroker } from "../../core/create-broker.ts";
import { queue } from "../../core/destination.ts";
import { isMessagingError } from "../../core/errors.ts";
import { fuzzing } from "./runs.ts";

interface Definitions {
  readonly ConnectionStart: number;
  readonly ConnectionTune: number;
  readonly ConnectionOpenOk: number;
  readonly ChannelOpenOk: number;
  encodeMethod(id: number, channel: number, fields: object): Buffer;
}

const require = createRequire(import.meta.url);
/** Not exported by amqplib: its own encoder speaks for the server, too. */
const definitions = require(join(dirname(require.resolve("amqplib")), "lib/defs.js")) as Definitions;

const SIDE_BY_SIDE = 8;
const STEPS = ["connected", "start", "tune", "open", "channel"] as const;

const method = (klass: number, id: number): Buffer => Buffer.from([0, klass, 0, id]);
/** What the client says before each step but the first: its header, start-ok, tune-ok with open, and a channel's open. */
const WAITS_FOR: readonly Buffer[] = [Buffer.from("AMQP"), method(10, 11), method(10, 40), method(20, 10)];

/** What a proper server says at each step. */
function proper(step: (typeof STEPS)[number]): Buffer | undefined {
  const { encodeMethod, ConnectionStart, ConnectionTune, ConnectionOpenOk, ChannelOpenOk } = definitions;
  switch (step) {
    case "start":
      return encodeMethod(ConnectionStart, 0, {
        serverProperties: { product: "RabbitMQ", version: "4.3.0", capabilities: { publisher_confirms: true } },
        mechanisms: Buffer.from("PLAIN"),
        locales: Buffer.from("en_US"),
      });
    case "tune":
      return encodeMethod(ConnectionTune, 0, { channelMax: 100, frameMax: 131_072, heartbeat: 0 });
    case "open":
      return encodeMethod(ConnectionOpenOk, 0, { knownHosts: "" });
    case "channel":
      return encodeMethod(ChannelOpenOk, 1, { channelId: Buffer.from("") });
    case "connected":
      return undefined;
  }
}

const bytes = fc.oneof(
  fc.uint8Array({ minLength: 1, maxLength: 64 }),
  fc.constantFrom(
    Buffer.from([0, 0, 0, 0]),
    Buffer.from("HTTP/1.1 400 Bad Request\r\n\r\n"),
    Buffer.from([0x41, 0x4d, 0x51, 0x50, 0, 1, 0, 0]),
    // A frame that says it has four gigabytes, one of no kind, and a method that does not exist.
    Buffer.from([1, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0]),
    Buffer.from([9, 0, 0, 0, 0, 0, 0, 0xce]),
    Buffer.from([1, 0, 0, 0, 0, 0, 4, 0xff, 0xff, 0xff, 0xff, 0xce]),
    // The method of the start, whose table says it is longer than the frame.
    Buffer.from([1, 0, 0, 0, 0, 0, 10, 0, 10, 0, 10, 0, 9, 0xff, 0xff, 0xff, 0xff, 0xce]),
  ),
);

interface Scenario {
  readonly step: (typeof STEPS)[number];
  readonly junk: Uint8Array;
  readonly closes: boolean;
}

/** Starts a broker object against such a server; resolves with what its start rejected with. */
async function startedAgainst({ step, junk, closes }: Scenario): Promise<unknown> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    let seen = Buffer.alloc(0);
    let next = 0;
    const watermark = (): void => {
      const reached = STEPS[next++];
      if (reached === undefined) return;
      const answer = proper(reached);
      if (answer !== undefined && STEPS.indexOf(reached) < STEPS.indexOf(step)) socket.write(answer);
      else if (reached === step) socket.write(junk);
      if (closes && reached === step) socket.end();
    };
    watermark();
    socket.on("data", (data) => {
      seen = Buffer.concat([seen, data]);
      while (next < STEPS.length && seen.includes(WAITS_FOR[next - 1] ?? "")) watermark();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const url = `amqp://guest:secret-word@127.0.0.1:${port}`;
  const broker = createBroker(rabbitmq({ url, connectTimeoutMs: 300, requestTimeoutMs: 300 }), {
    destinations: [queue("orders")],
  });
  const error = await broker.start().then(
    () => undefined,
    (cause: unknown) => cause,
  );
  await broker.stop();
  for (const socket of sockets) socket.destroy();
  await new Promise<void>((resolve) => server.close(() => resolve()));
  return error;
}

test("ends the start with an error, and never the process", { timeout: 300_000 }, async () => {
  const thrown: unknown[] = [];
  const onThrown = (error: unknown): void => void thrown.push(error);
  process.on("uncaughtException", onThrown).on("unhandledRejection", onThrown);
  try {
    const scenario = fc.record({ step: fc.constantFrom(...STEPS), junk: bytes, closes: fc.boolean() });
    const several = fc.array(scenario, { minLength: SIDE_BY_SIDE, maxLength: SIDE_BY_SIDE });
    const { numRuns = 100, ...parameters } = fuzzing();
    await fc.assert(
      fc.asyncProperty(several, async (scenarios) => {
        for (const error of await Promise.all(scenarios.map(startedAgainst))) {
          expect(isMessagingError(error, "start-failed")).toBe(true);
          expect((error as Error).message).not.toContain("secret-word");
        }
      }),
      // Each waits for answers that do not come, which takes its time.
      { ...parameters, numRuns: Math.ceil(numRuns / 50) },
    );
    expect(thrown).toEqual([]);
  } finally {
    process.off("uncaughtException", onThrown).off("unhandledRejection", onThrown);
  }
});

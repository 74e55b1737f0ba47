// Every callback that users give throws, rejects, returns nonsense or never returns, in combinations drawn by a seed.
import fc from "fast-check";
import { expect, test } from "vitest";
import { memory } from "../../adapters/memory/index.ts";
import { type Codec, jsonCodec } from "../../core/codec.ts";
import { createBroker } from "../../core/create-broker.ts";
import type { Handler, Middleware } from "../../core/delivery.ts";
import { type QueueOptions, queue } from "../../core/destination.ts";
import type { BrokerEvent } from "../../core/events.ts";
import { Prng } from "../simulation/prng.ts";
import { ProcessClock, VirtualTime } from "../simulation/virtual-time.ts";
import { fuzzing } from "./runs.ts";

const MESSAGES = 4;
const HOUR_MS = 3_600_000;

function revoked(): unknown {
  const { proxy, revoke } = Proxy.revocable({}, {});
  revoke();
  return proxy;
}

/** Made when it is needed: fast-check looks at values, which some do not bear. */
const nonsense = fc.oneof(
  fc
    .anything({ withNullPrototype: true, withBigInt: true, withDate: true, withSparseArray: true })
    .map((value) => () => value),
  fc.constantFrom<() => unknown>(
    () => undefined,
    () => Number.NaN,
    () => Symbol("s"),
    () => new Uint8Array(0),
    () => () => {},
    () => Object.assign(new Error("x"), { message: Object.create(null) }),
    () => new Proxy({}, { get: () => revoked() }),
    revoked,
  ),
);

/** What a callback does instead of what it should; undefined for what it should. */
const misdeed = fc.option(
  fc.record({ how: fc.constantFrom("throws", "rejects", "returns", "resolves", "never returns"), make: nonsense }),
  { nil: undefined, freq: 2 },
);
type Misdeed = { readonly how: string; readonly make: () => unknown } | undefined;

function misbehaving<Result>(deed: Misdeed, otherwise: () => Result): Result {
  switch (deed?.how) {
    case "throws":
      throw deed.make();
    case "rejects":
      return Promise.reject(deed.make()) as Result;
    case "returns":
      return deed.make() as Result;
    case "resolves":
      return Promise.resolve(0).then(deed.make) as Result;
    case "never returns":
      return new Promise(() => {}) as Result;
    default:
      return otherwise();
  }
}

const deeds = fc.record({
  handler: misdeed,
  middleware: misdeed,
  key: misdeed,
  encode: misdeed,
  decode: misdeed,
  schema: misdeed,
  onEvent: misdeed,
});

test("no callback ends the process, stops a consumer or keeps a send for ever", { timeout: 300_000 }, async () => {
  const unhandled: unknown[] = [];
  const onUnhandled = (reason: unknown): void => void unhandled.push(reason);
  process.on("unhandledRejection", onUnhandled);
  try {
    await fc.assert(
      fc.asyncProperty(deeds, fc.boolean(), async (deeds, ordered) => {
        const time = new VirtualTime();
        const clock = new ProcessClock(time);
        const json = jsonCodec();
        const codec: Codec = {
          contentType: "application/json",
          encode: (body) => misbehaving(deeds.encode, () => json.encode(body)),
          decode: (bytes) => misbehaving(deeds.decode, () => json.decode(bytes)),
        };
        const schema = {
          "~standard": {
            version: 1,
            vendor: "fuzz",
            validate: (value: unknown) => misbehaving<unknown>(deeds.schema, () => ({ value })),
          },
        } as never;
        const key = (): string => misbehaving(deeds.key, () => "k");
        const onEvent = (_: BrokerEvent): void => misbehaving(deeds.onEvent, () => {});
        const use: Middleware[] = [
          (next) => (body, delivery) => misbehaving(deeds.middleware, () => next(body, delivery)),
        ];
        const broker = createBroker(memory({ clock }), { clock, random: new Prng("callbacks"), onEvent });
        const options: QueueOptions<number> = { ordered, key, codec };
        const fuzzed = queue("fuzzed", { ...options, schema });
        const sane = queue<number>("sane");
        const handler: Handler<unknown> = () => misbehaving(deeds.handler, () => {});
        const consumer = broker.consume(fuzzed, handler, { timeoutMs: 1_000, retry: { attempts: 2 }, use });
        let handled = 0;
        broker.consume(sane, () => void handled++);
        let ended = 0;
        broker.start().then(() => {
          for (let n = 0; n < MESSAGES; n++) {
            const over = (): void => void ended++;
            broker.send(fuzzed as never, n as never, { timeoutMs: 5_000 }).then(over, over);
            broker.send(sane, n).then(over, over);
          }
        });
        const isQuiet = (): boolean =>
          ended === 2 * MESSAGES && handled === MESSAGES && consumer.status().unsettled === 0;
        expect(await time.until(isQuiet, HOUR_MS), JSON.stringify(consumer.status())).toBe(true);
        let stopped = false;
        broker.stop({ timeoutMs: 1_000 }).then(() => {
          stopped = true;
        });
        expect(await time.until(() => stopped, time.now + HOUR_MS)).toBe(true);
      }),
      fuzzing(),
    );
    await new Promise((resolve) => setTimeout(resolve, 0));
    expect(unhandled).toEqual([]);
  } finally {
    process.off("unhandledRejection", onUnhandled);
  }
});

import { expect, test } from "vitest";
import { Remover } from "../../../adapters/kafka/dead-letters/receiver.ts";
import { deadLetterRecord } from "../../../adapters/kafka/dead-letters/records.ts";
import {
  countDeadLetters,
  type DeadLetterEntry,
  DeadLettersScan,
} from "../../../adapters/kafka/dead-letters/references.ts";
import { browseDeadLetters } from "../../../adapters/kafka/watching.ts";
import { MessagingError } from "../../../core/errors.ts";
import { Prng } from "../../simulation/prng.ts";
import { ProcessClock, VirtualTime } from "../../simulation/virtual-time.ts";
import { FakeDeadLetters, TOPIC } from "./fake-dead-letters.ts";

function world() {
  const time = new VirtualTime();
  const prng = new Prng("scan");
  const broker = new FakeDeadLetters(time);
  const clock = new ProcessClock(time);

  function put(id: string): void {
    const message = {
      id,
      key: "k",
      routingKey: undefined,
      headers: {},
      body: Buffer.from(id),
      contentType: "text/plain",
    };
    broker.append(deadLetterRecord({ ...message, size: 0, priority: 0, delayMs: 0, ttlMs: undefined }, prng));
  }

  async function run<Result>(promise: Promise<Result>): Promise<Result> {
    let isOver = false;
    const end = (): void => {
      isOver = true;
    };
    promise.then(end, end);
    await time.until(() => isOver, Number.POSITIVE_INFINITY);
    return promise;
  }

  async function read(scan: DeadLettersScan, behind?: number, most = 1_000): Promise<DeadLetterEntry[]> {
    const entries: DeadLetterEntry[] = [];
    for await (const entry of scan.entries(behind)) if (entries.push(entry) === most) break;
    return entries;
  }

  const scan = () => run(DeadLettersScan.of(broker.openLog(clock)));
  const remover = () => new Remover({ topic: TOPIC, producer: broker.producer, clock, random: prng, failed: () => {} });
  return { broker, clock, put, run, read, scan, remover };
}

const texts = (entries: readonly DeadLetterEntry[]) => entries.map(({ record }) => record.value?.toString());

test("what stands is listed in order, by pages, and stays", async () => {
  const { put, run, read, scan } = world();
  for (let index = 0; index < 20; index++) put(`m-${index}`);
  const first = await scan();
  expect(first.size).toBe(20);
  const page = await run(read(first, undefined, 8));
  const rest = await run(read(first, page.at(-1)?.offset));
  expect([...texts(page), ...texts(rest)]).toEqual(Array.from({ length: 20 }, (_, index) => `m-${index}`));
  expect((await scan()).size).toBe(20);
});

test("a single entry is removed by its key, with all its copies, and nothing else", async () => {
  const { put, run, read, scan, remover, broker } = world();
  for (const id of ["a", "b", "a", "c"]) put(id);
  const before = await scan();
  const entries = await run(read(before));
  expect(texts(entries)).toEqual(["b", "a", "c"]);
  const key = entries[1]?.key as string;
  expect(before.keysOf(key)).toHaveLength(2);
  expect(await run(remover().remove(before.keysOf(key)))).toBe(true);
  expect(texts(await run(read(await scan())))).toEqual(["b", "c"]);
  broker.compact();
  const after = await scan();
  expect(texts(await run(read(after)))).toEqual(["b", "c"]);
  expect(after.keysOf(key)).toEqual([]);
});

test("to remove an entry that was listed leaves what came of its message later", async () => {
  const { put, run, read, scan, remover } = world();
  put("a");
  const [listed] = await run(read(await scan()));
  put("a");
  const now = await scan();
  const keys = now.keysOf(listed?.key as string);
  expect(keys).toEqual([listed?.key]);
  await run(remover().remove(keys));
  const left = await run(read(await scan()));
  expect(texts(left)).toEqual(["a"]);
  expect(left[0]?.key).not.toBe(listed?.key);
});

test("what was removed while it is listed is left out", async () => {
  const { put, run, read, scan, remover, broker } = world();
  for (let index = 0; index < 9; index++) put(`m-${index}`);
  const listed = await scan();
  const keys = (await run(read(listed))).filter((_, index) => index !== 4).map(({ key }) => key);
  await run(remover().remove(keys));
  broker.compact();
  expect(texts(await run(read(listed)))).toEqual(["m-4"]);
});

test("nothing stands in an empty topic", async () => {
  const { run, broker, clock } = world();
  expect(await run(countDeadLetters(broker.openLog(clock)))).toMatchObject({ size: 0, unread: undefined });
  expect(broker.openLogs).toBe(0);
  expect(clock.pending).toBe(0);
});

test("a list without the dead letters that are hidden or unreadable says that it lacks some", async () => {
  const { put, run, broker, clock } = world();
  for (const id of ["a", "b", "c", "d"]) put(id);
  const told: string[] = [];
  const browsed = async () => {
    const found: unknown[] = [];
    for await (const batch of browseDeadLetters(broker.openLog(clock), ({ code }) => void told.push(code)))
      for (const { body, unreadable } of batch) found.push(unreadable?.code ?? Buffer.from(body).toString());
    return found;
  };
  expect(await run(browsed())).toEqual(["a", "b", "c", "d"]);
  broker.unreadable = { offset: 1, error: new MessagingError("too-large", "a bomb"), resumeAt: 2 };
  expect(await run(browsed())).toEqual(["a", "c", "d", "too-large"]);
  broker.unreadable = undefined;
  broker.openFrom = 2;
  expect(await run(browsed())).toEqual(["a", "b", "unreachable"]);
  expect(await run(countDeadLetters(broker.openLog(clock)))).toMatchObject({
    size: 2,
    unread: { code: "unreachable" },
  });
  expect(told).toEqual(["too-large", "unreachable"]);
  expect(broker.openLogs).toBe(0);
});

test("a count that cannot be had is an error, and closes its log", async () => {
  const { put, run, broker, clock } = world();
  for (const id of ["a", "b", "c"]) put(id);
  const error = new MessagingError("unsupported", "no codec");
  broker.unreadable = { offset: 1, error, resumeAt: undefined };
  await expect(run(countDeadLetters(broker.openLog(clock)))).rejects.toBe(error);
  broker.unreadable = { offset: 1, error, resumeAt: 2 };
  expect(await run(countDeadLetters(broker.openLog(clock)))).toMatchObject({ size: 2, unread: error });
  expect(broker.openLogs).toBe(0);
});

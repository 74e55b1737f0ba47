import { expect, test } from "vitest";
import { Turns } from "../../../patterns/outbox/relay/settlements.ts";
import { settled } from "../../core/recording-adapter.ts";

/** Somebody whose turns last until the test ends them. */
function waiter(size: number, log: string[], name: string) {
  const ends: (() => void)[] = [];
  return {
    size,
    take: () => {
      log.push(name);
      return new Promise<void>((resolve) => void ends.push(resolve));
    },
    end: () => ends.shift()?.(),
  };
}

test("no more than so many have a turn at once, and who has the most to do is next", async () => {
  const log: string[] = [];
  const turns = new Turns(2);
  const [a, b, small, large] = [
    waiter(1, log, "a"),
    waiter(1, log, "b"),
    waiter(2, log, "small"),
    waiter(9, log, "large"),
  ];
  for (const one of [a, b, small, large, small]) turns.ask(one);
  expect(log).toEqual(["a", "b"]);
  b.end();
  await settled();
  expect(log).toEqual(["a", "b", "large"]);
  large.end();
  await settled();
  a.end();
  await settled();
  expect(log).toEqual(["a", "b", "large", "small"]);
});

test("who leaves has no turn", async () => {
  const log: string[] = [];
  const turns = new Turns(1);
  const [a, b] = [waiter(1, log, "a"), waiter(1, log, "b")];
  turns.ask(a);
  turns.ask(b);
  turns.leave(b);
  a.end();
  await settled();
  expect(log).toEqual(["a"]);
});

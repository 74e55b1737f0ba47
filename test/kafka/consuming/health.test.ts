import { expect, test } from "vitest";
import { Health } from "../../../adapters/kafka/consuming/consumer.ts";
import { MessagingError } from "../../../core/errors.ts";
import { ProcessClock, VirtualTime } from "../../simulation/virtual-time.ts";

function world() {
  const time = new VirtualTime();
  const told: string[] = [];
  const health = new Health(new ProcessClock(time), {
    deliver: () => {},
    revoke: () => {},
    lost: () => {},
    stalled: ({ message }) => void told.push(message),
    flowing: () => void told.push("flowing"),
    notice: ({ message }) => void told.push(message),
  });
  let at = 0;
  return {
    health,
    told,
    fails: (partition: number) => health.stalled(new MessagingError("unreachable", `${partition} fails`), "alike"),
    pass: async (ms: number) => {
      at += ms;
      let isOver = false;
      time.schedule(() => {
        isOver = true;
      }, ms);
      await time.until(() => isOver, at);
    },
  };
}

test("what partitions share is reported once, with their number", async () => {
  const { fails, pass, told } = world();
  for (let partition = 0; partition < 300; partition++) fails(partition);
  await pass(0);
  expect(told).toEqual(["0 fails (the same of 299 other partitions)"]);
});

test("it is reported once in 30 s, also where all could be read in between", async () => {
  const { fails, health, pass, told } = world();
  for (let partition = 0; partition < 300; partition++) {
    fails(partition);
    await pass(100);
    health.check(partition % 2 === 0);
  }
  expect(told).toEqual(["0 fails", "flowing"]);
  await pass(60_000);
  health.check(false);
  expect(told).toHaveLength(2);
});

test("what came too early is reported when it is due, if it lasts", async () => {
  const { fails, health, pass, told } = world();
  fails(0);
  await pass(1_000);
  fails(1);
  fails(2);
  await pass(28_000);
  health.check(true);
  expect(told).toEqual(["0 fails"]);
  await pass(1_000);
  health.check(true);
  expect(told).toEqual(["0 fails", "1 fails (the same of another partition)"]);
});

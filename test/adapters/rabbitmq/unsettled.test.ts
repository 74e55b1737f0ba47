import fc from "fast-check";
import { expect, test } from "vitest";
import { Unsettled } from "../../../adapters/rabbitmq/receiving-channel.ts";

type Frame = { readonly action: "ack" | "nack"; readonly tag: number; readonly multiple: boolean };

/** The broker's side of a channel: applies frames to what it has delivered. */
function fakeChannel() {
  const frames: Frame[] = [];
  const delivered = new Set<number>();
  const settled = new Map<number, "ack" | "nack">();
  const apply = (action: "ack" | "nack", tag: number, multiple: boolean): void => {
    frames.push({ action, tag, multiple });
    const tags = multiple ? [...delivered].filter((each) => each <= tag) : [tag];
    for (const each of tags) {
      // RabbitMQ closes the channel over a tag that it does not know.
      if (!delivered.delete(each)) throw new Error(`unknown delivery tag ${each}`);
      settled.set(each, action);
    }
  };
  return {
    frames,
    delivered,
    settled,
    channel: {
      ack: (message: { fields: { deliveryTag: number } }, multiple = false) =>
        apply("ack", message.fields.deliveryTag, multiple),
      nack: (message: { fields: { deliveryTag: number } }, multiple = false) =>
        apply("nack", message.fields.deliveryTag, multiple),
    },
  };
}

test("neighbours from the lowest on are acknowledged by one frame", () => {
  const { channel, delivered, frames } = fakeChannel();
  const unsettled = new Unsettled<string>(channel);
  for (let tag = 1; tag <= 5; tag++) {
    delivered.add(tag);
    unsettled.add(tag, "owner");
  }
  for (const tag of [3, 1, 2, 5]) unsettled.take(tag);
  unsettled.write([3, 1, 2, 5], []);
  expect(frames).toEqual([
    { action: "ack", tag: 3, multiple: true },
    { action: "ack", tag: 5, multiple: false },
  ]);
});

test("in any order and any batches, each delivery is settled as told, once, and no other", () => {
  const step = fc.record({
    deliver: fc.integer({ min: 0, max: 5 }),
    settle: fc.array(fc.tuple(fc.nat(), fc.boolean()), { maxLength: 6 }),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 20 }), (steps) => {
      const { channel, delivered, settled } = fakeChannel();
      const unsettled = new Unsettled<number>(channel);
      const told = new Map<number, "ack" | "nack">();
      const open: number[] = [];
      let next = 1;
      for (const { deliver, settle } of steps) {
        for (let count = 0; count < deliver; count++, next++) {
          delivered.add(next);
          unsettled.add(next, next);
          open.push(next);
        }
        const acks: number[] = [];
        const releases: number[] = [];
        for (const [position, isAck] of settle) {
          const [tag] = open.splice(position % Math.max(open.length, 1), 1);
          if (tag === undefined) continue;
          expect(unsettled.take(tag)).toBe(tag);
          expect(unsettled.take(tag)).toBeUndefined();
          (isAck ? acks : releases).push(tag);
          told.set(tag, isAck ? "ack" : "nack");
        }
        if (acks.length + releases.length > 0) unsettled.write(acks, releases);
        expect(settled).toEqual(told);
        expect(unsettled.size).toBe(open.length);
      }
    }),
  );
});

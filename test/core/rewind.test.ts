import { expect, it } from "vitest";
import type { StartPosition } from "../../core/adapter.ts";
import { createBroker } from "../../core/create-broker.ts";
import { topic } from "../../core/destination.ts";
import { isMessagingError } from "../../core/errors.ts";
import { capabilities, LIMITS, RecordingAdapter } from "./recording-adapter.ts";

const placed = topic<unknown>("order.placed");

class Rewinding extends RecordingAdapter {
  readonly rewound: unknown[] = [];

  async rewind(of: unknown, to: StartPosition): Promise<void> {
    this.rewound.push(of, to);
  }
}

const codeOf = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => "went well",
    (error: unknown) => (isMessagingError(error) ? error.code : error),
  );

it("moves a subscription by the adapter", async () => {
  const adapter = new Rewinding();
  const broker = createBroker(adapter, { destinations: [placed] });
  expect(await codeOf(broker.rewind(placed, "billing", "earliest"))).toBe("closed");
  await broker.start();
  await broker.rewind(placed, "billing", { offsets: [{ partition: 2, offset: 5 }] });
  const address = { kind: "subscription", topic: "order.placed", name: "billing" };
  expect(adapter.rewound).toEqual([address, { offsets: [{ partition: 2, offset: 5 }] }]);
  await broker.stop();
});

it("is refused by name where nothing is kept", async () => {
  const broker = createBroker(new Rewinding(LIMITS, capabilities("rewind")), { destinations: [placed] });
  await broker.start();
  await expect(broker.rewind(placed, "billing", "earliest")).rejects.toThrow(/asks for rewind.*recording/);
  await broker.stop();
});

it.each([
  ["tomorrow"],
  [new Date("never")],
  [{ offsets: [] }],
  [{ offsets: [{ partition: -1, offset: 0 }] }],
  [{ offsets: [{ partition: 0, offset: 0.5 }] }],
  [
    {
      offsets: [
        { partition: 0, offset: 1 },
        { partition: 0, offset: 2 },
      ],
    },
  ],
  [null],
  [{ offsets: [null] }],
  [undefined],
])("refuses %j as a position", async (position) => {
  const broker = createBroker(new Rewinding(), { destinations: [placed] });
  await broker.start();
  expect(await codeOf(broker.rewind(placed, "billing", position as StartPosition))).toBe("invalid");
  if (position !== undefined) {
    const from = position as StartPosition;
    expect(() => broker.subscribe(placed, "audit", () => {}, { from })).toThrow(/\{ from \}/);
  }
  await broker.stop();
});

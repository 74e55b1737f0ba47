import { expect, test } from "vitest";
import { memory } from "../../../adapters/memory/index.ts";
import { DirectAdapter, outgoing } from "../../../conformance/direct-adapter.ts";
import type { IncomingMessage } from "../../../core/adapter.ts";
import { isMessagingError } from "../../../core/errors.ts";

const address = { kind: "queue", name: "orders" } as const;
const from = { kind: "dead-letters", of: address } as const;

async function opened() {
  const adapter = memory();
  const direct = await DirectAdapter.open(adapter);
  await direct.declare({ queues: [{ address, ordered: false, priorities: 1 }] });
  const looked = async (): Promise<string[]> => {
    const ids: string[] = [];
    for await (const batch of adapter.browse(from)) ids.push(...batch.map(({ id }) => id));
    return ids;
  };
  return { direct, adapter, looked };
}

test("in process, a look has everything that stands in order, also what others hold, and changes nothing", async () => {
  const { direct, adapter, looked } = await opened();
  const ids = Array.from({ length: 600 }, (_, n) => `m-${n}`);
  await direct.confirmed(
    from,
    ids.map((id) => outgoing({ id })),
  );
  const inbox = await direct.receive(from, { prefetch: 5, ordered: false });
  await new Promise((resolve) => setImmediate(resolve));
  expect(inbox.messages).toHaveLength(5);
  expect(await looked()).toEqual(ids);
  expect(await looked()).toEqual(ids);
  await inbox.settle(inbox.messages.slice(0, 2), "ack");
  expect(await looked()).toEqual(ids.slice(2));
  const { redeliveries, token } = inbox.messages[2] as IncomingMessage;
  expect([redeliveries, token === undefined]).toEqual([0, false]);
  const nowhere = { kind: "dead-letters", of: { kind: "queue", name: "nowhere" } } as const;
  const missing = await adapter
    .browse(nowhere)
    .next()
    .catch((error: unknown) => error);
  expect(isMessagingError(missing, "not-found")).toBe(true);
  await direct.close();
});

test("in process, a receiver passes over what is not wanted, outside of its prefetch, and gives it back in its place", async () => {
  const { direct, looked } = await opened();
  const ids = Array.from({ length: 20 }, (_, n) => `m-${n}`);
  await direct.confirmed(
    from,
    ids.map((id) => outgoing({ id })),
  );
  const wanted = ({ id }: IncomingMessage): boolean => id.endsWith("9");
  const inbox = await direct.receive(from, { prefetch: 1, ordered: false, wanted });
  await new Promise((resolve) => setImmediate(resolve));
  expect(inbox.messages.map(({ id }) => id)).toEqual(["m-9"]);
  await inbox.settle(inbox.messages, "ack");
  await new Promise((resolve) => setImmediate(resolve));
  expect(inbox.messages.map(({ id }) => id)).toEqual(["m-9", "m-19"]);
  expect(await looked()).toEqual(ids.filter((id) => id !== "m-9"));
  await inbox.receiver?.close();
  const next = await direct.receive(from, { prefetch: 100, ordered: false });
  await new Promise((resolve) => setImmediate(resolve));
  expect(next.messages.map(({ id }) => id)).toEqual(ids.filter((id) => id !== "m-9"));
  // To be passed over is no failed delivery.
  expect(next.messages.filter(({ redeliveries }) => redeliveries > 0).map(({ id }) => id)).toEqual(["m-19"]);
  await direct.close();
});

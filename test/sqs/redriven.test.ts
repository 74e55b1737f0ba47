import { HEADER } from "anybroker/adapter";
import { expect, test } from "vitest";
import { bringing, Feed, received } from "./feed.ts";
import { eventually, Inbox, ORDERS, opened } from "./opened.ts";
import { headersOf } from "./outgoing.ts";
import { queueArn } from "./scripted-account.ts";

/** What SQS says of a message that it moved by itself. */
const MOVED = {
  DeadLetterQueueSourceArn: queueArn("orders"),
  SentTimestamp: "1700000000000",
  ApproximateFirstReceiveTimestamp: "1700000005000",
  ApproximateReceiveCount: "101",
};

test("what SQS moved to the dead letters by itself says that its consumers crashed, and keeps what it was", async () => {
  const { aws, adapter } = await opened();
  const feed = new Feed(aws);
  const body = Buffer.from('{"n":1}');
  const headers = headersOf({
    city: "Bern",
    [HEADER.attempts]: "2",
    [HEADER.firstFailedAt]: "2023-01-01T00:00:00.000Z",
  });
  const dead = headersOf({ [HEADER.deadReason]: "failed", [HEADER.deadOrigin]: 'queue "orders"' });
  const foreign = { MessageId: "aws-f", ReceiptHandle: "receipt-f", Body: "plain", Attributes: MOVED };
  feed.give(
    "orders_-dlq",
    bringing(
      received({ id: "ours", key: "k", body, headers }, { Attributes: MOVED }),
      foreign,
      // The engine put this one there; that SQS knows where it came from changes nothing.
      received({ id: "told", headers: dead }, { Attributes: MOVED }),
      // Nobody says why: a message that somebody sent to the dead letters.
      received({ id: "sent" }),
    ),
  );
  const inbox = new Inbox();
  await adapter.receive({ kind: "dead-letters", of: ORDERS }, { prefetch: 10, ordered: false }, inbox);
  await eventually(() => inbox.messages.length === 4);
  const [ours, other, told, sent] = inbox.messages;
  const crashed = {
    [HEADER.deadReason]: "crashed",
    [HEADER.deadOrigin]: 'queue "orders"',
    [HEADER.deadErrorClass]: "MessagingError",
    [HEADER.deadError]: expect.stringContaining("never settled"),
    [HEADER.deadLastAt]: "2023-11-14T22:13:25.000Z",
  };
  expect(ours).toMatchObject({ id: "ours", key: "k" });
  expect(Buffer.from(ours?.body ?? []).toString()).toBe('{"n":1}');
  expect({ ...ours?.headers }).toEqual({
    city: "Bern",
    ...crashed,
    [HEADER.attempts]: "2",
    [HEADER.firstFailedAt]: "2023-01-01T00:00:00.000Z",
    [HEADER.deadFirstAt]: "2023-01-01T00:00:00.000Z",
  });
  expect(other).toMatchObject({ id: "aws-f" });
  expect({ ...other?.headers }).toEqual({ ...crashed, [HEADER.deadFirstAt]: "2023-11-14T22:13:20.000Z" });
  expect({ ...told?.headers }).toEqual({ ...dead });
  expect({ ...sent?.headers }).toEqual({});
});

import assert from "node:assert/strict";
import type { IncomingMessage, OutgoingMessage } from "../../core/adapter.ts";
import type { SubscriptionAddress } from "../../core/address.ts";
import type { ConsumerStatus } from "../../core/broker.ts";
import { type Delivery, deadLetter, type Handler, retry } from "../../core/delivery.ts";
import { subscription, type Topic, type TopicOptions } from "../../core/destination.ts";
import { HEADER } from "../../core/system-headers.ts";
import type { CaseContext, Work } from "../context.ts";
import { DirectAdapter, outgoing } from "../direct-adapter.ts";
import { drained } from "../judge.ts";
import { supports } from "../refusals.ts";

/** The second filter does not match what only the first one matches, and brokers cannot tell by a prefix. */
const BEFORE = "order.*";
const AFTER = "*.created";
const ONLY_BEFORE = "order.paid";
const NAME = "billing";
const AGAIN_MS = 300;

/** A subscription whose filter changes while it has messages. */
class ChangedFilter {
  readonly context: CaseContext;
  readonly placed: Topic<Work>;
  readonly address: SubscriptionAddress;
  /** The ids that were handled after the change. */
  readonly handled: string[] = [];

  constructor(context: CaseContext, options?: TopicOptions<Work>) {
    this.context = context;
    this.placed = context.topic("placed", options);
    this.address = { kind: "subscription", topic: this.placed.name, name: NAME };
  }

  /** Consumes with the first filter until the consumer's status fulfils the condition, and stops. */
  async before(
    ids: readonly string[],
    handler: Handler<Work>,
    until: (status: ConsumerStatus) => boolean,
  ): Promise<void> {
    const policy = { attempts: 1_000, delay: { firstMs: AGAIN_MS, factor: 1 } };
    const broker = this.context.broker();
    const consumer = broker.subscribe(this.placed, NAME, handler, { filter: BEFORE, retry: policy });
    await broker.start();
    for (const [n, id] of ids.entries()) await broker.publish(this.placed, { n }, { id, routingKey: ONLY_BEFORE });
    await this.context.until("the failures before the change", () => until(consumer.status()));
    await broker.stop();
  }

  /** Publishes events that are undelivered when the filter changes. */
  async publishUnread(ids: readonly string[]): Promise<void> {
    const declared = subscription(this.placed, NAME, { filter: BEFORE });
    const publisher = await this.context.started({ destinations: [declared] });
    for (const [n, id] of ids.entries()) await publisher.publish(this.placed, { n }, { id, routingKey: ONLY_BEFORE });
    await publisher.stop();
  }

  /** Consumes with the second filter. */
  async after() {
    const broker = this.context.broker();
    const handler = (_: Work, { id }: Delivery): void => void this.handled.push(id);
    const consumer = broker.subscribe(this.placed, NAME, handler, { filter: AFTER });
    await broker.start();
    return { broker, consumer };
  }
}

async function copiesPass(context: CaseContext): Promise<void> {
  if (!(await supports(context, "routingFilter"))) return;
  const [dead, unread] = [ids(context, 3), ids(context, 3)];
  const [waiting, created] = [context.id(), context.id()];
  const changed = new ChangedFilter(context);
  await changed.before(
    [...dead, waiting],
    (_, { id }) => (id === waiting ? retry({ afterMs: AGAIN_MS }) : deadLetter("as in a test")),
    ({ deadLettered, retried, unsettled }) => deadLettered === 3 && retried > 0 && unsettled === 0,
  );
  await changed.publishUnread(unread);
  const direct = await DirectAdapter.open(context.harness.adapter());
  context.cleanUp(() => direct.close());
  const deadLetters = await context.deadLetters(changed.placed, NAME);
  await deadLetters.until(3);
  await direct.confirmed(changed.address, deadLetters.messages.map(replayed));
  const { broker, consumer } = await changed.after();
  await broker.publish(changed.placed, { n: 0 }, { id: created, routingKey: "user.created" });
  const copies = [...dead, waiting, created];
  await context.until("every copy to be handled", () => copies.every((id) => changed.handled.includes(id)));
  const first = (): number => unread.filter((id) => changed.handled.includes(id)).length;
  await context.until(
    "waiting events to be handled or counted",
    () => first() + consumer.status().filtered >= unread.length,
  );
  await drained(context, broker, changed.placed, NAME);
  assert.equal(
    first() + consumer.status().filtered,
    unread.length,
    "an event was both handled and counted as filtered",
  );
  assert.deepEqual([...new Set(changed.handled)], changed.handled, "an event was handled twice");
  context.note(first() > 0 ? "waiting events were handled" : "waiting events were skipped and counted");
}

async function inPlace(context: CaseContext): Promise<void> {
  if (!(await supports(context, "routingFilter")) || !(await supports(context, "order"))) return;
  const changed = new ChangedFilter(context, { ordered: true, key: () => "k" });
  const [failing] = ids(context, 1) as [string];
  await changed.before(
    [failing],
    () => retry({ afterMs: AGAIN_MS }),
    ({ retried }) => retried > 0,
  );
  const { broker, consumer } = await changed.after();
  const done = (): number => changed.handled.length + consumer.status().filtered;
  await context.until("the retried event to be handled or counted", () => done() > 0);
  await drained(context, broker, changed.placed, NAME);
  assert.equal(done(), 1);
  context.note(changed.handled.length > 0 ? "it was handled" : "it was skipped and counted");
}

function ids(context: CaseContext, count: number): readonly string[] {
  return Array.from({ length: count }, () => context.id());
}

/** A dead letter as a replay sends it to its subscription. */
function replayed({ id, key, routingKey, body }: IncomingMessage): OutgoingMessage {
  const headers: Record<string, string> = Object.create(null);
  headers[HEADER.replays] = "1";
  return outgoing({ id, key, routingKey, body, headers });
}

export const changedFilter = [
  {
    number: "10c",
    title: "a changed filter skips no copy; waiting events are handled or counted",
    needsTopics: true,
    run: copiesPass,
  },
  {
    number: "10d",
    title: "a changed filter during a blocking retry: the event is handled or counted",
    needsTopics: true,
    run: inPlace,
  },
] as const;

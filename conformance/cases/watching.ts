import assert from "node:assert/strict";
import type {
  Adapter,
  IncomingMessage,
  OutgoingMessage,
  SubscriptionDeclaration,
  Watcher,
} from "../../core/adapter.ts";
import { describeAddress, type QueueAddress, type Source, type TopicAddress } from "../../core/address.ts";
import type { MessagingError } from "../../core/errors.ts";
import type { ConformanceCase } from "../case.ts";
import type { CaseContext } from "../context.ts";
import { DirectAdapter, type Inbox, outgoing } from "../direct-adapter.ts";
import { existing, nothingNewExists } from "../existing.ts";
import { codeOf, failureOf } from "../refusals.ts";

const SENT = 20;

/** Records the calls of a watcher. */
class RecordingWatcher implements Watcher {
  readonly messages: IncomingMessage[] = [];
  readonly ends: MessagingError[] = [];

  async seen(batch: readonly IncomingMessage[]): Promise<void> {
    this.messages.push(...batch);
  }

  ended(cause: MessagingError): void {
    this.ends.push(cause);
  }
}

async function watching(context: CaseContext): Promise<void> {
  const adapter = context.harness.adapter();
  if (adapter.watch === undefined) return context.refused("the adapter has no `watch`");
  const { withoutTopics } = context.harness;
  const watcher = await DirectAdapter.open(adapter);
  context.cleanUp(() => watcher.close());
  if (withoutTopics === undefined) await topicWatched(context, watcher);
  await queueWatched(context, watcher);
  if (withoutTopics !== undefined) context.notApplicable(`watching topics: ${withoutTopics}`);
}

async function topicWatched(context: CaseContext, watcher: DirectAdapter): Promise<void> {
  const placed: TopicAddress = { kind: "topic", name: context.name("placed") };
  const subscriptions = ["billing", "mailing"].map(
    (name): SubscriptionDeclaration => ({
      address: { kind: "subscription", topic: placed.name, name },
      ordered: false,
      from: "now",
    }),
  );
  const direct = await DirectAdapter.open(context.harness.adapter());
  context.cleanUp(() => direct.close());
  await direct.declare({ topics: [{ address: placed, ordered: false }], subscriptions });
  await watched(context, {
    direct,
    watcher,
    of: placed,
    receivers: subscriptions.map(({ address }) => address),
    subscriptions,
  });
  await unsubscribed(context, direct, watcher);
}

async function queueWatched(context: CaseContext, watcher: DirectAdapter): Promise<void> {
  const orders: QueueAddress = { kind: "queue", name: context.name("orders") };
  const direct = await DirectAdapter.open(context.harness.adapter());
  context.cleanUp(() => direct.close());
  await direct.declare({ queues: [{ address: orders, ordered: false, priorities: 1 }] });
  const refusal = await failureOf(watchOf(watcher.adapter, orders, new RecordingWatcher()).then((end) => end()));
  if (refusal === undefined) return watched(context, { direct, watcher, of: orders, receivers: [orders] });
  assert.equal(refusal.code, "unsupported", `watching a queue failed with another error: ${refusal.message}`);
  assert.ok(refusal.message.includes(describeAddress(orders)), `the error does not name the queue: ${refusal.message}`);
  // A refused watch took no message.
  const ids = [context.id(), context.id()];
  await direct.confirmed(
    orders,
    ids.map((id) => outgoing({ id })),
  );
  await receivesAll(context, direct, orders, ids);
  context.note("refused as declared: watching queues");
}

interface Scene {
  /** The process that declared the destination, and sends to it. */
  readonly direct: DirectAdapter;
  /** The watching process, which declared nothing. */
  readonly watcher: DirectAdapter;
  readonly of: QueueAddress | TopicAddress;
  /** The sources that have to get all messages. */
  readonly receivers: readonly Source[];
  readonly subscriptions?: readonly SubscriptionDeclaration[];
}

async function watched(
  context: CaseContext,
  { direct, watcher, of, receivers, subscriptions = [] }: Scene,
): Promise<void> {
  const past = outgoing({ id: context.id() });
  await direct.confirmed(of, [past]);
  const before = await existing(context);
  const seen = new RecordingWatcher();
  const end = await watchOf(watcher.adapter, of, seen);
  const shown = Array.from({ length: SENT }, (_, n) => message(context.id(), n));
  for (const one of shown) await direct.confirmed(of, [one]);
  await context.until("the watcher to see every message", () => seen.messages.length >= SENT);
  await end();
  const missing = { ...of, name: context.name(`missing-${of.kind}`) };
  assert.equal(
    await codeOf("watching a missing destination", watchOf(watcher.adapter, missing, new RecordingWatcher())),
    "not-found",
  );
  await nothingNewExists(context, before);
  const unseen = outgoing({ id: context.id() });
  await direct.confirmed(of, [unseen]);
  const ids = [past, ...shown, unseen].map(({ id }) => id);
  for (const receiver of receivers) {
    const subscription = subscriptions.find(({ address }) => address === receiver);
    await receivesAll(context, direct, receiver, ids, subscription);
  }
  // Messages from before the watch and after its end are not shown. All others are, once and unchanged.
  assert.deepEqual(
    seen.messages.map(({ id }) => id).sort(),
    shown.map(({ id }) => id).sort(),
    `the messages seen at ${describeAddress(of)}`,
  );
  for (const one of seen.messages) {
    const sent = shown.find(({ id }) => id === one.id);
    const { key, headers, body } = one;
    assert.deepEqual(
      { key, n: headers.n, body: text(body) },
      { key: sent?.key, n: sent?.headers.n, body: text(sent?.body) },
    );
    assert.equal(one.token, undefined, "a watched message has a token");
  }
  assert.deepEqual(seen.ends, [], "the watcher got an end that was not a failure");
}

/** Without a subscription, anything that a watcher leaves behind would still get the events. */
async function unsubscribed(context: CaseContext, direct: DirectAdapter, watcher: DirectAdapter): Promise<void> {
  const { cannotTellUnroutable } = context.harness;
  if (cannotTellUnroutable !== undefined) return;
  const topic: TopicAddress = { kind: "topic", name: context.name("unsubscribed") };
  await direct.declare({ topics: [{ address: topic, ordered: false }] });
  const end = await watchOf(watcher.adapter, topic, new RecordingWatcher());
  await end();
  const [result] = await direct.send(topic, [outgoing({ id: context.id() })]);
  const code = result?.status === "rejected" ? result.error.code : result?.status;
  assert.equal(code, "unroutable", "the ended watch left something that gets the topic's events");
}

async function watchOf(
  adapter: Adapter,
  of: QueueAddress | TopicAddress,
  watcher: RecordingWatcher,
): Promise<() => Promise<void>> {
  if (adapter.watch === undefined) throw new Error("the adapter has no watch");
  return adapter.watch(of, watcher);
}

/** Receives and acks everything at a source, which has to be exactly these ids. */
async function receivesAll(
  context: CaseContext,
  direct: DirectAdapter,
  from: Source,
  ids: readonly string[],
  subscription?: SubscriptionDeclaration,
): Promise<void> {
  const options = { prefetch: 100, ordered: false, ...(subscription === undefined ? {} : { subscription }) };
  const inbox: Inbox = await direct.receive(from, options);
  await context.until(`everything at ${describeAddress(from)}`, () => inbox.messages.length >= ids.length);
  assert.deepEqual(
    inbox.messages.map(({ id }) => id).sort(),
    [...ids].sort(),
    `the messages at ${describeAddress(from)}`,
  );
  const results = await inbox.settle(inbox.messages, "ack");
  assert.ok(results.every((result) => result === "settled"));
  await inbox.receiver?.close();
}

function message(id: string, n: number): OutgoingMessage {
  const body = Buffer.from(JSON.stringify({ n }));
  const headers = Object.assign(Object.create(null), { n: `${n}` }) as Record<string, string>;
  return outgoing({ id, key: `key-${n % 3}`, headers, body, size: body.length + 2 });
}

function text(body: Uint8Array | undefined): string {
  return Buffer.from(body ?? []).toString();
}

export const watchingCase: ConformanceCase = {
  number: "37",
  title: "watching shows each message once, consumes none and leaves nothing behind",
  alone: true,
  run: watching,
};

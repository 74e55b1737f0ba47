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
import { existing, nothingNewExists } from "../existing.ts";
import { codeOf, failureOf } from "../refusals.ts";
import { type Inbox, outgoing, Seam } from "../seam.ts";

const SENT = 20;

/** What a watcher was shown, and told. */
class Sight implements Watcher {
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
  if (adapter.watch === undefined) return context.refused("watching: the adapter has no `watch`");
  const { withoutTopics } = context.harness;
  const watcher = await Seam.open(adapter);
  context.cleanUp(() => watcher.close());
  if (withoutTopics === undefined) await topicWatched(context, watcher);
  await queueWatched(context, watcher);
  if (withoutTopics !== undefined) context.notApplicable(`watching topics: ${withoutTopics}`);
}

async function topicWatched(context: CaseContext, watcher: Seam): Promise<void> {
  const placed: TopicAddress = { kind: "topic", name: context.name("placed") };
  const subscriptions = ["billing", "mailing"].map(
    (name): SubscriptionDeclaration => ({
      address: { kind: "subscription", topic: placed.name, name },
      ordered: false,
      from: "now",
    }),
  );
  const seam = await Seam.open(context.harness.adapter());
  context.cleanUp(() => seam.close());
  await seam.declare({ topics: [{ address: placed, ordered: false }], subscriptions });
  await watched(context, {
    seam,
    watcher,
    of: placed,
    takers: subscriptions.map(({ address }) => address),
    subscriptions,
  });
  await lonely(context, seam, watcher);
}

async function queueWatched(context: CaseContext, watcher: Seam): Promise<void> {
  const orders: QueueAddress = { kind: "queue", name: context.name("orders") };
  const seam = await Seam.open(context.harness.adapter());
  context.cleanUp(() => seam.close());
  await seam.declare({ queues: [{ address: orders, ordered: false, priorities: 1 }] });
  const refusal = await failureOf(watchOf(watcher.adapter, orders, new Sight()).then((end) => end()));
  if (refusal === undefined) return watched(context, { seam, watcher, of: orders, takers: [orders] });
  assert.equal(refusal.code, "unsupported", `watching a queue failed otherwise: ${refusal.message}`);
  assert.ok(refusal.message.includes(describeAddress(orders)), `no word of which queue: ${refusal.message}`);
  // To refuse is to have taken nothing.
  const ids = [context.id(), context.id()];
  await seam.confirmed(
    orders,
    ids.map((id) => outgoing({ id })),
  );
  await takenBy(context, seam, orders, ids);
  context.note("refused as declared: watching queues");
}

interface Scene {
  /** The process that declared what is watched, and sends to it. */
  readonly seam: Seam;
  /** Another process, which declared nothing. */
  readonly watcher: Seam;
  readonly of: QueueAddress | TopicAddress;
  /** Everybody who is to get all of it. */
  readonly takers: readonly Source[];
  readonly subscriptions?: readonly SubscriptionDeclaration[];
}

async function watched(context: CaseContext, { seam, watcher, of, takers, subscriptions = [] }: Scene): Promise<void> {
  const past = outgoing({ id: context.id() });
  await seam.confirmed(of, [past]);
  const before = await existing(context);
  const sight = new Sight();
  const end = await watchOf(watcher.adapter, of, sight);
  const shown = Array.from({ length: SENT }, (_, n) => message(context.id(), n));
  for (const one of shown) await seam.confirmed(of, [one]);
  await context.until("the watcher to see what was sent", () => sight.messages.length >= SENT);
  await end();
  const missing = { ...of, name: context.name(`missing-${of.kind}`) };
  assert.equal(
    await codeOf("watching what does not stand", watchOf(watcher.adapter, missing, new Sight())),
    "not-found",
  );
  await nothingNewExists(context, before);
  const unseen = outgoing({ id: context.id() });
  await seam.confirmed(of, [unseen]);
  const ids = [past, ...shown, unseen].map(({ id }) => id);
  for (const taker of takers) {
    const subscription = subscriptions.find(({ address }) => address === taker);
    await takenBy(context, seam, taker, ids, subscription);
  }
  // What had not been sent yet, and what was sent behind the end, is not shown; the rest once and as it is.
  assert.deepEqual(
    sight.messages.map(({ id }) => id).sort(),
    shown.map(({ id }) => id).sort(),
    `what was seen of ${describeAddress(of)}`,
  );
  for (const seen of sight.messages) {
    const sent = shown.find(({ id }) => id === seen.id);
    const { key, headers, body } = seen;
    assert.deepEqual(
      { key, n: headers.n, body: text(body) },
      { key: sent?.key, n: sent?.headers.n, body: text(sent?.body) },
    );
    assert.equal(seen.token, undefined, "what is watched has no token, for it is nobody's to settle");
  }
  assert.deepEqual(sight.ends, [], "the watcher was told of an end that it asked for, or that never came");
}

/** Where nobody subscribes, a watcher that left something behind would go on taking the events. */
async function lonely(context: CaseContext, seam: Seam, watcher: Seam): Promise<void> {
  const { cannotTellUnroutable } = context.harness;
  if (cannotTellUnroutable !== undefined) return;
  const lonely: TopicAddress = { kind: "topic", name: context.name("lonely") };
  await seam.declare({ topics: [{ address: lonely, ordered: false }] });
  const end = await watchOf(watcher.adapter, lonely, new Sight());
  await end();
  const [result] = await seam.send(lonely, [outgoing({ id: context.id() })]);
  const code = result?.status === "rejected" ? result.error.code : result?.status;
  assert.equal(code, "unroutable", "somebody takes the events of a topic that was watched and has no subscription");
}

async function watchOf(adapter: Adapter, of: QueueAddress | TopicAddress, sight: Sight): Promise<() => Promise<void>> {
  if (adapter.watch === undefined) throw new Error("asked for before");
  return adapter.watch(of, sight);
}

/** Takes what stands at a source: exactly these. */
async function takenBy(
  context: CaseContext,
  seam: Seam,
  from: Source,
  ids: readonly string[],
  subscription?: SubscriptionDeclaration,
): Promise<void> {
  const options = { prefetch: 100, ordered: false, ...(subscription === undefined ? {} : { subscription }) };
  const inbox: Inbox = await seam.receive(from, options);
  await context.until(`everything at ${describeAddress(from)}`, () => inbox.messages.length >= ids.length);
  assert.deepEqual(inbox.messages.map(({ id }) => id).sort(), [...ids].sort(), `what came to ${describeAddress(from)}`);
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
  title: "watching shows what is sent, takes it from nobody and leaves nothing behind",
  alone: true,
  run: watching,
};

import { onTestFinished, vi } from "vitest";
import { type SqsAdapter, type SqsOptions, sqs } from "../../adapters/sqs/index.ts";
import type {
  DeliverySink,
  DeliveryToken,
  IncomingMessage,
  OutgoingMessage,
  Receiver,
  SendResult,
  SubscriptionDeclaration,
} from "../../core/adapter.ts";
import type { Address, QueueAddress } from "../../core/address.ts";
import type { MessagingError } from "../../core/errors.ts";
import { ScriptedAws } from "./scripted-aws.ts";

export const ORDERS: QueueAddress = { kind: "queue", name: "orders" };

/** Credentials of which nothing may ever be seen. */
export const CREDENTIALS = {
  accessKeyId: "canary-access-key",
  secretAccessKey: "canary-secret-key",
  sessionToken: "canary-session-token",
};

/** An adapter onto a scripted AWS, and what it said of its connection; both end with the test. */
export interface Opened {
  readonly aws: ScriptedAws;
  readonly adapter: SqsAdapter;
  readonly signals: string[];
  readonly errors: MessagingError[];
}

/** An adapter onto a scripted AWS, for a broker object to open; AWS ends with the test. */
export async function unopened(options: SqsOptions = {}): Promise<Pick<Opened, "aws" | "adapter">> {
  const aws = await ScriptedAws.start();
  onTestFinished(() => aws.stop());
  const adapter = sqs({
    endpoint: aws.url,
    region: "eu-central-1",
    credentials: CREDENTIALS,
    waitSeconds: 1,
    ...options,
  });
  return { aws, adapter };
}

export async function opened(options: SqsOptions = {}): Promise<Opened> {
  const { aws, adapter } = await unopened(options);
  const signals: string[] = [];
  const errors: MessagingError[] = [];
  const note = (signal: string) => (error?: unknown) => {
    signals.push(signal);
    if (error !== undefined) errors.push(error as MessagingError);
  };
  await adapter.open({
    up: note("up"),
    down: note("down"),
    blocked: note("blocked"),
    unblocked: note("unblocked"),
    notice: note("notice"),
  });
  onTestFinished(() => adapter.close());
  return { aws, adapter, signals, errors };
}

/** Sends one batch; resolves when all of it is answered. */
export function send(
  adapter: SqsAdapter,
  batch: readonly OutgoingMessage[],
  to: Address = ORDERS,
): Promise<readonly SendResult[]> {
  return new Promise((resolve) => {
    const results: SendResult[] = [];
    let left = batch.length;
    adapter.send(to, batch, (index, result) => {
      results[index] = result;
      if (--left === 0) resolve(results);
    });
  });
}

/** Keeps what a receiver says. */
export class Inbox implements DeliverySink {
  readonly messages: IncomingMessage[] = [];
  readonly said: string[] = [];
  readonly causes: MessagingError[] = [];

  deliver(batch: readonly IncomingMessage[]): void {
    this.messages.push(...batch);
  }

  lost(tokens: readonly DeliveryToken[] | "all"): void {
    this.said.push(`lost ${tokens === "all" ? "all" : tokens.length}`);
  }

  revoke(): void {
    this.said.push("revoke");
  }

  stalled(cause: MessagingError): void {
    this.said.push("stalled");
    this.causes.push(cause);
  }

  flowing(): void {
    this.said.push("flowing");
  }

  filtered(count: number): void {
    this.said.push(`filtered ${count}`);
  }
}

/** Takes from the orders, or from a subscription as it is declared. */
export async function receiving(
  adapter: SqsAdapter,
  prefetch = 10,
  subscription?: SubscriptionDeclaration,
): Promise<{ inbox: Inbox; receiver: Receiver }> {
  const inbox = new Inbox();
  const options = { prefetch, ordered: false, ...(subscription === undefined ? {} : { subscription }) };
  const receiver = await adapter.receive(subscription?.address ?? ORDERS, options, inbox);
  return { inbox, receiver };
}

/** A receiver that holds what its first polls brought. */
export async function holding(count: number, options: SqsOptions = {}) {
  const { aws, adapter, signals } = await opened(options);
  const parts = Array.from({ length: Math.ceil(count / 10) }, (_, at) =>
    brings(Math.min(10, count - 10 * at), 1, 10 * at),
  );
  aws.next("ReceiveMessage", ...parts);
  const { inbox, receiver } = await receiving(adapter, count);
  await eventually(() => inbox.messages.length === count);
  return { aws, adapter, signals, inbox, receiver, tokens: inbox.messages.map(({ token }) => token) };
}

/** What a poll brings: so many messages, each received so often, numbered from the first on. */
export function brings(count: number, receives = 1, first = 0): { readonly output: unknown } {
  const Messages = Array.from({ length: count }, (_, index) => ({
    MessageId: `id-${first + index}`,
    ReceiptHandle: `receipt-${first + index}-${receives}`,
    Body: "{}",
    Attributes: { ApproximateReceiveCount: String(receives) },
  }));
  return { output: { Messages } };
}

/** Resolves when the condition holds; rejects when it does not for very long, on a slow machine too. */
export async function eventually(condition: () => boolean): Promise<void> {
  await vi.waitUntil(condition, 60_000);
}

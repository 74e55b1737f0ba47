import { expect } from "vitest";
import type { SqsOptions } from "../../adapters/sqs/index.ts";
import type { SubscriptionDeclaration, Topology } from "../../core/adapter.ts";
import type { MessagingError } from "../../core/errors.ts";
import { opened } from "./opened.ts";
import { ScriptedAccount } from "./scripted-account.ts";

const ORDERS = { kind: "queue", name: "orders" } as const;
const BILLING = { kind: "subscription", topic: "placed", name: "billing" } as const;

/** The queue `orders`, and the subscription `billing` of the topic `placed`. */
export function wanted(given: Partial<SubscriptionDeclaration> = {}): Omit<Topology, "mode"> {
  const { ordered = false } = given;
  return {
    queues: [{ address: ORDERS, ordered, priorities: 1 }],
    topics: [{ address: { kind: "topic", name: "placed" }, ordered }],
    subscriptions: [{ address: BILLING, ordered, from: "now", filter: "geo.us", ...given }],
  };
}

/** An account with an adapter onto it. */
export async function account(options: SqsOptions = {}) {
  const { aws, adapter, errors } = await opened(options);
  const existing = new ScriptedAccount(aws);
  const declare = (mode: Topology["mode"], topology = wanted()) => adapter.declare({ ...topology, mode });
  /** Everything that was asked to be changed since it was asked for last. */
  let seen = 0;
  const changes = () => {
    const all = aws.requests.map(({ action }) => action).filter((action) => /^(Create|Set|Subscribe)/.test(action));
    const fresh = all.slice(seen).sort();
    seen = all.length;
    return fresh;
  };
  return { aws, adapter, errors, existing, declare, changes };
}

/** An account on which everything was made. */
export async function made(topology = wanted(), options: SqsOptions = {}) {
  const opened = await account(options);
  expect(await opened.declare("create", topology)).toEqual([]);
  opened.changes();
  const subscription = opened.existing.subscriptions[0]?.attributes ?? {};
  return { ...opened, subscription };
}

export const codes = (problems: readonly MessagingError[]) => problems.map(({ code }) => code);
export const said = (problems: readonly MessagingError[]) => problems.map(({ message }) => message).join("\n");

import assert from "node:assert/strict";
import type { Broker } from "../core/broker.ts";
import type { CapabilityName } from "../core/capabilities.ts";
import { isMessagingError, type MessagingError } from "../core/errors.ts";
import type { BrokerOptions } from "../core/options.ts";
import type { CaseContext } from "./context.ts";

/**
 * Starts a broker that asks for what the adapter declares it cannot do, and demands that it refuses: `start-failed`,
 * with a problem of code `unsupported` that names what was asked for, and nothing left open.
 */
export async function refusesAtStart(
  context: CaseContext,
  named: string,
  options: BrokerOptions,
  prepare: (broker: Broker) => void = () => {},
): Promise<void> {
  const broker = context.broker(options);
  prepare(broker);
  const error = await failureOf(broker.start());
  assert.ok(error !== undefined, `start() went well, though ${context.harness.name} declares ${named} unsupported`);
  assert.equal(error.code, "start-failed", `start() failed otherwise: ${error.message}`);
  const problem = error.problems.find(
    ({ code, message }) => code === "unsupported" && message.toLowerCase().includes(named.toLowerCase()),
  );
  const found = error.problems.map(({ code, message }) => `${code}: ${message}`).join("\n");
  assert.ok(problem !== undefined, `no problem of code "unsupported" names ${named}:\n${found}`);
  const { state, connected } = broker.status();
  assert.notEqual(state, "started");
  assert.equal(connected, false, "the refused broker holds a connection");
}

/** Whether it can be had at all. If not, the case ends as refused, after the refusal was seen. */
export async function supports(context: CaseContext, capability: CapabilityName): Promise<boolean> {
  const { support, note } = context.capabilities[capability];
  if (support !== "unsupported") return true;
  await refusesAtStart(context, capability, { require: [capability] });
  context.refused(`${capability}: ${note}`);
  return false;
}

/** The MessagingError that a promise rejects with, undefined if it resolves. Any other error fails the case. */
export async function failureOf(promise: Promise<unknown>): Promise<MessagingError | undefined> {
  try {
    await promise;
  } catch (error) {
    if (isMessagingError(error)) return error;
    throw new Error("the library let out an error that is no MessagingError", { cause: error });
  }
  return undefined;
}

/** The code that a promise rejects with; fails the case if it resolves. */
export async function codeOf(what: string, promise: Promise<unknown>): Promise<string> {
  const error = await failureOf(promise);
  assert.ok(error !== undefined, `${what} went well, and should have been refused`);
  return error.code;
}

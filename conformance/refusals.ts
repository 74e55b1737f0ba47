import assert from "node:assert/strict";
import type { Broker } from "../core/broker.ts";
import type { CapabilityName } from "../core/capabilities.ts";
import { isMessagingError, type MessagingError } from "../core/errors.ts";
import type { BrokerOptions } from "../core/options.ts";
import type { CaseContext } from "./context.ts";

/**
 * Starts a broker that asks for an unsupported capability. It has to fail with `start-failed`, with an `unsupported`
 * problem that names the capability, and without a connection left.
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
  assert.ok(error !== undefined, `start() succeeded, but ${context.harness.name} declares ${named} unsupported`);
  assert.equal(error.code, "start-failed", `start() failed with another error: ${error.message}`);
  const problem = error.problems.find(
    ({ code, message }) => code === "unsupported" && message.toLowerCase().includes(named.toLowerCase()),
  );
  const found = error.problems.map(({ code, message }) => `${code}: ${message}`).join("\n");
  assert.ok(problem !== undefined, `no problem of code "unsupported" names ${named}:\n${found}`);
  const { state, connected } = broker.status();
  assert.notEqual(state, "started");
  assert.equal(connected, false, "the broker has a connection after a failed start");
}

/** Whether the adapter has the capability. If not, checks that the start is refused, and ends the case as refused. */
export async function supports(context: CaseContext, capability: CapabilityName): Promise<boolean> {
  const { support, note } = context.capabilities[capability];
  if (support !== "unsupported") return true;
  await refusesAtStart(context, capability, { require: [capability] });
  context.refused(`${capability}: ${note}`);
  return false;
}

/** The `MessagingError` of a rejection; undefined if the promise resolves. Any other error fails the case. */
export async function failureOf(promise: Promise<unknown>): Promise<MessagingError | undefined> {
  try {
    await promise;
  } catch (error) {
    if (isMessagingError(error)) return error;
    throw new Error("the library threw an error that is no MessagingError", { cause: error });
  }
  return undefined;
}

/** The code of a rejection. Fails the case if the promise resolves. */
export async function codeOf(what: string, promise: Promise<unknown>): Promise<string> {
  const error = await failureOf(promise);
  assert.ok(error !== undefined, `${what} was not refused`);
  return error.code;
}

import type { SASLOptions } from "kafkajs";
import { isMessagingError, MessagingError, type MessagingErrorCode } from "../../../core/errors.ts";
import { oneLine } from "../../../core/foreign.ts";
import type { ErrorName } from "../port.ts";

/** The address of a broker. */
export interface Address {
  readonly host: string;
  readonly port: number;
  /** The broker that named this address; undefined for addresses given by the user. */
  readonly namedBy?: string;
}

export function describeBroker({ host, port }: Address): string {
  const shown = oneLine(host, MAX_HOST);
  return `Kafka at ${shown.includes(":") ? `[${shown}]` : shown}:${port}`;
}

/** The longest host name. */
const MAX_HOST = 255;

/** Checks a host named by a broker; undefined if it may be valid. Node would quote it unchanged. */
export function hostFault(address: Address): MessagingError | undefined {
  if (address.host === oneLine(address.host, MAX_HOST)) return undefined;
  return new MessagingError("unreachable", `${describeBroker(address)} is no address; ${addressAdvice(address)}`);
}

/** What to check if a broker is unreachable. */
export function addressAdvice({ namedBy }: Address): string {
  if (namedBy === undefined) return "check host, port, TLS and that the broker runs";
  return `${namedBy} names it so in its metadata: check advertised.listeners there, and that this host reaches that address`;
}

/** A failure to connect. */
export function connectError(error: unknown, address: Address): MessagingError {
  if (isMessagingError(error)) return error;
  return new MessagingError(
    "unreachable",
    `${describeBroker(address)} cannot be reached (${reasonOf(error)}); ${addressAdvice(address)}`,
    { cause: error },
  );
}

/**
 * A refused login, with the server's error name if known. It has no cause: servers may repeat credentials in any
 * encoding, and a token provider's error may hold anything.
 */
export function loginError(
  error: unknown,
  address: Address,
  { mechanism }: SASLOptions,
  refusal: ErrorName,
): MessagingError {
  const ofKafkaJS = error instanceof Error && error.name.startsWith("KafkaJS");
  const unasked = ofKafkaJS ? "" : " (no credentials could be had: their provider failed)";
  return new MessagingError(
    "unauthorized",
    `${describeBroker(address)} did not take the SASL login by ${mechanism}` +
      `${refusal === undefined ? unasked : ` (${refusal})`}; ` +
      "check mechanism and credentials, and that this listener of the broker takes SASL",
  );
}

/** A failure of kafkajs' own client; `text` says what failed. A failed login has no cause; see {@link loginError}. */
export function clientError(code: MessagingErrorCode, text: string, cause: unknown): MessagingError {
  const telling = chainOf(cause).every(({ name, type }) => TELLING.test(name) && !String(type).startsWith("SASL"));
  if (telling) return new MessagingError(code, `${text}; see the cause`, { cause });
  return new MessagingError("unauthorized", `${text}; check mechanism and credentials of the SASL login`);
}

/** Errors of kafkajs that quote nothing of a login. */
const TELLING = /^KafkaJS(?!SASL)/;

interface Link {
  readonly name: string;
  readonly type?: unknown;
  readonly cause?: unknown;
}

function chainOf(error: unknown): readonly Link[] {
  const chain: Link[] = [];
  for (let link = error; link instanceof Error && chain.length < 20; link = link.cause) chain.push(link);
  return chain;
}

/** The error of pending requests on a broken connection. */
export function brokenError(address: Address, reason: unknown): MessagingError {
  return new MessagingError(
    "unreachable",
    `the connection to ${describeBroker(address)} broke (${reasonOf(reason)}); what was asked may have been done`,
    { cause: reason },
  );
}

/** The connection ended before any answer: client and listener mostly differ in TLS or SASL. */
export function unansweredError(
  address: Address,
  reason: unknown,
  has: { readonly tls: boolean; readonly sasl: boolean; readonly isOpen: boolean },
): MessagingError {
  const given = `this client speaks ${has.tls ? "TLS (ssl)" : "no TLS (ssl)"} and ${has.sasl ? "logs in (sasl)" : "does not log in (sasl)"}`;
  return new MessagingError(
    "unreachable",
    `${describeBroker(address)} ended the connection before it answered (${reasonOf(reason)}): ${given}; check that this listener is of the same kind, and give ssl and sasl as it wants them${outcomeText(has.isOpen)}`,
    { cause: reason },
  );
}

/** Before a connection is open, only a login is asked for. */
function outcomeText(isOpen: boolean): string {
  return isOpen ? "; what was asked may have been done" : "";
}

/** The answer is not Kafka's protocol: something else listens there, or it expects TLS. */
export function garbledError(address: Address, reason: unknown, isOpen: boolean): MessagingError {
  const advice =
    address.namedBy === undefined ? "check host, port and TLS, and what listens there" : addressAdvice(address);
  return new MessagingError(
    "unreachable",
    `${describeBroker(address)} answered what is no Kafka (${reasonOf(reason)}); ${advice}${outcomeText(isOpen)}`,
    { cause: reason },
  );
}

const MAX_REASON = 300;

/** The code of a network error, or its message. */
function reasonOf(error: unknown): string {
  const { code, message } = error as { readonly code?: unknown; readonly message?: unknown };
  return oneLine(typeof code === "string" ? code : String(message), MAX_REASON);
}

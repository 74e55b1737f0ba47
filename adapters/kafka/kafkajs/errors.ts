import type { SASLOptions } from "kafkajs";
import { isMessagingError, MessagingError } from "../../../core/errors.ts";

/** Where a broker listens. */
export interface Address {
  readonly host: string;
  readonly port: number;
  /** The broker that gave this address, where it is none of those that the user gave. */
  readonly namedBy?: string;
}

export function placeOf({ host, port }: Address): string {
  return `Kafka at ${host.includes(":") ? `[${host}]` : host}:${port}`;
}

/** What to look at where a broker cannot be had at an address. */
export function addressAdvice({ namedBy }: Address): string {
  if (namedBy === undefined) return "check host, port, TLS and that the broker runs";
  return `${namedBy} names it so in its metadata: check advertised.listeners there, and that this host reaches that address`;
}

/** Why a broker could not be connected to. */
export function connectError(error: unknown, address: Address): MessagingError {
  if (isMessagingError(error)) return error;
  return new MessagingError(
    "unreachable",
    `${placeOf(address)} cannot be reached (${reasonOf(error)}); ${addressAdvice(address)}`,
    { cause: error },
  );
}

/**
 * Why a broker did not let us in. Only kafkajs' own errors are kept as the cause, and only if they hold none of the
 * secrets: a server may repeat what it was told, and what a token provider throws may hold anything.
 */
export function loginError(error: unknown, address: Address, sasl: SASLOptions): MessagingError {
  const ofKafkaJS = error instanceof Error && error.name.startsWith("KafkaJS");
  const telling = ofKafkaJS && !secretsOf(sasl).some((secret) => error.message.includes(secret));
  return new MessagingError(
    "unauthorized",
    `${placeOf(address)} did not take the SASL login by ${sasl.mechanism}` +
      `${ofKafkaJS ? "" : " (no credentials could be had: their provider failed)"}; ` +
      "check mechanism and credentials, and that this listener of the broker takes SASL",
    telling ? { cause: error } : {},
  );
}

/** Everything in the credentials that must be told to nobody. */
function secretsOf(sasl: SASLOptions): readonly string[] {
  return Object.entries(sasl).flatMap(([name, value]) =>
    typeof value === "string" && value !== "" && name !== "mechanism" && name !== "username" ? [value] : [],
  );
}

/** What becomes of whatever is under way on a connection that broke. */
export function brokenError(address: Address, reason: unknown): MessagingError {
  return new MessagingError(
    "unreachable",
    `the connection to ${placeOf(address)} broke (${reasonOf(reason)}); what was asked may have been done`,
    { cause: reason },
  );
}

/** What came is not what Kafka says: something else listens there, or speaks TLS where none is spoken. */
export function garbledError(address: Address, reason: unknown): MessagingError {
  const advice =
    address.namedBy === undefined ? "check host, port and TLS, and what listens there" : addressAdvice(address);
  return new MessagingError(
    "unreachable",
    `${placeOf(address)} answered what is no Kafka (${reasonOf(reason)}); ${advice}; what was asked may have been done`,
    { cause: reason },
  );
}

/** The code of an error of the network, or its first words. */
function reasonOf(error: unknown): string {
  const { code, message } = error as { readonly code?: unknown; readonly message?: unknown };
  return typeof code === "string" ? code : String(message);
}

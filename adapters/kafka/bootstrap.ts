import { MessagingError } from "../../core/errors.ts";

const DEFAULT_PORT = 9092;
const PLACE = /^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::(\d{1,5}))?$/;

/**
 * Hosts with ports, from a list or a text with commas. Throws `invalid`, quoting nothing of what was given: it may be a URL
 * with a password.
 */
export function parseBrokers(given: string | readonly string[]): readonly string[] {
  const places: unknown = typeof given === "string" ? given.split(",") : given;
  if (!Array.isArray(places) || places.length === 0) throw malformed();
  return places.map((place: unknown) => {
    const [, host, port] = (typeof place === "string" && PLACE.exec(place.trim())) || [];
    const number = port === undefined ? DEFAULT_PORT : Number(port);
    if (host === undefined || number < 1 || number > 65_535) throw malformed();
    return `${host}:${number}`;
  });
}

function malformed(): MessagingError {
  return new MessagingError(
    "invalid",
    'kafka() takes brokers such as ["a.example:9092", "b.example:9092"] or "a.example:9092,b.example:9092": hosts with ports, no URLs; log in by sasl',
  );
}

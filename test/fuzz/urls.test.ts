import fc from "fast-check";
import { expect, test } from "vitest";
import { maskUrl, redacted, Secrets } from "../../cli/secrets.ts";
import { isMessagingError } from "../../core/errors.ts";
import { fromUrl } from "../../integrations/url/index.ts";
import { toldBy } from "../integrations/url/reading.ts";
import { fuzzing } from "./runs.ts";

const CANARY = "canary7531";

const piece = fc.constantFrom(
  "amqp://",
  "amqps:",
  "kafka+ssl://",
  "sqs://eu-central-1",
  "memory:",
  "u:p@",
  "localhost",
  ":5672",
  "/%2f",
  "?",
  "&",
  "=",
  "leaseMs",
  "queueArguments.__proto__",
  "__proto__",
  "constructor.prototype",
  "heartbeatSeconds=5",
  "%zz",
  "%00",
  "[::1]",
  "#",
  "1e309",
  "\ud800",
);
const url = fc.oneof(
  fc.array(piece, { maxLength: 8 }).map((pieces) => pieces.join("")),
  fc.string({ unit: "binary" }),
  fc.webUrl({ withQueryParameters: true, withFragments: true }),
);

test("any text leads to an adapter, or is refused", async () => {
  await fc.assert(
    fc.asyncProperty(url, async (given) => {
      const result = await fromUrl(given).catch((error: unknown) => error);
      const isAdapter = typeof (result as { readonly physicalName?: unknown }).physicalName === "function";
      expect(isAdapter || isMessagingError(result, "invalid")).toBe(true);
      expect(Object.keys(Object.prototype)).toEqual([]);
    }),
    fuzzing(),
  );
});

const odd = fc.string({ unit: fc.constantFrom(..."/?#@&=:%.x"), maxLength: 4 });
const login = fc
  .record({
    scheme: fc.constantFrom("amqp", "kafka+ssl", "HTTPS", "x"),
    user: fc.constantFrom("", "u", "a.b"),
    password: fc.tuple(odd, odd).map(([before, after]) => `${before}${CANARY}${after}`),
    rest: fc.constantFrom("h", "h:1/v", "a:1,b:2/?x=y", ""),
  })
  .map(({ scheme, user, password, rest }) => `${scheme}://${user}:${password}@${rest}`);

test("no password in a URL is printed, wherever the URL stands", async () => {
  const around = fc.string({ unit: fc.constantFrom(...' "(\n,a:/@?'), maxLength: 6 });
  await fc.assert(
    fc.asyncProperty(around, login, around, async (before, secret, behind) => {
      for (const text of [`${before}${secret}${behind}`, maskUrl(secret), toldBy(await refusal(secret))]) {
        const shown = redacted(text);
        expect(shown).not.toContain(CANARY);
        expect(redacted(shown)).toBe(shown);
      }
      const secrets = new Secrets({});
      secrets.addUrlsIn(secret);
      expect(secrets.masked(`as given: ${secret.slice(secret.indexOf(":") + 3)}`)).not.toContain(CANARY);
    }),
    fuzzing(),
  );
});

function refusal(given: string): Promise<unknown> {
  return fromUrl(given).catch((error: unknown) => error);
}

test("any text is printed, and once masked stays as it is", () => {
  const text = fc.oneof(
    fc.string({ unit: "binary" }),
    fc.array(fc.oneof(piece, odd)).map((all) => all.join("")),
  );
  fc.assert(
    fc.property(text, (given) => {
      const shown = redacted(given);
      expect(redacted(shown)).toBe(shown);
    }),
    fuzzing(),
  );
});

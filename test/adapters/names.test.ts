// Names on brokers are told apart over all processes: no process knows what others declare.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { delaysGroup, delaysTopic, groupName, physicalName as onKafka, topicName } from "../../adapters/kafka/names.ts";
import { memory } from "../../adapters/memory/index.ts";
import { queueTarget, topicTarget } from "../../adapters/rabbitmq/delay-levels.ts";
import { exchangeName, physicalName as onRabbitMQ, queueName } from "../../adapters/rabbitmq/names.ts";
import { physicalName as onSQS } from "../../adapters/sqs/names.ts";
import { type Address, addressName, type WorkAddress } from "../../core/address.ts";
import { queue, subscription, topic } from "../../core/destination.ts";
import { isMessagingError } from "../../core/errors.ts";

/** The names that an address has on a broker, each with what has it and with the namespace it is in. */
type Named = (address: Address) => readonly { readonly what: string; readonly name: string }[];

const one = (what: string, name: string) => [{ what, name }];

/** All names that an adapter gives; throws `invalid` where it refuses the address. */
const ADAPTERS: Readonly<Record<string, Named>> = {
  memory: (address) => one("it", memory().physicalName(address)),
  "as people read it": (address) =>
    one("it", `${address.kind === "topic" ? "topic" : "queue"} ${addressName(address)}`),
  RabbitMQ: (address) => {
    const name = onRabbitMQ(address);
    const delayed =
      address.kind === "topic" ? topicTarget(exchangeName(address.name), "") : queueTarget(queueName(address));
    return [...one("it", name), ...one("delays", `delayed ${delayed}`)];
  },
  Kafka: (address) => {
    onKafka(address);
    const named = one("it", `topic ${topicName(address)}`);
    // Nobody consumes the quarantine log by a group.
    if (address.kind === "quarantine") return named;
    if (address.kind !== "topic") named.push({ what: "group", name: `group ${groupName(address)}` });
    if (address.kind === "dead-letters") return named;
    named.push({ what: "delays", name: `topic ${delaysTopic(address)}` });
    return [...named, { what: "delays' group", name: `group ${delaysGroup(address)}` }];
  },
  SQS: (address) => one("it", onSQS(address, "")),
};

function derived(of: WorkAddress): readonly Address[] {
  return [of, { kind: "dead-letters", of }, { kind: "quarantine", of }];
}

/** Every queue, topic and subscription of these names, where the library takes them. */
function addressesOf(names: readonly string[]): readonly Address[] {
  const topics = names.filter((name) => isTaken(() => topic(name)));
  const subscriptions = names.filter((name) => isTaken(() => subscription(topic("a"), name)));
  return [
    ...names.filter((name) => isTaken(() => queue(name))).flatMap((name) => derived({ kind: "queue", name })),
    ...topics.map((name): Address => ({ kind: "topic", name })),
    ...topics.flatMap((of) => subscriptions.flatMap((name) => derived({ kind: "subscription", topic: of, name }))),
  ];
}

function isTaken(make: () => unknown): boolean {
  try {
    make();
    return true;
  } catch (error) {
    if (!isMessagingError(error, "invalid")) throw error;
    return false;
  }
}

/** Names with two meanings. */
function shared(named: Named, addresses: Iterable<Address>): readonly string[] {
  const owners = new Map<string, string>();
  const clashes: string[] = [];
  for (const address of addresses) {
    let names: ReturnType<Named>;
    try {
      names = named(address);
    } catch (error) {
      if (!isMessagingError(error, "invalid")) throw error;
      continue;
    }
    for (const { what, name } of names) {
      const owner = `${what} of ${JSON.stringify(address)}`;
      const before = owners.get(name);
      if (before === undefined) owners.set(name, owner);
      else if (before !== owner) clashes.push(`${name}: ${before} and ${owner}`);
    }
  }
  return clashes;
}

/** All texts of so many parts. */
function texts(parts: readonly string[], most: number): readonly string[] {
  let longest = [""];
  const all: string[] = [];
  for (let length = 1; length <= most; length++) {
    longest = longest.flatMap((text) => parts.map((part) => text + part));
    all.push(...longest);
  }
  return all;
}

describe.each(Object.entries(ADAPTERS))("names on %s", (_adapter, named) => {
  test("are one for each address, whatever dots, dashes and underscores are in it", () => {
    const names = texts(["a", ".", "-", "_"], 4);
    const addresses = addressesOf(names);
    expect(addresses.length).toBeGreaterThan(10_000);
    expect(shared(named, addresses)).toEqual([]);
  });

  test("are one for each address, whatever endings of the library's own are in it", () => {
    const names = texts(["a", ".", "dlq", "quarantine", "delays", "queue"], 3);
    expect(shared(named, addressesOf(names))).toEqual([]);
  });

  test("are one for each address, whatever its length and case", () => {
    const part = fc.constantFrom(
      "a",
      "A",
      "b",
      "0",
      ".",
      "-",
      "_",
      ".dlq",
      ".quarantine",
      ".delays",
      ".queue",
      ".fifo",
      "a".repeat(40),
    );
    const name = fc.array(part, { minLength: 1, maxLength: 6 }).map((parts) => parts.join(""));
    fc.assert(
      fc.property(fc.array(name, { minLength: 10, maxLength: 30 }), (names) => {
        expect(shared(named, addressesOf(names))).toEqual([]);
      }),
      { numRuns: 50 },
    );
  });
});

test("names on SQS are one for each address and prefix", () => {
  const prefixes = texts(["a", "-"], 3);
  const names = texts(["a", ".", "-", "_"], 3);
  const owners = new Map<string, string>();
  for (const prefix of ["", ...prefixes]) {
    for (const address of addressesOf(names)) {
      const name = onSQS(address, prefix);
      const owner = JSON.stringify({ prefix, address });
      expect(owners.get(name) ?? owner, name).toBe(owner);
      owners.set(name, owner);
    }
  }
});

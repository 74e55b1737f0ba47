import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, expect, test } from "vitest";
import {
  readAppliedPolicies,
  readDelaysUnderWay,
  readPolicies,
  readQueues,
  readTopology,
} from "../../../adapters/rabbitmq/management.ts";
import { resolveOptions } from "../../../adapters/rabbitmq/options.ts";
import { Redactor } from "../../../adapters/rabbitmq/redactor.ts";
import { serverVersion } from "../../../adapters/rabbitmq/server-version.ts";
import { topologyPlan } from "../../../adapters/rabbitmq/topology-plan.ts";
import { staleBindings } from "../../../adapters/rabbitmq/verification.ts";
import { subscriptionOf, topology } from "../seam-values.ts";

const servers: Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    server.close();
  }
});

/** A server that gives one answer to every question. */
async function answering(answer: string | Buffer): Promise<string> {
  const server = createServer((_, response) => response.end(answer));
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

const SETTINGS = {
  username: "guest",
  password: "guest",
  tls: undefined,
  vhost: "/",
  requestTimeoutMs: 60_000,
  redactor: new Redactor("guest"),
};

const READERS: readonly (readonly [string, (url: string) => Promise<unknown>])[] = [
  ["policies", (url) => readPolicies(url, SETTINGS)],
  ["applied policies", (url) => readAppliedPolicies(url, SETTINGS)],
  ["queues", (url) => readQueues({ ...SETTINGS, managementUrl: url })],
  ["topology", (url) => readTopology(url, SETTINGS)],
  ["messages under way", (url) => readDelaysUnderWay(url, SETTINGS)],
];

const WRONG: readonly (readonly [string, string])[] = [
  ["null", "null"],
  ["an object", '{"status":"ok"}'],
  ["a text", '"hello"'],
  ["a number", "7"],
  ["a list of numbers", "[1,2]"],
  ["a list of null", "[null]"],
  ["a list of lists", "[[]]"],
  ["a list of other things", '[{"id":1}]'],
  ["items that are none", '{"items":{}}'],
  ["a page", "<!doctype html>"],
  ["nothing", ""],
  ["a forbidden key", '[{"__proto__":{"name":"x"}}]'],
];

for (const [what, read] of READERS) {
  test.each(WRONG)(`%s is no answer of the management API when it is asked for ${what}`, async (_, answer) => {
    const url = await answering(answer);
    await expect(read(url)).rejects.toMatchObject({
      code: "unreachable",
      message: expect.stringMatching(
        /^the answer of http.* is not one of RabbitMQ.s management API .*; check managementUrl/,
      ),
    });
  });
}

test("a binding without a text as its filter is none", async () => {
  const one = { source: "placed", destination: "placed..billing", destination_type: "queue" };
  const url = await answering(JSON.stringify([{ ...one, routing_key: { toString: 1 } }]));
  await expect(readTopology(url, SETTINGS)).rejects.toMatchObject({ code: "unreachable" });
});

test("of a great many surplus bindings only some are named", async () => {
  const one = { source: "placed", destination: "placed..billing", destination_type: "queue" };
  const bindings = Array.from({ length: 5_000 }, (_, n) => ({ ...one, routing_key: `old.${n}` }));
  const managementUrl = await answering(JSON.stringify(bindings));
  const settings = resolveOptions({ managementUrl });
  const declared = topology({ subscriptions: [subscriptionOf("placed", "billing")] });
  const found = await staleBindings(topologyPlan(declared, serverVersion("4.3.0"), settings), settings);
  expect(found).toHaveLength(101);
  expect(found[0]?.message).toContain('with the filter "old.0"');
  expect(found[100]?.message).toContain("4900 more such bindings");
});

test("policies are no queues", async () => {
  const url = await answering('[{"name":"p","pattern":".*","definition":{}}]');
  await expect(readTopology(url, SETTINGS)).rejects.toMatchObject({ code: "unreachable" });
});

test.each<[string, Buffer]>([
  ["nested very deep", Buffer.concat([Buffer.alloc(8_000_000, "["), Buffer.alloc(8_000_000, "]")])],
  ["of very many values", Buffer.concat([Buffer.from("[[]"), Buffer.alloc(9_000_000, ",[]"), Buffer.from("]")])],
])("an answer that is %s is refused before anything is made of it", async (_, answer) => {
  const url = await answering(answer);
  await expect(readPolicies(url, SETTINGS)).rejects.toMatchObject({
    message: expect.stringMatching(/nested deeper than|holds more than/),
  });
});

test("an answer that is too long is not read to its end", async () => {
  const url = await answering(Buffer.alloc(40 * 1024 * 1024, " "));
  await expect(readPolicies(url, SETTINGS)).rejects.toMatchObject({
    code: "unsupported",
    message: expect.stringContaining("more policies than are read"),
  });
});

test("lists without anything in them are lists", async () => {
  const url = await answering("[]");
  expect(await readPolicies(url, SETTINGS)).toEqual({ policies: [], operatorPolicies: [] });
  expect(await readDelaysUnderWay(url, SETTINGS)).toBe(0);
});

test("what RabbitMQ applies is known of those whose policies it lists", async () => {
  const url = await answering(
    '[{"name":"a","policy":"p","operator_policy":"o"},{"name":"b","policy":null,"effective_policy_definition":{}},{"name":"c"}]',
  );
  const { queues } = await readAppliedPolicies(url, SETTINGS);
  expect([...queues]).toEqual([
    ["a", { policy: "p", operatorPolicy: "o" }],
    ["b", { policy: undefined, operatorPolicy: undefined }],
  ]);
});

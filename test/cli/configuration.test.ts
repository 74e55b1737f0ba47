import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { queue } from "anybroker";
import { defineConfig } from "anybroker/cli";
import { memory } from "anybroker/memory";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { Configuration } from "../../cli/configuration.ts";
import { command } from "./commands.ts";

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "anybroker-configuration-"));
});

afterEach(() => rmSync(folder, { recursive: true, force: true }));

function write(name: string, text: string): void {
  writeFileSync(join(folder, name), text);
}

const SHOW = ["topology", "show", "--json"];

test("the file in the current folder is read, TypeScript before JavaScript, or the one that is named", async () => {
  write(
    "anybroker.config.js",
    'export default { destinations: [{ kind: "queue", name: "js", options: {} }], broker: "memory:" };',
  );
  expect((await command(SHOW, { cwd: folder })).json.destinations).toMatchObject([{ destination: "queue:js" }]);
  write(
    "anybroker.config.ts",
    'interface Named { name: string }\nconst named: Named = { name: "ts" };\nexport default { destinations: [{ kind: "queue", options: {}, ...named }], broker: "memory:" };',
  );
  expect((await command(SHOW, { cwd: folder })).json.destinations).toMatchObject([{ destination: "queue:ts" }]);
  const named = await command([...SHOW, "--config", "anybroker.config.js"], { cwd: folder });
  expect(named.json.destinations).toMatchObject([{ destination: "queue:js" }]);
  expect((await command([...SHOW, "--config", "nowhere.ts"], { cwd: folder })).code).toBe(66);
});

test("what is wrong with it is said", async () => {
  const wrong: readonly (readonly [text: string, code: number, told: RegExp])[] = [
    ["export const nothing = 1;", 78, /has no default export/],
    ["export default 1;", 78, /as an object/],
    ["export default { brokr: 1 };", 78, /no option "brokr"/],
    ["export default { broker: 1 };", 78, /takes a URL, an adapter/],
    ['export default { brokers: { "a b": "memory:" } };', 78, /"a b" is none/],
    ["export default { destinations: [1] };", 78, /number 1 is none/],
    ["export default { outboxes: { orders: {} } };", 78, /outboxes\.orders is none/],
    ["export default { migration: {} };", 78, /function as migration/],
    ['export default { require: ["speed"] };', 78, /requires "speed"/],
    ["export default { require: 5 };", 78, /takes a list of capabilities/],
    ["export default { destinations: [{ kind: { toString: 1 } }] };", 78, /number 1 is none/],
    ["throw new Error('not today');", 78, /cannot be used: not today/],
    ["throw new Error('postgres://u:S3CRET@db');", 78, /cannot be used: postgres:\/\/\*\*\*@db/],
    ["throw 'amqp://u:S3CRET@h';", 78, /cannot be used: amqp:\/\/\*\*\*@h/],
    ["throw { toString: 1 };", 78, /has no text/],
    ["export default {", 78, /cannot be used/],
    ["export default { close: 1 };", 78, /function as close/],
    [
      "export default { destinations: NAMED, broker: () => { throw new Error('not today'); } };",
      78,
      /broker\(\) of .* not today/,
    ],
    [
      "export default { destinations: NAMED, broker: async () => { throw new Error('amqp://u:hunter2secret@h password=hunter2secret'); } };",
      78,
      /failed: amqp:\/\/\*\*\*@h password=\*\*\*/,
    ],
    [
      "export default { destinations: NAMED, broker: 'memory:', close: () => { throw new Error('not now'); } };",
      78,
      /close\(\) of .* not now/,
    ],
    ["export default new Proxy({}, { ownKeys() { throw new Error('no keys'); } });", 78, /cannot be used: no keys/],
    ["export default new Proxy({}, { get() { throw new Error('no property'); } });", 78, /cannot be used: no property/],
  ];
  for (const [index, [text, exit, told]] of wrong.entries()) {
    const name = `wrong-${index}.mjs`;
    write(name, text.replace("NAMED", '[{ kind: "queue", name: "a", options: {} }]'));
    const { code, stderr } = await command([...SHOW.slice(0, -1), "--config", name], { cwd: folder });
    expect(stderr).toMatch(told);
    expect([text, code]).toEqual([text, exit]);
  }
});

test("the broker is the one that is named, else the configuration's, else BROKER_URL", async () => {
  const brokerOf = async (line: readonly string[], configuration: Configuration, env = {}) =>
    (await command(["topology", "show", "queue:orders", ...line, "--json"], { configuration, env })).json.adapter;
  const configuration: Configuration = { broker: "kafka://a.invalid", brokers: { aws: "sqs://eu-central-1" } };
  const env = { BROKER_URL: "amqp://localhost" };
  expect(await brokerOf(["--broker", "aws"], configuration, env)).toBe("sqs");
  expect(await brokerOf(["--broker", "memory:"], configuration, env)).toBe("memory");
  expect(await brokerOf([], configuration, env)).toBe("kafka");
  expect(await brokerOf([], {}, env)).toBe("rabbitmq");
  expect(await brokerOf([], { broker: memory() })).toBe("memory");
  const none = await command(["topology", "show", "queue:orders"], { configuration: {} });
  expect([none.code, none.stderr]).toEqual([64, expect.stringContaining("--broker amqp://localhost")]);
  const unknown = await command(["topology", "show", "--broker", "toString", "queue:a"], { configuration });
  expect([unknown.code, unknown.stderr]).toEqual([64, expect.stringContaining("it has aws")]);
  const odd = await command(["topology", "show", "--broker", "http://a", "queue:a"], { configuration });
  expect([odd.code, odd.stderr]).toEqual([65, expect.stringContaining("http:")]);
});

test("it is closed when the command is done, whatever happened", async () => {
  let closed = 0;
  const configuration = { broker: () => memory(), destinations: [queue("orders")], close: () => void closed++ };
  await command(["topology", "show"], { configuration });
  await command(["topology", "verify"], { configuration });
  await command(["dlq", "ls", "orders"], { configuration });
  expect(closed).toBe(3);
});

test("defineConfig gives it back, and refuses what is wrong", () => {
  const configuration = { broker: "memory:", destinations: [queue("orders")] };
  expect(defineConfig(configuration)).toBe(configuration);
  expect(() => defineConfig({ broker: "" })).toThrow(expect.objectContaining({ code: "invalid" }));
});

test("a configuration that never finishes loading ends the command, with where to look", async () => {
  write("anybroker.config.ts", "await new Promise(() => {});\nexport default {};");
  const late = await command(SHOW, { cwd: folder, faster: 1_000 });
  expect(late.code).toBe(78);
  expect(late.stderr).toContain("was not loaded within 60 s; check what it waits for outside of functions");
});

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createBroker, queue } from "anybroker";
import { memory, memorySpace } from "anybroker/memory";
import { afterAll, beforeAll, expect, test } from "vitest";
import { command, errorOf } from "./commands.ts";
import { shop } from "./shop.ts";

let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "anybroker-sending-"));
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

test("send puts a message on a queue, with its options", async () => {
  const { configuration, stock, takeOrders } = shop();
  await stock();
  const line = ["send", "orders", '{"id":"o-1","total":12}', "--id", "m-1", "--header", "tenant=acme=1", "--json"];
  const { code, json } = await command(line, { configuration });
  expect(code).toBe(0);
  expect(json).toMatchObject({
    broker: "broker",
    destination: "orders",
    sent: 1,
    failed: 0,
    ids: ["m-1"],
    nextLine: null,
  });
  expect(await takeOrders()).toEqual([{ id: "o-1", total: 12 }]);
});

test("a message may come from stdin or a file, as text or as bytes", async () => {
  const space = memorySpace();
  const texts = queue<string>("texts");
  const configuration = { broker: () => memory({ space }), destinations: [texts] };
  await command(["topology", "create"], { configuration });
  expect((await command(["send", "texts", "--file", "-", "--text"], { configuration, stdin: "hello" })).code).toBe(0);
  writeFileSync(join(folder, "body.json"), '"from a file"');
  expect((await command(["send", "texts", "--file", "body.json"], { configuration, cwd: folder })).code).toBe(0);
  const raw = ["send", "queue:texts", '"raw"', "--raw", "--content-type", "application/json"];
  expect((await command(raw, { configuration })).stdout).toMatch(/^sent 1 to texts /);
  const broker = createBroker(memory({ space }));
  const taken: string[] = [];
  const consumer = broker.consume(texts, (text) => void taken.push(text));
  await broker.start();
  while (consumer.status().succeeded < 3) await new Promise((resolve) => setImmediate(resolve));
  await broker.stop();
  expect(taken).toEqual(["hello", "from a file", "raw"]);
});

test("a number that JavaScript would change is refused, and can be sent as it is", async () => {
  const space = memorySpace();
  const numbers = queue<unknown>("numbers");
  const configuration = { broker: () => memory({ space }), destinations: [numbers] };
  await command(["topology", "create"], { configuration });
  const refused = await command(["send", "numbers", "12345678901234567890", "--json"], { configuration });
  expect(refused.code).not.toBe(0);
  expect(errorOf(refused)).toMatchObject({ message: expect.stringContaining("JavaScript would change") });
  const raw = ["send", "numbers", "12345678901234567890", "--raw", "--content-type", "application/json"];
  expect((await command(raw, { configuration })).code).toBe(0);
  const patch = '[{"op":"add","path":"/id","value":12345678901234567890}]';
  const edited = await command(["dlq", "replay", "numbers", "all", "--patch", patch, "--json"], { configuration });
  expect(errorOf(edited)).toMatchObject({ message: expect.stringContaining("--patch has a number") });
});

test("what stands behind -- is taken as it is, whatever it begins with", async () => {
  const space = memorySpace();
  const texts = queue<unknown>("texts");
  const configuration = { broker: () => memory({ space }), destinations: [texts] };
  await command(["topology", "create"], { configuration });
  expect((await command(["send", "texts", "--", "-5"], { configuration })).code).toBe(0);
  expect((await command(["send", "--text", "--", "texts", "--json"], { configuration })).code).toBe(0);
  const broker = createBroker(memory({ space }));
  const taken: unknown[] = [];
  broker.consume(texts, (body) => void taken.push(body));
  await broker.start();
  await expect.poll(() => taken).toEqual([-5, "--json"]);
  await broker.stop();
  const odd = await command(["send", "texts", "--", "-x", "-y"], { configuration });
  expect(odd.stderr).toContain("-y is too much");
  expect(odd.stderr).not.toContain("\0");
});

test("lines are sent one by one, and those that are wrong are named", async () => {
  const { configuration, stock, takeOrders } = shop();
  await stock();
  const lines = ['{"id":"o-1","total":1}', "", "no json", '{"id":"o-2"}', '{"id":"o-3","total":3}'].join("\n");
  const { code, json } = await command(["send", "orders", "--file", "-", "--lines", "--json"], {
    configuration,
    stdin: lines,
  });
  expect(code).toBe(3);
  expect(json).toMatchObject({ sent: 2, failed: 2, nextLine: null });
  expect(json.failures).toMatchObject([
    { line: 3, code: "data", message: expect.stringContaining("line 3 is no JSON") },
    { line: 4, code: "invalid", message: expect.stringContaining("total") },
  ]);
  expect(await takeOrders()).toEqual([
    { id: "o-1", total: 1 },
    { id: "o-3", total: 3 },
  ]);
});

test("Ctrl-C in the midst of lines says where to go on, and what was begun has its end", async () => {
  const { configuration, stock, takeOrders } = shop();
  await stock();
  const lines = Array.from({ length: 5_000 }, (_, index) => JSON.stringify({ id: `o-${index}`, total: index }));
  writeFileSync(join(folder, "lines.jsonl"), lines.join("\n"));
  const line = ["send", "orders", "--file", "lines.jsonl", "--lines", "--json"];
  const stopped = await command(line, {
    configuration,
    cwd: folder,
    terminal: true,
    watch: (printed, interrupt) => {
      if (printed.includes("sending") && !printed.includes("stopping")) interrupt();
    },
  });
  expect(stopped.code).toBe(3);
  const { sent, nextLine } = stopped.json as { readonly sent: number; readonly nextLine: number };
  expect(nextLine).toBe(sent + 1);
  expect(sent).toBeLessThan(5_000);
  const { json } = await command([...line, "--from-line", `${nextLine}`], { configuration, cwd: folder });
  expect(json).toMatchObject({ sent: 5_000 - sent, failed: 0 });
  expect((await takeOrders()).map(({ total }) => total).sort((one, other) => one - other)).toEqual(
    lines.map((_, index) => index),
  );
});

test("--dry-run checks by schema and by the broker's limits, and sends nothing", async () => {
  const { configuration, stock, takeOrders } = shop();
  await stock();
  const right = await command(["send", "orders", '{"id":"o-1","total":1}', "--dry-run", "--json"], { configuration });
  expect(right.json).toMatchObject({ dryRun: true, sent: 1 });
  const wrong = await command(["send", "orders", '{"id":"o-1"}', "--dry-run", "--json"], { configuration });
  expect(wrong.code).toBe(65);
  expect(wrong.json).toMatchObject({ sent: 0, failed: 1, failures: [{ code: "invalid" }] });
  const offline = [
    "send",
    "queue:jobs,priorities=3",
    "1",
    "--priority",
    "2",
    "--dry-run",
    "--broker",
    "kafka://nowhere.invalid",
  ];
  const refused = await command([...offline, "--json"]);
  expect(refused.code).toBe(69);
  expect(refused.json).toMatchObject({
    failures: [{ code: "unsupported", message: expect.stringContaining("priority") }],
  });
  expect(await takeOrders()).toEqual([]);
});

test("publish gives every subscription its copy", async () => {
  const { configuration, stock } = shop();
  await stock();
  const { code, json } = await command(["publish", "order.placed", '{"orderId":"o-1"}', "--key", "o-1", "--json"], {
    configuration,
  });
  expect(code).toBe(0);
  expect(json).toMatchObject({ destination: "order.placed", sent: 1 });
  const refused = await command(["publish", "topic:nobody.listens", "1"], { configuration });
  expect(refused.code).toBe(67);
});

test("what is wrong with the command line is said before anything is connected", async () => {
  const { configuration } = shop();
  const wrong: readonly (readonly [line: string[], told: RegExp])[] = [
    [["send", "orders"], /pass the message, or --file/],
    [["send", "orders", "1", "--file", "-"], /pass the message, or --file/],
    [["send", "orders", "1", "--lines"], /--lines needs --file/],
    [["send", "order.placed", "1"], /anybroker publish/],
    [["publish", "orders", "1"], /anybroker send/],
    [["publish", "order.placed/billing", "1"], /name only the topic/],
    [["send", "orders", "1", "--header", "novalue"], /name=value/],
    [["send", "orders", "1", "--delay", "soon"], /--delay takes a duration/],
    [["send", "orders", "1", "--priority", "high"], /--priority takes a number/],
    [["send", "orders", "1", "--key", "a", "--key", "b"], /--key takes one value, and was given several times/],
    [["send", "orders", "1", "--key"], /key/],
    [["send", "ordres", "1"], /"ordres" is unknown.*queue:orders/],
    [["send", "mail:orders", "1"], /is no address/],
    [["send", "queue:orders,urgent", "1"], /it has no option "urgent"/],
    [["send", "queue:orders,ordered", "1"], /has its options in the configuration/],
    [["send", "orders", "1", "--colour"], /"send" has no option --colour/],
  ];
  for (const [line, told] of wrong) {
    const { code, stderr, stdout } = await command(line, { configuration });
    expect(stderr, line.join(" ")).toMatch(told);
    expect([line.join(" "), code, stdout]).toEqual([line.join(" "), 64, ""]);
  }
  const noJson = await command(["send", "orders", "{id: 1}", "--json"], { configuration });
  expect(noJson.code).toBe(65);
  expect(errorOf(noJson)).toMatchObject({ exit: "data", exitCode: 65 });
});

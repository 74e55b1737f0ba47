import { appendFile, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { queue } from "anybroker";
import { idempotent, memoryIdempotencyStore } from "anybroker/idempotency";
import { memory } from "anybroker/memory";
import { migration } from "anybroker/migration";
import { fileMigrationStore } from "anybroker/migration/file";
import { expect, onTestFinished, test } from "vitest";
import { EPOCH_HEADER } from "../../../patterns/migration/barrier.ts";
import { Barrier } from "../../../patterns/migration/carried.ts";
import { eventually } from "../../eventually.ts";
import { plain, World } from "./world.ts";

test.for(["999999999", "9007199254740991", "NaN", "-1", "1e3", "", "x"])(
  "a message of another sender with the epoch %s is handled, and what comes behind it",
  async (stamp) => {
    const world = new World();
    const { broker } = await world.started();
    const { orders } = world.catalog;
    await broker.control.advance();
    await broker.control.advance();
    await broker.control.advance({ share: 100 });
    const foreign = await plain(world.pair.to(), [orders]);
    const ids = ["stamped", "behind"];
    for (const id of ids) world.confirmed.get(world.catalog.sources.orders)?.add(id);
    await foreign.send(orders, { customer: "c", n: 0 }, { id: "stamped", headers: { [EPOCH_HEADER]: stamp } });
    await foreign.send(orders, { customer: "c", n: 1 }, { id: "behind" });
    await eventually(async () => expect(world.isClosed).toBe(true));
    world.expectClosed();
  },
);

const markerOf = (epoch: string): Uint8Array => {
  const own = Buffer.from(new Barrier(7).toBytes()).toString();
  return Buffer.from(own.slice(0, -1) + epoch);
};

test("a barrier is one as it was written, and none with an epoch that no state store keeps", () => {
  expect(Barrier.read(markerOf("7"))?.epoch).toBe(7);
  expect(Barrier.read(markerOf("999999999"))?.epoch).toBe(999_999_999);
  for (const epoch of ["", "-1", "1e3", " 7", "0x7", "9007199254740991", "2147483648"]) {
    expect(Barrier.read(markerOf(epoch)), epoch).toBeUndefined();
  }
});

test("lines of the journal that nobody here wrote are passed over", async () => {
  const folder = await mkdtemp(join(tmpdir(), "journal-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const store = fileMigrationStore(folder);
  await store.mark("m", [{ source: "orders", id: "a", mark: "published" }]);
  const [file = ""] = (await readdir(join(folder, "m"))).filter((name) => name.startsWith("journal-"));
  const lines = [
    "null",
    "5",
    "{}",
    "[]",
    '["f","orders","1"]',
    '["f"]',
    '["constructor","orders","b",1]',
    '["p",{},[],1]',
  ];
  await appendFile(join(folder, "m", file), lines.map((line) => `${line}\n`).join(""));
  expect(await store.counts("m")).toEqual([
    { source: "orders", published: 1, handled: 0, missing: 1, dead: 0, unexpected: 0 },
  ]);
});

test.each<[string, (state: { document: string; instances: object }) => string]>([
  ["nothing", () => ""],
  ["null", () => "null"],
  ["half of it", (state) => JSON.stringify(state).slice(0, 50)],
  ["a document that is null", (state) => JSON.stringify({ ...state, document: "null" })],
  ["a document that is no JSON", (state) => JSON.stringify({ ...state, document: "[".repeat(500_000) })],
  ["a document without shares", (state) => JSON.stringify({ ...state, document: without(state.document, "shares") })],
  ["a document without history", (state) => JSON.stringify({ ...state, document: without(state.document, "history") })],
  ["an instance that is null", (state) => JSON.stringify({ ...state, instances: { other: null } })],
])("a start on a state file with %s is a conflict that says what to do", async (_, change) => {
  const folder = await mkdtemp(join(tmpdir(), "state-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const made = () =>
    migration({
      from: memory(),
      to: memory(),
      destinations: [queue("orders")],
      state: fileMigrationStore(folder),
      idempotency: idempotent(memoryIdempotencyStore()),
    });
  const first = made();
  await first.start();
  await first.control.advance({ accept: first.control.compare().lost });
  await first.stop();
  const file = join(folder, "migration", "state.json");
  await writeFile(file, change(JSON.parse(await readFile(file, "utf8"))));
  const broker = made();
  await expect(broker.start()).rejects.toMatchObject({
    code: "conflict",
    message: expect.stringMatching(/Restore it/),
  });
  await broker.stop();
});

function without(document: string, name: string): string {
  return JSON.stringify({ ...JSON.parse(document), [name]: undefined });
}

import { execFile } from "node:child_process";
import { appendFile, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { memoryMigrationStore } from "anybroker/migration";
import { fileMigrationStore } from "anybroker/migration/file";
import { sqliteMigrationStore } from "anybroker/migration/sqlite";
import { expect, onTestFinished, test } from "vitest";
import { storeCases } from "./store-cases.ts";

async function folder(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), "migration-"));
  onTestFinished(() => rm(path, { recursive: true, force: true }));
  return path;
}

storeCases("memory", async () => {
  const store = memoryMigrationStore();
  return [store, store];
});

storeCases("sqlite", async () => {
  const path = join(await folder(), "state.sqlite");
  const open = () => {
    const database = new DatabaseSync(path, { timeout: 2_000 });
    database.exec("PRAGMA journal_mode = WAL");
    onTestFinished(() => database.close());
    return sqliteMigrationStore(database);
  };
  return [open(), open()];
});

storeCases("file", async () => {
  const path = await folder();
  return [fileMigrationStore(path), fileMigrationStore(path)];
});

test("a state in SQLite is kept out of the transactions of others", async () => {
  const database = new DatabaseSync(":memory:");
  const store = sqliteMigrationStore(database);
  database.exec("BEGIN");
  await expect(store.change("m", 0, "{}")).rejects.toMatchObject({ code: "conflict" });
  database.exec("ROLLBACK");
  expect(await store.change("m", 0, "{}")).toBe("changed");
});

test("a line of the journal that a death cut off is passed over, and spoils no other", async () => {
  const path = await folder();
  const store = fileMigrationStore(path);
  await store.mark("m", [{ source: "orders", id: "a", mark: "published" }]);
  const [file] = (await readdir(join(path, "m"))).filter((name) => name.startsWith("journal"));
  await appendFile(join(path, "m", file as string), `["p","ord`);
  await store.mark("m", [{ source: "orders", id: "a", mark: "handled" }]);
  expect(await store.counts("m")).toMatchObject([{ source: "orders", published: 1, handled: 1, missing: 0 }]);
});

test.for(["lock", "journal.lock"])("the %s of a process that was killed holds nobody up", async (name) => {
  const path = await folder();
  const store = fileMigrationStore(path, { timeoutMs: 2_000 });
  await store.mark("m", [{ source: "orders", id: "a", mark: "published" }]);
  const lock = new URL("../../../patterns/migration/file/lock.ts", import.meta.url).href;
  const program = `
    const { FileLock } = await import(${JSON.stringify(lock)});
    await new FileLock(${JSON.stringify(join(path, "m", name))}, 2_000).hold(async () => process.kill(process.pid, "SIGKILL"));
  `;
  const child = await new Promise<{ readonly signal?: string }>((resolve) =>
    execFile(process.execPath, ["--input-type=module", "--eval", program], (error) => resolve((error ?? {}) as object)),
  );
  expect(child.signal).toBe("SIGKILL");
  expect(await readdir(join(path, "m"))).toContain(name);
  expect(await store.change("m", 0, "{}")).toBe("changed");
  await store.mark("m", [{ source: "orders", id: "a", mark: "handled" }]);
  expect(await store.counts("m")).toMatchObject([{ published: 1, handled: 1 }]);
});

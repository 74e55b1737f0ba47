import { execFile } from "node:child_process";
import { appendFile, chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from "node:fs/promises";
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

test("the files of a migration are its owner's alone, also those that stood there before", async () => {
  const path = await folder();
  await mkdir(join(path, "m"));
  await chmod(join(path, "m"), 0o777);
  for (const name of ["state.json", "state.json.new"]) await writeFile(join(path, "m", name), "{}", { mode: 0o666 });
  const store = fileMigrationStore(path);
  await store.forget("m");
  expect(await store.change("m", 0, "{}")).toBe("changed");
  await store.mark("m", [{ source: "orders", id: "a", mark: "published" }]);
  const modes = async (name: string): Promise<number> => (await stat(join(path, "m", name))).mode & 0o777;
  expect(await modes("")).toBe(0o700);
  const names = await readdir(join(path, "m"));
  expect(names).toHaveLength(2);
  expect(await Promise.all(names.map(modes))).toEqual([0o600, 0o600]);
});

test("no file of a migration is a link", async () => {
  const path = await folder();
  const victim = join(path, "victim");
  await writeFile(victim, "{}");
  await mkdir(join(path, "m"));
  await symlink(victim, join(path, "m", "state.json"));
  await symlink(join(path, "m"), join(path, "linked"));
  const store = fileMigrationStore(path);
  await expect(store.change("m", 0, "{}")).rejects.toMatchObject({ code: "unreachable" });
  await expect(store.read("linked")).rejects.toMatchObject({ code: "unreachable" });
  expect(await readFile(victim, "utf8")).toBe("{}");
});

test.for(["../x", "..", ".", "/tmp/x", "a/b", "a\\b", "a\0b", ""])(
  "a name that leads out of the folder is refused: %j",
  async (name) => {
    const path = await folder();
    const store = fileMigrationStore(join(path, "inner"));
    await expect(store.change(name, 0, "{}")).rejects.toMatchObject({ code: "invalid" });
    await expect(store.forget(name)).rejects.toMatchObject({ code: "invalid" });
    expect(await readdir(path)).toEqual([]);
  },
);

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
  const lock = new URL("../../../patterns/migration/file-lock.ts", import.meta.url).href;
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

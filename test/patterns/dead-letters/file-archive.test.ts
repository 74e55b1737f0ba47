import {
  appendFileSync,
  chmodSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type ArchivedEntry, fileArchive } from "anybroker/dead-letters";
import { afterAll, expect, test } from "vitest";

const folder = mkdtempSync(join(tmpdir(), "archive-"));
afterAll(() => rmSync(folder, { recursive: true }));

const entry = (id: string, body = "{}"): ArchivedEntry => ({
  id,
  messageId: `m-${id}`,
  destination: "orders",
  key: null,
  routingKey: null,
  reason: "attempts",
  errorClass: null,
  error: "\u001b[2J",
  attempts: 1,
  firstFailedAt: null,
  lastFailedAt: null,
  firstPublishedAt: null,
  replays: 0,
  replayRun: null,
  editedFrom: null,
  cut: null,
  reference: null,
  group: "0",
  headers: {},
  contentType: null,
  size: body.length,
  body,
  bodyEncoding: "text",
  bodyCut: false,
  valid: true,
  archivedAt: "2026-01-01T00:00:00.000Z",
  run: "r",
  by: null,
  systemHeaders: {},
});
const lines = (path: string): string[] => readFileSync(path, "utf8").split("\n");
const ids = (path: string): string[] =>
  lines(path).flatMap((line) => {
    try {
      return [(JSON.parse(line) as ArchivedEntry).id];
    } catch {
      return [];
    }
  });

test("a line for each entry, readable by its owner, and the same when it is read", async () => {
  const path = join(folder, "one.jsonl");
  const archive = fileArchive(path);
  await archive.append([entry("a", "two\nlines"), entry("b")]);
  await archive.append([entry("c")]);
  await archive.close();
  await archive.close();
  expect(
    lines(path)
      .slice(0, -1)
      .map((line) => JSON.parse(line)),
  ).toEqual([entry("a", "two\nlines"), entry("b"), entry("c")]);
  expect(statSync(path).mode & 0o777).toBe(0o600);
});

test("a file that others could read is its owner's from then on, and a link is refused", async () => {
  const path = join(folder, "open.jsonl");
  writeFileSync(path, "");
  chmodSync(path, 0o666);
  const archive = fileArchive(path);
  await archive.append([entry("a")]);
  await archive.close();
  expect([ids(path), statSync(path).mode & 0o777]).toEqual([["a"], 0o600]);
  const link = join(folder, "link.jsonl");
  symlinkSync(path, link);
  const linked = fileArchive(link);
  await expect(linked.append([entry("b")])).rejects.toMatchObject({ code: "refused" });
  await linked.close();
  expect(ids(path)).toEqual(["a"]);
});

test("what stands there is not written again, also by the next process; and calls at once do not mix", async () => {
  const path = join(folder, "again.jsonl");
  const first = fileArchive(path);
  await Promise.all([first.append([entry("a"), entry("b")]), first.append([entry("b"), entry("c")])]);
  await first.close();
  await first.append([entry("c"), entry("d")]);
  await first.close();
  const second = fileArchive(path);
  await second.append([entry("a"), entry("d"), entry("e")]);
  await second.close();
  expect(ids(path)).toEqual(["a", "b", "c", "d", "e"]);
});

test("half a line, left by a crash, spoils no other", async () => {
  const path = join(folder, "torn.jsonl");
  const first = fileArchive(path);
  await first.append([entry("a")]);
  await first.close();
  appendFileSync(path, '{"id":"b","messag');
  const second = fileArchive(path);
  await second.append([entry("a"), entry("b")]);
  await second.close();
  expect(ids(path)).toEqual(["a", "b"]);
  expect(lines(path)).toHaveLength(4);
});

test("a file that cannot be written is a rejection, and can be tried again", async () => {
  const path = join(folder, "missing", "x.jsonl");
  const archive = fileArchive(path);
  await expect(archive.append([entry("a")])).rejects.toMatchObject({ code: "refused", cause: { code: "ENOENT" } });
  await expect(archive.append([entry("a")])).rejects.toMatchObject({ code: "refused" });
  await archive.close();
});

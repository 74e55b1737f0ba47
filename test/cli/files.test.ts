import { execFileSync } from "node:child_process";
import { appendFileSync, createWriteStream, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { afterAll, expect, test } from "vitest";
import { readBytes, readLines, writeText } from "../../cli/files.ts";
import { refuseNoFile } from "../../cli/load-configuration.ts";

const folder = mkdtempSync(join(tmpdir(), "anybroker-files-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const place = (stdin: Iterable<string> = []) => ({ cwd: folder, stdin: Readable.from(stdin) as never });
const never = new AbortController().signal;

async function linesOf(file: string, stdin?: Iterable<string>): Promise<readonly string[]> {
  const lines: string[] = [];
  for await (const line of readLines(file, place(stdin), never)) lines.push(line);
  return lines;
}

test("lines end with a line feed, with or without a carriage return, wherever chunks end", async () => {
  const chunks = ["a\r", "\nb", "c\n\nd\r\n", "ä", "é"];
  expect(await linesOf("-", chunks)).toEqual(["a", "bc", "", "d", "äé"]);
  writeFileSync(join(folder, "lines"), chunks.join(""));
  expect(await linesOf("lines")).toEqual(["a", "bc", "", "d", "äé"]);
  writeFileSync(join(folder, "long"), `${"x".repeat(1_000_000)}\ny\n`);
  expect((await linesOf("long")).map(({ length }) => length)).toEqual([1_000_000, 1]);
  await expect(linesOf("missing")).rejects.toMatchObject({ message: expect.stringContaining("ENOENT") });
});

test("a pipe is read as it is written, and waiting for its writer can be ended", async () => {
  const pipe = join(folder, "pipe");
  execFileSync("mkfifo", [pipe]);
  const interruption = new AbortController();
  const waiting = readBytes("pipe", place(), interruption.signal);
  const lines = readLines("pipe", place(), interruption.signal).next();
  interruption.abort(new Error("Ctrl-C"));
  await expect(waiting).rejects.toThrow("Ctrl-C");
  expect(await lines).toMatchObject({ done: true });

  const read = readBytes("pipe", place(), never);
  const writer = createWriteStream(pipe);
  writer.write("one, ");
  writer.end("and more");
  expect(Buffer.from(await read).toString()).toBe("one, and more");
});

test("a configuration and a script that are no files are refused", () => {
  for (const path of ["/dev/zero", folder])
    expect(() => refuseNoFile(path, "the script")).toThrow("is no regular file");
  expect(() => refuseNoFile(join(folder, "missing"), "the script")).not.toThrow();
});

test("what has no end is refused, as a body and as a line", async () => {
  await expect(readBytes("/dev/zero", place(), never)).rejects.toMatchObject({
    message: expect.stringContaining("more than 256 MiB"),
  });
  await expect(linesOf("/dev/zero")).rejects.toMatchObject({
    message: expect.stringContaining("a line of it has more than 256 MiB"),
  });
  appendFileSync(join(folder, "empty"), "");
  expect((await readBytes("empty", place(), never)).length).toBe(0);
});

test("a text is written to a regular file alone, and nothing waits for the reader of a pipe", async () => {
  execFileSync("mkfifo", [join(folder, "unread")]);
  for (const odd of ["unread", "/dev/null"]) {
    const refusal = { name: "CommandError", message: expect.stringContaining("no regular file") };
    await expect(writeText(odd, place(), "text")).rejects.toMatchObject(refusal);
  }
  await writeText("written", place(), "a long text");
  await writeText("written", place(), "text");
  expect(readFileSync(join(folder, "written"), "utf8")).toBe("text");
});

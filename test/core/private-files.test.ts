import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeEach, describe, expect, onTestFinished, test } from "vitest";
import { makeOwnFolder, openToAppend, readOwnText, replaceFile } from "../../core/private-files.ts";

let folder = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "private-"));
  const made = folder;
  onTestFinished(() => rmSync(made, { recursive: true, force: true }));
});

const at = (name: string): string => join(folder, name);
const modeOf = (path: string): number => statSync(path).mode & 0o777;

/** A file that is not to be touched, and a link to it. */
function linked(name: string): { readonly victim: string; readonly link: string } {
  const [victim, link] = [at(`${name}-victim`), at(name)];
  writeFileSync(victim, "precious", { mode: 0o644 });
  symlinkSync(victim, link);
  return { victim, link };
}

function expectUntouched(victim: string): void {
  expect(readFileSync(victim, "utf8")).toBe("precious");
  expect(modeOf(victim)).toBe(0o644);
}

async function append(path: string, text: string): Promise<void> {
  const file = await openToAppend(path);
  await file.appendFile(text);
  await file.close();
}

describe("a file that is added to", () => {
  test("is its owner's alone, also if it stood there before", async () => {
    await append(at("new"), "a");
    expect(modeOf(at("new"))).toBe(0o600);
    writeFileSync(at("old"), "a", { mode: 0o644 });
    chmodSync(at("old"), 0o666);
    await append(at("old"), "b");
    expect([modeOf(at("old")), readFileSync(at("old"), "utf8")]).toEqual([0o600, "ab"]);
  });

  test("is never one behind a link, nor a folder", async () => {
    const { victim, link } = linked("link");
    await expect(openToAppend(link)).rejects.toThrow();
    expectUntouched(victim);
    symlinkSync(at("nowhere"), at("dangling"));
    await expect(openToAppend(at("dangling"))).rejects.toThrow();
    expect(existsSync(at("nowhere"))).toBe(false);
    await expect(openToAppend(folder)).rejects.toThrow();
  });
});

describe("a file that is replaced", () => {
  test("is its owner's alone, and nothing else is left", async () => {
    writeFileSync(at("plan"), "old", { mode: 0o644 });
    await replaceFile(at("plan"), "new");
    await replaceFile(at("state"), "new", { aside: "state.new" });
    for (const name of ["plan", "state"]) {
      expect([modeOf(at(name)), readFileSync(at(name), "utf8")]).toEqual([0o600, "new"]);
    }
    expect(readdirSync(folder).sort()).toEqual(["plan", "state"]);
  });

  test("stays as it is if it is a link, or if what it waits for rejects", async () => {
    const { victim, link } = linked("link");
    await expect(replaceFile(link, "new")).rejects.toThrow("link");
    expectUntouched(victim);
    writeFileSync(at("plan"), "old");
    const refused = replaceFile(at("plan"), "new", { ready: () => Promise.reject(new Error("not now")) });
    await expect(refused).rejects.toThrow("not now");
    expect(readFileSync(at("plan"), "utf8")).toBe("old");
    expect(readdirSync(folder).sort()).toEqual(["link", "link-victim", "plan"]);
  });

  test("is not written through a link that stands where it is prepared", async () => {
    const { victim } = linked("state.new");
    await replaceFile(at("state"), "new", { aside: "state.new" });
    expectUntouched(victim);
    expect(readFileSync(at("state"), "utf8")).toBe("new");
  });
});

test("a file that is read is no link", async () => {
  const { victim, link } = linked("link");
  expect(await readOwnText(victim)).toBe("precious");
  await expect(readOwnText(link)).rejects.toThrow();
  await expect(readOwnText(folder)).rejects.toThrow();
});

test("a folder is its owner's alone, also if it stood there before, and is no link", async () => {
  await makeOwnFolder(at("a/b"));
  expect([modeOf(at("a")), modeOf(at("a/b"))]).toEqual([0o700, 0o700]);
  mkdirSync(at("old"));
  chmodSync(at("old"), 0o777);
  await makeOwnFolder(at("old"));
  expect(modeOf(at("old"))).toBe(0o700);
  mkdirSync(at("victim"));
  const before = modeOf(at("victim"));
  symlinkSync(at("victim"), at("link"));
  await expect(makeOwnFolder(at("link"))).rejects.toThrow();
  expect(modeOf(at("victim"))).toBe(before);
});

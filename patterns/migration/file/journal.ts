import { createHash } from "node:crypto";
import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { openToAppend, readOwnText, replaceFile } from "../../../core/private-files.ts";
import { Journal } from "../memory-journal.ts";
import type { JournalClass, JournalCounts, JournalMark, MarkKind } from "../store.ts";

/** So many files, of which one is looked at at a time. */
const FILES = 64;
const LETTER: Readonly<Record<MarkKind, string>> = { published: "p", handled: "h", dead: "d" };
const KIND: ReadonlyMap<unknown, MarkKind> = new Map([
  ["p", "published"],
  ["h", "handled"],
  ["d", "dead"],
]);

type Line = readonly [mark: string, source: string, id: string, at: number] | readonly ["f", string, number];

/** Marks in files that are only added to: memory holds those of one file at a time. */
export class FileJournal {
  readonly #folder: string;

  constructor(folder: string) {
    this.#folder = folder;
  }

  async add(marks: readonly JournalMark[]): Promise<void> {
    const texts = new Map<string, string>();
    for (const { source, id, mark } of marks) {
      const file = this.#fileOf(id);
      const line: Line = [LETTER[mark], source, id, Date.now()];
      texts.set(file, `${texts.get(file) ?? ""}${JSON.stringify(line)}\n`);
    }
    // On a line of its own, whatever a death left at the end.
    await Promise.all([...texts].map(([file, text]) => append(file, `\n${text}`)));
  }

  #fileOf(id: string): string {
    const [first = 0] = createHash("sha256").update(id).digest();
    return join(this.#folder, `journal-${String(first % FILES).padStart(2, "0")}.jsonl`);
  }

  async counts(): Promise<readonly JournalCounts[]> {
    const sums = new Map<string, JournalCounts>();
    for await (const { journal } of this.#files()) {
      for (const each of journal.counts()) {
        const sum = sums.get(each.source);
        sums.set(each.source, sum === undefined ? each : added(sum, each));
      }
    }
    return [...sums.values()];
  }

  async list(
    source: string,
    which: JournalClass,
    after: string | undefined,
    limit: number,
  ): Promise<readonly string[]> {
    let ids: string[] = [];
    for await (const { journal } of this.#files()) {
      ids = [...ids, ...journal.list(source, which, after, limit)].sort().slice(0, limit);
    }
    return ids;
  }

  /** Under the lock, since it writes files anew. */
  async fold(before: number, limit: number, stillOurs: () => Promise<void>): Promise<number> {
    let folded = 0;
    for await (const { journal, name, path } of this.#files()) {
      const some = journal.fold(before, limit - folded);
      if (some === 0) continue;
      const lines = [...journal.entries()].flatMap(({ source, id, marks, at }) =>
        marks.map((mark): Line => [LETTER[mark], source, id, at]),
      );
      for (const [source, count] of journal.folded()) lines.push(["f", source, count]);
      const text = lines.map((line) => `${JSON.stringify(line)}\n`).join("");
      await replaceFile(path, text, { aside: `${name}.new`, ready: stillOurs });
      folded += some;
      if (folded >= limit) break;
    }
    return folded;
  }

  async forget(): Promise<void> {
    for (const name of await this.#names()) await rm(join(this.#folder, name), { force: true });
  }

  async #names(): Promise<readonly string[]> {
    return (await readdir(this.#folder)).filter((name) => /^journal-\d\d\.jsonl$/.test(name)).sort();
  }

  async *#files(): AsyncGenerator<{ readonly journal: Journal; readonly name: string; readonly path: string }> {
    for (const name of await this.#names()) {
      const path = join(this.#folder, name);
      const journal = new Journal();
      for (const line of (await readOwnText(path)).split("\n")) read(journal, line);
      yield { journal, name, path };
    }
  }
}

async function append(path: string, text: string): Promise<void> {
  const file = await openToAppend(path);
  try {
    await file.appendFile(text);
  } finally {
    await file.close();
  }
}

/** Passes over what is no line of a journal: whoever left it half written was not told that it stands. */
function read(journal: Journal, text: string): void {
  const [letter, source, third, at] = lineIn(text);
  if (typeof source !== "string") return;
  if (letter === "f" && Number.isSafeInteger(third)) journal.addFolded(source, third as number);
  const mark = KIND.get(letter);
  if (mark !== undefined && typeof third === "string" && typeof at === "number")
    journal.mark({ source, id: third, mark }, at);
}

function lineIn(text: string): readonly unknown[] {
  try {
    const line: unknown = JSON.parse(text);
    return Array.isArray(line) ? line : [];
  } catch {
    return [];
  }
}

function added(one: JournalCounts, other: JournalCounts): JournalCounts {
  return {
    source: one.source,
    published: one.published + other.published,
    handled: one.handled + other.handled,
    missing: one.missing + other.missing,
    dead: one.dead + other.dead,
    unexpected: one.unexpected + other.unexpected,
  };
}

import { expect, it } from "vitest";
import { NoteReader, writtenNote } from "../../core/consume/crash-notes.ts";

it("takes for crashed a writer that was heard while it was watched, and fell silent then", () => {
  const notes = new NoteReader("self", 60_000);
  const records = [1, 2].map((sequence) =>
    writtenNote({ by: "other", of: "1 0 0", alone: true }, sequence === 1 ? "started" : "running", sequence),
  );
  notes.learn(records.slice(0, 1), 0);
  expect(notes.crashes("1 0 0")).toBe("unclear");
  notes.learn(records, 30_000);
  expect(notes.crashes("1 0 0"), "it is heard").toEqual({ crashes: 0, alone: 0 });
  notes.learn(records, 60_000);
  expect(notes.crashes("1 0 0")).toEqual({ crashes: 0, alone: 0 });
  notes.learn(records, 90_000);
  expect(notes.crashes("1 0 0")).toEqual({ crashes: 1, alone: 1 });
});

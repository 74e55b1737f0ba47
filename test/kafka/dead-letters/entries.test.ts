import { expect, test } from "vitest";
import { Entries } from "../../../adapters/kafka/dead-letters/records.ts";

/** A key as anybroker writes it. */
function key(content: string, own: string): string {
  return `${content}.${"d".repeat(22)}.${own.padEnd(11, "x")}`;
}

function taken(entries: Entries): string[] {
  const all: string[] = [];
  for (let entry = entries.take(); entry !== undefined; entry = entries.take()) {
    all.push(entry.copies.map(({ offset }) => offset).join("+"));
  }
  return all;
}

test("what stands is taken in order, and each once", () => {
  const entries = new Entries();
  for (let offset = 0; offset < 5; offset++) entries.put(key(`m-${offset}`, "a"), offset);
  entries.remove(key("m-2", "a"));
  expect(entries.size).toBe(4);
  expect(taken(entries)).toEqual(["0", "1", "3", "4"]);
  entries.put(key("m-9", "a"), 9);
  expect(taken(entries)).toEqual(["9"]);
  expect(entries.size).toBe(5);
});

test("copies of one message are one entry, in the place of the last, and go together", () => {
  const entries = new Entries();
  entries.put(key("a", "1"), 0);
  entries.put(key("b", "1"), 1);
  entries.put(key("a", "2"), 2);
  expect(entries.size).toBe(2);
  expect(taken(entries)).toEqual(["1", "0+2"]);
});

test("a record under a key that stands takes its place, and a tombstone of one copy leaves the others", () => {
  const entries = new Entries();
  entries.put("foreign", 0);
  entries.put("foreign", 1);
  entries.put(key("a", "1"), 2);
  entries.put(key("a", "2"), 3);
  entries.remove(key("a", "2"));
  entries.remove(key("unheard", "1"));
  expect(taken(entries)).toEqual(["1", "2"]);
});

test("what comes of a message while it is taken stands when that is finished", () => {
  const entries = new Entries();
  entries.put(key("a", "1"), 0);
  const entry = entries.take();
  if (entry === undefined) throw new Error("nothing stands");
  entries.put(key("a", "2"), 1);
  expect(entries.take()).toBeUndefined();
  expect(entries.size).toBe(1);
  entries.finish(entry);
  expect(entries.size).toBe(1);
  expect(taken(entries)).toEqual(["1"]);
});

test("what comes of a message while it is taken belongs to it when that is given back", () => {
  const entries = new Entries();
  entries.put(key("a", "1"), 0);
  entries.put(key("b", "1"), 1);
  const entry = entries.take();
  if (entry === undefined) throw new Error("nothing stands");
  entries.put(key("a", "2"), 2);
  entries.put(key("a", "3"), 3);
  entries.remove(key("a", "3"));
  entries.requeue(entry);
  expect(entries.size).toBe(2);
  entries.put(key("a", "4"), 4);
  expect(taken(entries)).toEqual(["0+2+4", "1"]);
});

test("what others removed while it was taken does not come back", () => {
  const entries = new Entries();
  entries.put(key("a", "1"), 0);
  const entry = entries.take();
  if (entry === undefined) throw new Error("nothing stands");
  entries.remove(key("a", "1"));
  expect(entries.size).toBe(0);
  entries.requeue(entry);
  expect(entries.take()).toBeUndefined();
});

test("what was given back can be removed", () => {
  const entries = new Entries();
  entries.put(key("a", "1"), 0);
  const entry = entries.take();
  if (entry === undefined) throw new Error("nothing stands");
  entries.requeue(entry);
  entries.requeue(entry);
  expect(entries.size).toBe(1);
  entries.remove(key("a", "1"));
  expect(entries.take()).toBeUndefined();
  entries.finish(entry);
  expect(entries.size).toBe(0);
});

test("a key that was written several times is removed at once, wherever its copies are", () => {
  const entries = new Entries();
  for (const [offset, own] of ["1", "2", "1", "1"].entries()) entries.put(key("a", own), offset);
  entries.remove(key("a", "1"));
  expect(entries.size).toBe(1);
  expect(taken(entries)).toEqual(["1"]);
});

test("to put one of many copies of a message does not copy the list of those before it", () => {
  const entries = new Entries();
  const put = (offset: number) => entries.put(key("a", String(offset).padStart(11, "0")), offset);
  put(0);
  const copies = entries.find(key("a", "0"))?.copies;
  for (let offset = 1; offset < 1_000; offset++) put(offset);
  expect(entries.find(key("a", "0"))?.copies).toBe(copies);
  expect(copies).toHaveLength(1_000);
});

test("to take all of many costs no more each than of few", () => {
  const entries = new Entries();
  const count = 200_000;
  for (let offset = 0; offset < count; offset++) entries.put(key(`m-${offset}`, "a"), offset);
  const offsets: (number | undefined)[] = [];
  for (let entry = entries.take(); entry !== undefined; entry = entries.take()) {
    offsets.push(entry.copies[0]?.offset);
    entries.finish(entry);
  }
  expect(offsets).toEqual(Array.from({ length: count }, (_, index) => index));
  expect(entries.size).toBe(0);
});

import { describe } from "vitest";
import { concurrencyCases } from "./cases/concurrency.ts";
import { discardCases } from "./cases/discard.ts";
import { editCases } from "./cases/edit.ts";
import { journalCases } from "./cases/journal.ts";
import { rampCases } from "./cases/ramp.ts";
import { readingCases } from "./cases/reading.ts";
import { replayCases } from "./cases/replay.ts";
import { topicCases } from "./cases/topics.ts";
import type { Grounds } from "./graveyard.ts";

/** Everything that dead letters promise, on one broker. `grounds` is called when a test runs. */
export function deadLettersSuite(title: string, grounds: () => Grounds): void {
  // Each has a queue of its own.
  describe.concurrent(`dead letters on ${title}`, () => {
    describe("are read", () => readingCases(grounds));
    describe("are sent back", () => replayCases(grounds));
    describe("are sent back with a ramp", () => rampCases(grounds));
    describe("of a subscription", () => topicCases(grounds));
    describe("are edited", () => editCases(grounds));
    describe("are journaled", () => journalCases(grounds));
    describe("are discarded", () => discardCases(grounds));
    describe("are worked on by several", () => concurrencyCases(grounds));
  });
}

import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type ArchivedEntry, memoryArchive, type Plan } from "anybroker/dead-letters";
import { describe, expect, test } from "vitest";
import type { Harness } from "../../../../conformance/index.ts";
import { burials, Graveyard } from "../graveyard.ts";
import type { RunOrder } from "./run-process.ts";
import { STEPS, type Step } from "./steps.ts";

const PROCESS = fileURLToPath(new URL("run-process.ts", import.meta.url));
const PATIENCE_MS = 30_000;
const LONGEST_MS = 300_000;
const MORE_RUNS = 5;
const SELECTED = burials(60, "selected", { headers: { tenant: "acme" } });
const OTHERS = burials(10, "other");
const LATE = burials(5, "late", { headers: { tenant: "acme" } });
const ids = (all: readonly { readonly id: string }[]): string[] => all.map(({ id }) => id).sort();

interface Ended {
  readonly signal: string | null;
  readonly printed: string;
  readonly errors: string;
}

/** A run that is killed (SIGKILL) at each of its steps, one process after another, and comes to its end in the last. */
export function sigkillSuite(title: string, grounds: () => Harness): void {
  describe.concurrent(`a run over dead letters on ${title} that is killed at each of its steps`, () => {
    test("replay: nothing is lost, nothing else is sent, what is sent twice has one id", {
      timeout: 900_000,
    }, async () => {
      const { yard, plan, late } = await begin(grounds(), "replay");
      await killAtEachStep(grounds(), yard, plan, "", late);
      const handled: string[] = [];
      yard.broker.consume(yard.orders, (_, { id, attempt }) => {
        handled.push(attempt === 1 ? id : `${id} again`);
      });
      await yard.until("all that was selected", () => new Set(handled).size >= SELECTED.length);
      await yard.until("the end of the queue", async () => (await yard.broker.depth(yard.orders)).ready === 0);
      const again = new Set(handled.filter((one) => one.endsWith(" again")));
      expect([...new Set(handled)].filter((one) => !again.has(one)).sort()).toEqual(ids(SELECTED));
      await onlyOthersStand(yard);
      await yard.stop();
    });

    test("discard: nothing is lost, and everything is in the archive", { timeout: 900_000 }, async () => {
      const folder = mkdtempSync(join(tmpdir(), "archive-"));
      const path = join(folder, "discarded.jsonl");
      const { yard, plan, late } = await begin(grounds(), "discard");
      await killAtEachStep(grounds(), yard, plan, path, late);
      const archivedNow = (): readonly ArchivedEntry[] =>
        readFileSync(path, "utf8")
          .trimEnd()
          .split("\n")
          .map((line) => JSON.parse(line) as ArchivedEntry);
      // What a killed run held may come back to the dead letters later than the last run waited: another run finds it.
      for (let more = 0; more < MORE_RUNS && archivedNow().length < SELECTED.length; more++) {
        await runToItsEnd(grounds(), yard, plan, path);
      }
      const archived = archivedNow();
      // Each once: the archive knows what it has.
      expect(archived.map(({ messageId }) => messageId).sort()).toEqual(ids(SELECTED));
      expect((await yard.broker.depth(yard.orders)).ready).toBe(0);
      await onlyOthersStand(yard);
      await yard.stop();
      rmSync(folder, { recursive: true });
    });
  });
}

async function begin(harness: Harness, action: Plan["action"]) {
  const yard = await Graveyard.open(harness, { dead: { patienceMs: PATIENCE_MS } });
  await yard.bury([...SELECTED, ...OTHERS]);
  const selected = "header.tenant = acme";
  const { plan } =
    action === "replay"
      ? await yard.dead.replay(selected)
      : await yard.dead.discard(selected, { archive: memoryArchive() });
  expect(plan).toMatchObject({ count: SELECTED.length, complete: true });
  return { yard, plan, late: () => yard.bury(LATE) };
}

async function killAtEachStep(
  harness: Harness,
  yard: Graveyard,
  plan: Plan,
  archive: string,
  late: () => Promise<void>,
): Promise<void> {
  const order = orderOf(harness, yard, plan, archive);
  // Of a discard all that is left goes in one batch: what is told then is the last of it.
  const steps: readonly Step[] = plan.action === "replay" ? STEPS : STEPS.filter((step) => step !== "progress");
  for (const [index, dieAt] of steps.entries()) {
    const { signal, errors } = await started({ ...order, dieAt });
    expect([dieAt, signal], errors).toEqual([dieAt, "SIGKILL"]);
    if (index === 0) await late();
  }
  await runToItsEnd(harness, yard, plan, archive);
}

function orderOf({ processes }: Harness, yard: Graveyard, plan: Plan, archive: string): Omit<RunOrder, "dieAt"> {
  if (processes === undefined) throw new Error("the harness has no processes");
  return { adapter: processes, queue: yard.orders.name, plan, archive, patienceMs: PATIENCE_MS };
}

async function runToItsEnd(harness: Harness, yard: Graveyard, plan: Plan, archive: string): Promise<void> {
  const { printed, errors, signal } = await started({ ...orderOf(harness, yard, plan, archive), dieAt: undefined });
  expect(signal, errors).toBeNull();
  expect(JSON.parse(printed), errors).toMatchObject({ failed: 0 });
}

function started(order: RunOrder): Promise<Ended> {
  return new Promise((resolve) => {
    const options = { timeout: LONGEST_MS, maxBuffer: 1024 * 1024 };
    const child = execFile(process.execPath, [PROCESS, JSON.stringify(order)], options, (_, printed, errors) =>
      resolve({ signal: child.signalCode, printed, errors }),
    );
  });
}

async function onlyOthersStand(yard: Graveyard): Promise<void> {
  const { entries, complete } = await yard.dead.list({ limit: 100 });
  expect(entries.map(({ messageId }) => messageId).sort()).toEqual(ids([...OTHERS, ...LATE]));
  expect(complete).toBe(true);
}

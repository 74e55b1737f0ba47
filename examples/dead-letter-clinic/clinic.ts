import { readFileSync } from "node:fs";
import {
  type ArchivedEntry,
  type DeadLetterGroup,
  type DeadLetters,
  type Edit,
  type Edited,
  fileArchive,
  type Progress,
  type RunResult,
  type Stopped,
} from "anybroker/dead-letters";
import type { OldOrder } from "./orders.ts";

/** The groups of dead letters that the bad deploy made, by what is done about them. */
export interface Diagnosis {
  /** Whose price did not come: good orders. */
  readonly timedOut: DeadLetterGroup;
  /** Whose field has another name by now. */
  readonly renamed: DeadLetterGroup;
  /** Of a load test. */
  readonly unwanted: DeadLetterGroup;
}

/** How long to watch after each step of a ramp that goes well. One that goes badly stops as soon as that is seen. */
const OBSERVE_MS = 1_000;
/** How long to wait for the first failure of a replay that is going to fail. */
const FAIL_WITHIN_MS = 60_000;
/** A result lists so many edited copies. */
const EDITED_AT_ONCE = 100;

/** What a person does with the dead letters, and says of it. */
export class Clinic {
  readonly #dead: DeadLetters;
  readonly #say: (line: string) => void;

  constructor(dead: DeadLetters, say: (line: string) => void) {
    this.#dead = dead;
    this.#say = say;
  }

  /** What failed, and in how many ways. */
  async diagnose(): Promise<Diagnosis> {
    const { groups } = await this.#dead.groups();
    const count = groups.reduce((sum, group) => sum + group.count, 0);
    this.#say(`\n${count} dead letters in ${groups.length} groups`);
    for (const { count, errorClass, error, example } of groups) {
      this.#say(`  ${count} × ${example.reason}, ${errorClass}: ${error}`);
    }
    const of = (reason: string): DeadLetterGroup => {
      const group = groups.find(({ example }) => example.reason === reason);
      if (group === undefined) throw new Error(`no group of the dead letters has the reason ${reason}`);
      return group;
    };
    return { timedOut: of("attempts"), renamed: of("invalid"), unwanted: of("rejected") };
  }

  /** Sends a group back while nothing is repaired. It has to stop by itself. */
  async replayTooEarly({ group }: DeadLetterGroup): Promise<void> {
    this.#say("\nA replay before the fix: 1, then 10, then 100, as long as none comes back");
    const replay = await this.#dead.replay(`group = ${group}`, { ramp: { observeMs: FAIL_WITHIN_MS } });
    const result = await replay.run({ onProgress: this.#bySteps() });
    this.#end("sent back", result, "failed-again");
  }

  /** Sends a group back. */
  async replay({ group }: DeadLetterGroup): Promise<void> {
    const replay = await this.#dead.replay(`group = ${group}`, { ramp: { observeMs: OBSERVE_MS } });
    const { count, destinations } = replay.plan;
    this.#say(`\nThe same replay after the fix: ${count} to ${destinations.map((to) => to.destination).join(", ")}`);
    const result = await replay.run({ onProgress: this.#bySteps() });
    this.#end("sent back", result);
  }

  /** Shows one order of a group, and why it cannot be sent back as it is; then sends an edited copy. */
  async editOne({ group, example }: DeadLetterGroup): Promise<Edited> {
    const { refused } = (await this.#dead.replay(`group = ${group}`)).plan;
    this.#say(`\nThe renamed field: a replay would leave ${refused[0]?.count ?? 0} alone, for ${refused[0]?.why}`);
    this.#say(`  ${example.messageId}, ${example.error}: ${example.body}`);
    const edited = await this.#dead.edit(example.id, rename);
    this.#say(`  edited: ${edited.id}, from ${edited.editedFrom}`);
    return edited;
  }

  /** Sends edited copies of what else is in the group. */
  async editOthers({ group }: DeadLetterGroup): Promise<readonly Edited[]> {
    const all: Edited[] = [];
    for (let beyond = 1; beyond > 0; ) {
      const replay = await this.#dead.replay(`group = ${group}`, { edit: rename, limit: EDITED_AT_ONCE });
      beyond = replay.plan.beyondLimit;
      const result = await replay.run();
      this.#end("edited likewise", result);
      all.push(...result.edited.map(({ id, from }) => ({ id, editedFrom: from })));
    }
    return all;
  }

  /** Puts a group into a file and removes it. Resolves with what stands in the file. */
  async discard({ group }: DeadLetterGroup, file: string): Promise<readonly ArchivedEntry[]> {
    const archive = fileArchive(file);
    const discard = await this.#dead.discard(`group = ${group}`, { archive });
    this.#say(`\nWhat nobody wants: ${discard.plan.count} into an archive`);
    const result = await discard.run();
    await archive.close();
    this.#end("archived and removed", result);
    const lines = readFileSync(file, "utf8").trimEnd().split("\n");
    return lines.map((line) => JSON.parse(line) as ArchivedEntry);
  }

  /** How many are left, as the broker counts. */
  async left(): Promise<number> {
    return (await this.#dead.count()).count;
  }

  /** Says where the run stood at the end of each step of the ramp. */
  #bySteps(): (progress: Progress) => void {
    let said = 0;
    return ({ step, done, selected }) => {
      if (step === said || done < Math.min(selected, stepEnd(step))) return;
      said = step;
      this.#say(`  step ${step}: ${done} of ${selected}`);
    };
  }

  /** Says how a run ended. Throws if that is not as it has to be. */
  #end(what: string, { done, selected, cameBack, stopped, error }: RunResult, expected?: Stopped): void {
    const why = stopped === undefined ? "" : `, stopped: ${stopped}`;
    this.#say(`  ${what} ${done} of ${selected}, came back ${cameBack}${why}`);
    if (stopped !== expected) throw error ?? new Error(`the run should have ended otherwise: ${expected ?? "done"}`);
  }
}

/** How many are sent back by the end of a step: 1, 11, 111 … */
function stepEnd(step: number): number {
  return Number("1".repeat(step));
}

/** The body of an old order as it has to be by now. */
const rename: Edit = (body) => {
  const { zip, ...order } = body as OldOrder;
  return { ...order, postcode: zip };
};

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { stripVTControlCharacters } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Installed, installed, type Started } from "./installed.ts";
import { screenOf } from "./screen.ts";
import { stockedOutbox } from "./stocked-outbox.ts";
import { CTRL_C, FOUR_SCREENS, hasTerminals, startInTerminal, type } from "./terminals.ts";

const OUTBOX_CONFIGURATION = `
import { DatabaseSync } from "node:sqlite";
import { defineConfig } from "anybroker/cli";
import { sqliteOutbox } from "anybroker/outbox/sqlite";

export default defineConfig({ outboxes: { orders: sqliteOutbox(() => new DatabaseSync("shop.db")) } });
`;
const runs = hasTerminals();

test("there is a terminal to try it in", (context) => {
  if (!runs) context.skip("NOT RUN: there is no `script` of util-linux here to make a terminal with");
});

describe.runIf(runs)("in a real terminal", () => {
  let anybroker: Installed;

  beforeAll(async () => {
    anybroker = await installed();
  });

  afterAll(() => anybroker.remove());

  const inTerminal = (line: string, env?: Readonly<Record<string, string>>): Started =>
    startInTerminal(anybroker, line, env);

  test("there are colours, unless NO_COLOR says no", async () => {
    const coloured = await inTerminal("topology diff").ended();
    expect(coloured.stdout).toContain("\u001b[32msame\u001b[39m");
    const plain = await inTerminal("topology diff", { NO_COLOR: "1" }).ended();
    expect(plain.stdout).toContain("same");
    expect(plain.stdout).not.toContain("\u001b");
  });

  test("the question is asked, and its answer counts", async () => {
    const yes = inTerminal("dlq replay orders all", { DEAD: "3" });
    await yes.printed(/Send 3 dead letters of orders back\? \[y\/N\] /);
    type(yes, "y\n");
    expect(await yes.ended()).toMatchObject({ code: 0, stdout: expect.stringContaining("sent back 3") });
    const no = inTerminal("dlq replay orders all", { DEAD: "3" });
    await no.printed(/\[y\/N\] /);
    type(no, "\n");
    expect(await no.ended()).toMatchObject({ code: 77, stdout: expect.stringContaining("the answer was no") });
  });

  test("Ctrl-C at the question does nothing", async () => {
    const asked = inTerminal("dlq replay orders all", { DEAD: "3" });
    await asked.printed(/\[y\/N\] /);
    type(asked, CTRL_C);
    expect(await asked.ended()).toMatchObject({ code: 130, stdout: expect.stringContaining("nothing was changed") });
  });

  test("progress is drawn, and Ctrl-C says where it stands", async () => {
    const run = inTerminal("dlq replay orders all --yes --rate 20", { DEAD: "400" });
    await run.printed(/replay \[[^\]]*\] [1-9]\d*\/400/);
    type(run, CTRL_C);
    const { code, stdout } = await run.ended();
    expect(code).toBe(3);
    expect(stdout).toMatch(/stopping; press Ctrl-C again to exit at once/);
    expect(stdout).toMatch(
      /sent back \d+.*stopped: it was interrupted.*continue with: anybroker dlq replay orders --resume/s,
    );
    expect(screenOf(stdout)).toContainEqual(expect.stringMatching(/^sent back \d+$/));
    // The cursor is there again.
    expect(stdout.lastIndexOf("\u001b[?25h")).toBeGreaterThan(stdout.lastIndexOf("\u001b[?25l"));
  });

  test("top is drawn over itself until Ctrl-C", async () => {
    const top = inTerminal("top --interval 100ms");
    await top.printed(FOUR_SCREENS);
    type(top, CTRL_C);
    const { code, stdout } = await top.ended();
    expect(code).toBe(0);
    expect(stdout).toMatch(/queue:orders +0/);
  });

  test("the second Ctrl-C in a run gives the terminal back", async () => {
    const run = inTerminal("dlq replay orders all --yes --rate 20", { DEAD: "400", HANG: "close" });
    await run.printed(/replay \[[^\]]*\] [1-9]\d*\/400/);
    type(run, CTRL_C);
    await run.printed(/exit at once/);
    type(run, CTRL_C);
    const { code, stdout } = await run.ended();
    expect(code).toBe(130);
    expect(stdout.lastIndexOf("\u001b[?25h")).toBeGreaterThan(stdout.lastIndexOf("\u001b[?25l"));
    expect(stdout).not.toContain("\u001b[?7l");
  });

  test.for(["dlq ls orders", "dlq groups orders", "doctor", "topology show", "top --once"])(
    "no line of %s is wider than 60 columns",
    async (line) => {
      const { stdout } = await inTerminal(line, { DEAD: "2", COLUMNS: "60" }).ended();
      const lines = stripVTControlCharacters(stdout).split(/\r?\n/);
      expect(lines.filter((one) => one.length > 60)).toEqual([]);
    },
  );

  test("an outbox is shown, tried again and pruned", async () => {
    const stocked = await stockedOutbox(anybroker.folder);
    writeFileSync(join(anybroker.folder, "outbox.config.ts"), OUTBOX_CONFIGURATION);
    const typed = (line: string): Started => inTerminal(`outbox ${line} --config outbox.config.ts`);
    try {
      const [first, second] = await stocked.quarantine(2);
      const status = await typed("status").ended();
      expect(status.code).toBe(0);
      expect(status.stdout).toContain("\u001b[1morders\u001b[22m \u001b[2msqlite\u001b[22m");
      expect(status.stdout).toMatch(/unsent 1, .*quarantined 2\s/);
      expect(status.stdout).toContain("\u001b[31mtoo-large\u001b[39m");
      expect(await typed(`retry ${first}`).ended()).toMatchObject({
        code: 0,
        stdout: expect.stringContaining("1 rows of orders will be tried again"),
      });
      const discarding = typed(`prune --quarantined ${second}`);
      await discarding.printed(/Remove 1 quarantined rows of orders\? .* \[y\/N\] /);
      type(discarding, "y\n");
      expect(await discarding.ended()).toMatchObject({
        code: 0,
        stdout: expect.stringContaining("removed 1 quarantined rows of orders"),
      });
      const pruning = typed("prune");
      await pruning.printed(/Remove the sent rows of orders .*\? \[y\/N\] /);
      type(pruning, "\n");
      expect(await pruning.ended()).toMatchObject({ code: 77, stdout: expect.stringContaining("the answer was no") });
      expect(await stocked.store.health()).toMatchObject({ unsent: 2, quarantined: 0 });
    } finally {
      await stocked.close();
    }
  });
});

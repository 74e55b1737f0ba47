import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Installed, installed, type Started } from "./installed.ts";
import { CTRL_C, FOUR_SCREENS, hasTerminals, startInTerminal, type } from "./terminals.ts";

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
    expect(stdout).toMatch(/stopping; Ctrl-C again leaves at once/);
    expect(stdout).toMatch(
      /sent back \d+.*stopped: it was interrupted.*go on with: anybroker dlq replay orders --resume/s,
    );
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
});

import { queue, topic } from "anybroker";
import { memory } from "anybroker/memory";
import { expect, test } from "vitest";
import { inCommands } from "../../cli/wording.ts";
import { delegate } from "../../conformance/decorators/delegate.ts";
import { DECLARE_IT, MessagingError, SET_IT } from "../../core/errors.ts";
import { command } from "./commands.ts";
import { shop } from "./shop.ts";

test.for([
  [
    `no queue; ${DECLARE_IT}, which need the right`,
    'no queue; create it with "anybroker topology create", which needs the right',
  ],
  [`no queue; ${DECLARE_IT}`, 'no queue; create it with "anybroker topology create queue:a"', "queue:a"],
  [`it differs; ${SET_IT}`, 'it differs; "anybroker topology create" sets it'],
  ["the codec threw; see the cause, and check it", "the codec threw; --verbose shows the cause, and check it"],
  ["deadLetters(orders).list: reason = x", "reason = x"],
  ["deadLetters(orders).replay { maxReplays } takes an integer", "--max-replays takes an integer"],
  ["the run of a replay { ramp.observeMs } takes an integer", "the run of a replay --ramp-watch takes an integer"],
  ["the time (patienceMs, --patience) ended", "the time (--patience) ended"],
  ["patienceMs (--patience) is 4000 ms", "--patience is 4000 ms"],
  ["advance with { share } to 100 first", "advance with --share 100 first"],
  [
    "complete it with advance(), or rollback()",
    'complete it with "anybroker migrate advance", or "anybroker migrate rollback"',
  ],
  ["consume(orders) { concurrency } takes an integer", "consume(orders) { concurrency } takes an integer"],
] as const)("%s", ([text, told, destination]) => {
  expect(inCommands(text, destination)).toBe(told);
});

const gone = new MessagingError("not-found", `no such thing; ${DECLARE_IT}`);

test.for([
  [["dlq", "ls", "orders"], "queue:orders"],
  [["dlq", "ls", "order.placed..billing"], "topic:order.placed/billing"],
  [["publish", "order.placed", '{"orderId":"1"}'], "topic:order.placed"],
  [["send", "queue:other", "1"], "queue:other"],
] as const)("an error names the command with the destination: %j", async ([line, destination]) => {
  const { configuration } = shop();
  const broker = () => Object.assign(delegate(memory()), { depth: () => Promise.reject(gone) });
  const told = `create it with "anybroker topology create ${destination}"`;
  const world = { configuration: { ...configuration, broker } };
  expect((await command(line, world)).stderr).toContain(told);
  const { stderr } = await command([...line, "--json"], world);
  expect(JSON.parse(stderr.trim())).toMatchObject({ error: { message: expect.stringContaining(told) } });
});

test("so do problems in results, and notices", async () => {
  const adapter = () =>
    Object.assign(delegate(memory()), {
      declare: async ({ mode }: { readonly mode: string }) => (mode === "none" ? [] : [gone]),
    });
  const configuration = { broker: adapter, destinations: [queue("a"), topic("b")] };
  for (const line of [["topology", "diff", "--json"], ["topology", "create"], ["doctor"], ["doctor", "--json"]]) {
    const { stdout, stderr } = await command(line, { configuration });
    expect(stdout + stderr).toContain("anybroker topology create");
    expect(stdout + stderr).not.toContain("declare:");
  }
});

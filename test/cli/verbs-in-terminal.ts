import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createBroker, type Destination, deadLetter, type Queue, queue, subscription, topic } from "anybroker";
import { memory } from "anybroker/memory";
import { fromUrl } from "anybroker/url";
import { expect } from "vitest";
import { declarationsOf } from "../../cli/comparison.ts";
import type { Configuration } from "../../cli/configuration.ts";
import { until } from "../brokers/until.ts";
import { command } from "./commands.ts";
import type { Installed } from "./installed.ts";
import { startInTerminal, type } from "./terminals.ts";

/** What the terminal works on. */
export interface TerminalWorld {
  readonly anybroker: Installed;
  readonly url: string;
  /** What the names of queues and topics begin with. */
  readonly prefix: string;
  /** What a process needs besides the URL. */
  readonly environment?: Readonly<Record<string, string>>;
}

/** What is sent. */
export interface Order {
  readonly id: string;
}

/** What a command that ended has shown. */
interface Screen {
  readonly code: number | null;
  /** With its colours, and lines that end as everywhere else. */
  readonly text: string;
}

const GREEN = (text: string): string => `\u001b[32m${text}\u001b[39m`;
const YELLOW = (text: string): string => `\u001b[33m${text}\u001b[39m`;
const BOLD = (text: string): string => `\u001b[1m${text}\u001b[22m`;
const DIM = (text: string): string => `\u001b[2m${text}\u001b[22m`;

/**
 * Goes through the verbs that talk to a broker, each as a person types it at a terminal: what is shown, what is asked, and
 * how it ends. `doctor`, `dlq replay`, `top` and `tail` are tried elsewhere.
 */
export async function goThroughVerbs({ anybroker, url, prefix, environment = {} }: TerminalWorld): Promise<void> {
  const orders = queue<Order>(`${prefix}typed-orders`, { key: ({ id }) => id });
  const spare = queue<Order>(`${prefix}typed-spare`);
  const placed = topic<Order>(`${prefix}typed-placed`);
  const billing = subscription(placed, "billing");
  const destinations = [orders, spare, placed, billing];
  const configuration = "terminal.config.ts";
  const write = (name: string, text: string): void => writeFileSync(join(anybroker.folder, name), text);
  const terminal = (line: string) =>
    startInTerminal(anybroker, `${line} --config ${configuration}`, { ...environment, BROKER_URL: url });
  /** Types a line and, where something is asked, the answer; resolves when the command has ended. */
  const typed = async (line: string, question?: RegExp, answer = "y"): Promise<Screen> => {
    const running = terminal(line);
    if (question !== undefined) {
      await running.printed(question);
      type(running, `${answer}\n`);
    }
    const { code, stdout } = await running.ended();
    return { code, text: stdout.replaceAll("\r\n", "\n") };
  };
  const shows = (screen: Screen, ...texts: readonly string[]): void => {
    for (const text of texts) expect(screen.text).toContain(text);
    expect(screen.code, screen.text).toBe(0);
  };

  write(configuration, configurationOf({ orders: orders.name, spare: spare.name, placed: placed.name }));
  try {
    shows(await typed("topology show"), "DESTINATION", `queue:${orders.name}`, `topic:${placed.name}/billing`);
    const created = await typed("topology create");
    shows(created, ...[orders, spare].map(({ name }) => `${GREEN("created")} queue:${name}`));
    shows(await typed("topology diff"), DIM("STATE"), GREEN("same"), `queue:${orders.name}`);
    shows(await typed("topology verify"), GREEN("everything exists as declared"));

    write("orders.jsonl", ["o-1", "o-2", "o-3"].map((id) => `${JSON.stringify({ id })}\n`).join(""));
    shows(await typed(`send ${orders.name} --file orders.jsonl --lines`), `sent 3 to ${BOLD(orders.name)}`);
    const event = `publish ${placed.name} '{"id":"o-1"}' --id e-1`;
    shows(await typed(event), `sent 1 to ${BOLD(placed.name)} ${DIM("e-1")}`);

    await bury(url, orders, 3);
    const listed = await typed(`dlq ls ${orders.name}`);
    shows(listed, DIM("REASON"), YELLOW("rejected"), '{"id":"o-2"}');
    shows(await typed(`dlq groups ${orders.name}`), DIM("COUNT"), YELLOW("rejected"), "no stock");
    // biome-ignore lint/suspicious/noControlCharactersInRegex: the colour of the next column is what ends the id
    const [, entry = ""] = /(\S+) +\u001b\[33mrejected.*o-2/.exec(listed.text) ?? [];
    shows(await typed(`dlq show ${orders.name} ${entry}`), DIM("reason".padEnd(16)), '{"id":"o-2"}');
    const edited = await typed(
      `dlq edit ${orders.name} ${entry} '{"id":"o-2b"}'`,
      new RegExp(`Send this in place of ${entry}\\? \\[y/N\\] `),
    );
    shows(edited, `${GREEN("+")} {"id":"o-2b"}`, "in place of");
    const kept = await typed(`dlq discard ${orders.name} all --archive gone.jsonl`, /Discard 2 .*\? \[y\/N\] /, "n");
    expect([kept.code, kept.text]).toEqual([77, expect.stringContaining("nothing was done: the answer was no")]);
    const discarded = await typed(
      `dlq discard ${orders.name} all --archive gone.jsonl`,
      /Discard 2 dead letters of .*, and keep them in gone\.jsonl\? \[y\/N\] /,
    );
    shows(discarded, "discarded 2");
    expect(discarded.text).toMatch(/discard \[.*2\/2/);

    const bridged = await typed(
      `bridge ${orders.name} ${spare.name} --to terminal`,
      new RegExp(`Move \\d+ messages from ${orders.name} .* to ${spare.name} .*\\? \\[y/N\\] `),
    );
    shows(bridged, "moving [", "moved 1");

    shows(await typed("migrate status"), `${BOLD("shop")}: new, 0 % of the keys on the new broker`);
    const accept = await lostOf(url, destinations);
    const advanced = await typed(
      `migrate advance ${accept.map((name) => `--accept ${name}`).join(" ")}`,
      /Advance from new to prepared\? \[y\/N\] /,
    );
    shows(advanced, `${BOLD("shop")}: prepared`);
    shows(await typed("migrate report"), `${GREEN("equal")}\n`, "LEFT ON OLD", `${placed.name}..billing`);
    const back = await typed("migrate rollback", /Go back from prepared to the step before\? \[y\/N\] /);
    shows(back, `${BOLD("shop")}: new`);
    shows(await typed("asyncapi --title Shop"), '"asyncapi": "3.0.0"', orders.name, '"bindings"');
  } finally {
    rmSync(join(anybroker.folder, configuration));
    await removeFrom(url, destinations);
  }
}

/** What the migration loses, by name: all of it has to be accepted. */
async function lostOf(url: string, destinations: readonly Destination[]): Promise<readonly string[]> {
  const configuration: Configuration = { broker: url, brokers: { local: () => memory() }, destinations };
  const { json } = await command(["doctor", "--plan", "--to", "local", "--json"], { configuration });
  return (json.plan as { readonly lost: readonly string[] }).lost;
}

/** Has so many messages of a queue dead. */
export async function bury(url: string, orders: Queue<Order>, count: number): Promise<void> {
  const undertaker = createBroker(await fromUrl(url));
  const consumer = undertaker.consume(orders, ({ id }) => deadLetter(`no stock for ${id}`));
  await undertaker.start();
  await until(`${count} dead letters`, 60_000, () => expect(consumer.status().deadLettered).toBe(count));
  await undertaker.stop();
}

/** A configuration in which the broker is the environment's, and the state of a migration outlives a command. */
function configurationOf(names: { readonly orders: string; readonly spare: string; readonly placed: string }): string {
  return `
import { queue, subscription, topic } from "anybroker";
import { defineConfig } from "anybroker/cli";
import { memory } from "anybroker/memory";
import { migrationControl } from "anybroker/migration";
import { fileMigrationStore } from "anybroker/migration/file";
import { fromUrl } from "anybroker/url";

const url = process.env.BROKER_URL ?? "";
const placed = topic("${names.placed}");
const destinations = [queue("${names.orders}"), queue("${names.spare}"), placed, subscription(placed, "billing")];

export default defineConfig({
  brokers: { terminal: url },
  destinations,
  by: "ann",
  migration: async () =>
    migrationControl({
      from: await fromUrl(url),
      to: memory(),
      destinations,
      state: fileMigrationStore("migration-state"),
      name: "shop",
    }),
});
`;
}

/** Leaves nothing of destinations on a broker. */
export async function removeFrom(url: string, destinations: readonly Destination[]): Promise<void> {
  const adapter = await fromUrl(url);
  const broker = createBroker(adapter, { declare: "none" });
  await broker.start();
  await adapter.remove?.(declarationsOf(destinations).topology("none"));
  await broker.stop();
}

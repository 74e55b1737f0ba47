import { EXIT, EXIT_MEANING, type ExitName } from "./exit-codes.ts";

/** What `anybroker --help` begins with. */
export const INTRODUCTION = `anybroker <command>

Looks at queues and topics of any broker, and works on them: RabbitMQ, Kafka, SQS with SNS.

A destination is a name of the configuration (anybroker.config.ts), or written as queue:orders, topic:order.placed, or topic:order.placed/billing for a subscription; with options behind commas where there is no configuration: queue:orders,ordered,priorities=5,ttl=1h or topic:geo/us,filter=geo.us.#,from=earliest.

Nothing is created but by "topology create", and nothing is removed or moved without --yes or an answer.`;

/** What it ends with. */
export const EPILOGUE = `Ends with 0 if all is done, 3 if some is and some is not, and otherwise as sysexits.h has it: ${briefly(
  ["usage", "data", "not-found", "unavailable", "not-allowed", "configuration"],
)}. All are in docs/cli.md. Ctrl-C stops cleanly and says where it stands.`;

function briefly(names: readonly ExitName[]): string {
  return names.map((name) => `${EXIT[name]} ${name}`).join(", ");
}

/** The exits as the documentation shows them. */
export function exitsTable(): string {
  const rows = Object.entries(EXIT).map(
    ([name, code]) => `| ${code} | \`${name}\` | ${EXIT_MEANING[name as ExitName]} |`,
  );
  return ["| Code | Name | Meaning |", "| --- | --- | --- |", ...rows].join("\n");
}

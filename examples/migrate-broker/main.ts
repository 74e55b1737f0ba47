// A shop moves from SQS to RabbitMQ to Kafka while it sells; instances of its service are cut off at random, and once it goes
// back. SQS_URL, RABBITMQ_URL and KAFKA_URL say where they are; what is not given is a broker in this process.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { setTimeout as sleep } from "node:timers/promises";
import type { Adapter } from "anybroker";
import { memoryIdempotencyStore } from "anybroker/idempotency";
import { memorySpace } from "anybroker/memory";
import {
  type AdvanceOptions,
  type MigrationControl,
  migrationControl,
  type RollbackOptions,
} from "anybroker/migration";
import { sqliteMigrationStore } from "anybroker/migration/sqlite";
import { fromUrl } from "anybroker/url";
import { Progress } from "../shared/progress.ts";
import { SOON_MISSED } from "../shared/soon-missed.ts";
import { until } from "../shared/until.ts";
import { Buyers } from "./buyers.ts";
import { Fleet } from "./fleet.ts";
import { Ledger } from "./ledger.ts";
import { catalogOf, type Leg } from "./shop.ts";

const CUSTOMERS = Number(process.env.CUSTOMERS || 20);
const INSTANCES = 3;
const CUT_EVERY_MS = Number(process.env.CUT_EVERY_MS || 4_000);
const LOOK_AROUND_MS = 500;
/** This operator wants the move done: a busy machine may take minutes to handle what waits on the old broker. */
const PATIENCE_MS = 600_000;

const progress = new Progress();
const say = (line: string): void => progress.say(line);
const folder = mkdtempSync(join(tmpdir(), "migrate-broker-"));
const catalog = catalogOf(Date.now().toString(36));
const ledger = new Ledger();
const idempotency = memoryIdempotencyStore();

/** Adapters onto one broker, each with connections of its own. */
function brokerAt(
  name: string,
  url: string | undefined,
): { readonly name: string; readonly open: () => Promise<Adapter> } {
  const space = memorySpace();
  const open = () => fromUrl(url || "memory:", { ...SOON_MISSED, memory: { space } });
  return { name: url ? name : `${name} (its part played in process)`, open };
}

const sqs = brokerAt("SQS", process.env.SQS_URL);
const rabbitmq = brokerAt("RabbitMQ", process.env.RABBITMQ_URL);
const kafka = brokerAt("Kafka", process.env.KAFKA_URL);

function openState() {
  const database = new DatabaseSync(join(folder, "state.sqlite"), { timeout: 2_000 });
  database.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL");
  return { state: sqliteMigrationStore(database), close: () => database.close() };
}

const operatorsState = openState();
const shared = { catalog, ledger, idempotency, openState };
const first: Leg = { ...shared, name: "sqs-to-rabbitmq", from: sqs.open, to: rabbitmq.open };
const second: Leg = { ...shared, name: "rabbitmq-to-kafka", from: rabbitmq.open, to: kafka.open };

try {
  await main();
} catch (error) {
  say(String(error));
  rmSync(folder, { recursive: true, force: true });
  // Customers and instances would go on.
  process.exit(1);
}
rmSync(folder, { recursive: true, force: true });

async function main(): Promise<void> {
  const fleet = new Fleet(first);
  await fleet.start(INSTANCES);
  const buyers = new Buyers(catalog, ledger, fleet.any);
  buyers.open(CUSTOMERS);
  fleet.harm(CUT_EVERY_MS);

  say(`${CUSTOMERS} customers, ${INSTANCES} instances; one is cut off every ${CUT_EVERY_MS} ms or so`);
  say(`\nFrom ${sqs.name} to ${rabbitmq.name}`);
  const operator = await operatorOf(first);
  await prepare(operator);
  await advance(operator, {});
  await advance(operator, { share: 10 });
  await fleet.cutOne();
  await advance(operator, { share: 60 });
  await rollback(operator, { share: 20 });
  await fleet.cutOne();
  await advance(operator, { share: 100 });
  await finish(operator);
  await operator.close();

  say(`\nFrom ${rabbitmq.name} to ${kafka.name}`);
  await fleet.deploy(second);
  const next = await operatorOf(second);
  await prepare(next);
  await advance(next, {});
  await advance(next, { share: 30 });
  await rollback(next, {});
  await fleet.cutOne();
  await advance(next, { share: 100 });
  await fleet.calm();
  await buyers.close();
  await finish(next);

  await until(
    "everything to be done",
    () => ledger.isComplete,
    progress,
    () => ledger.progress,
  );
  const report = await next.report();
  for (const source of report.sources) {
    const { published, handled, missing } = source;
    const name = source.source.replace(/^migrate-broker\./, "").replace(/\.[^.]+(?=\.receipts$|$)/, "");
    say(`  parity of ${name}: ${published} published, ${handled} handled, ${missing.count} missing`);
  }
  await next.close();
  await fleet.stop();
  operatorsState.close();

  const { closes, lines } = ledger.close();
  say(`\nThe ledger after ${progress.seconds} s and ${fleet.cuts} cuts`);
  for (const line of lines) say(line);
  say(
    closes
      ? "the ledger closes: nothing lost, nothing charged twice, each customer in order"
      : "the ledger does not close",
  );
  if (!closes || report.verdict !== "equal") process.exitCode = 1;
}

/** An operator's own connections: another process, such as the command line, would do the same. */
async function operatorOf(leg: Leg): Promise<MigrationControl> {
  const [from, to] = await Promise.all([leg.from(), leg.to()]);
  return migrationControl({
    name: leg.name,
    from,
    to,
    state: operatorsState.state,
    destinations: catalog.destinations,
  });
}

/** What the new broker cannot do is read, and accepted by name. */
async function prepare(control: MigrationControl): Promise<void> {
  const { differences, lost } = control.compare();
  for (const { name, from, to, kind } of differences) if (kind === "lost") say(`  lost: ${name} (${from}, then ${to})`);
  await advance(control, { accept: lost });
}

async function finish(control: MigrationControl): Promise<void> {
  await advance(control, {});
  await advance(control, {});
  await advance(control, {});
}

async function advance(control: MigrationControl, options: AdvanceOptions): Promise<void> {
  const { step, share } = await control.advance({ ...options, emptyForMs: 2_000, patienceMs: PATIENCE_MS });
  say(`  advanced to ${step}${step === "publishing" ? `, ${share} % of the keys` : ""}`);
  await lookAround();
}

async function rollback(control: MigrationControl, options: RollbackOptions): Promise<void> {
  const { step, share } = await control.rollback({ ...options, emptyForMs: 2_000, patienceMs: PATIENCE_MS });
  say(`  rolled back to ${step}${step === "publishing" ? `, ${share} % of the keys` : ""}`);
  await lookAround();
}

async function lookAround(): Promise<void> {
  progress.show(ledger.progress);
  await sleep(LOOK_AROUND_MS);
}

import { afterAll, beforeAll, expect, test } from "vitest";
import { Ledger } from "../../examples/migrate-broker/ledger.ts";
import { type BuiltPackage, buildPackage } from "../package/built-package.ts";
import { expectLedgerToClose } from "./migrate-broker-ledger.ts";
import { startExample } from "./run-example.ts";

let built: BuiltPackage;

beforeAll(async () => {
  built = await buildPackage(["examples"]);
});

afterAll(() => built.remove());

test("a shop moves twice in process, and its ledger closes", { timeout: 600_000 }, async () => {
  const more = { CUSTOMERS: "8", SQS_URL: "", RABBITMQ_URL: "", KAFKA_URL: "" };
  const run = await startExample(built.folder, "migrate-broker", more).ended();
  expectLedgerToClose(run);
  expect(run.output).toContain("From SQS (its part played in process) to RabbitMQ (its part played in process)");
});

const order = (number: number) => ({ id: `ada.${number}`, customer: "ada", number, cents: 100 });

test.for([
  { what: "an order that is lost", done: [0], closes: false },
  { what: "orders out of their order", done: [1, 0], closes: false },
  { what: "an order that nobody made", done: [0, 1, 2], closes: false },
  { what: "orders in their order", done: [0, 1], closes: true },
])("the ledger tells $what", ({ done, closes }) => {
  const ledger = new Ledger();
  for (const number of [0, 1]) ledger.ordered(order(number));
  for (const number of done) {
    ledger.charge(order(number));
    ledger.charge(order(number));
    ledger.receipt(order(number));
  }
  expect(ledger.known).toBe(done.length);
  expect(ledger.close().closes).toBe(closes);
});

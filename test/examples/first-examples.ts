import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type BuiltPackage, buildPackage, ROOT } from "../package/built-package.ts";
import { startExample, startProgram } from "./run-example.ts";

const EXAMPLES = ["quick-start", "work-queue", "pub-sub"];

/** Work and an event, twice, with a stop in between. */
const START_AGAIN = `
import { createBroker, queue, topic } from "anybroker";
import { fromUrl } from "anybroker/url";

const orders = queue("start-again.orders");
const placed = topic("start-again.order-placed");
const broker = createBroker(await fromUrl(process.env.BROKER_URL || "memory:"));
let billed;
broker.consume(orders, (order) => broker.publish(placed, order).then(() => undefined));
broker.subscribe(placed, "billing", (order) => billed.resolve(order));
for (const order of ["o-1", "o-2"]) {
  billed = Promise.withResolvers();
  await broker.start();
  await broker.send(orders, order);
  console.log("billed", await billed.promise);
  await broker.stop();
}
`;

/** What the README of an example says that it prints. */
function promised(example: string): string {
  const readme = readFileSync(join(ROOT, `examples/${example}/README.md`), "utf8");
  return /^```text\n([\s\S]+?)^```$/m.exec(readme)?.[1] ?? expect.unreachable(`${example} promises nothing`);
}

/** Which worker it was, and the order of the lines, differ from run to run. */
function comparable(output: string): string[] {
  return output
    .replaceAll(/^worker \d:/gm, "a worker:")
    .split("\n")
    .sort();
}

/** The tests of the smallest examples, with the environment that brings them to a broker; asked for when a test begins. */
export function testFirstExamples(environment: () => Readonly<Record<string, string>>): void {
  let built: BuiltPackage;

  beforeAll(async () => {
    built = await buildPackage(["examples"]);
  });

  afterAll(() => built.remove());

  // A second run meets what the first one left behind.
  test.for(EXAMPLES)(
    "%s prints what its README says, twice, and ends by itself",
    { timeout: 600_000 },
    async (example) => {
      for (const _run of ["first", "second"]) {
        const { code, output } = await startExample(built.folder, example, environment()).ended();
        expect(comparable(output), output).toEqual(comparable(promised(example)));
        expect(code).toBe(0);
      }
    },
  );

  test("a broker that is started again leaves nothing open that keeps the process", { timeout: 600_000 }, async () => {
    writeFileSync(join(built.folder, "start-again.mjs"), START_AGAIN);
    const { code, output } = await startProgram(built.folder, "start-again.mjs", environment()).ended();
    expect(output).toBe("billed o-1\nbilled o-2\n");
    expect(code).toBe(0);
  });
}

import { afterAll, beforeAll, expect, test } from "vitest";
import { type BuiltPackage, buildPackage } from "../../package/built-package.ts";
import { runCompiled } from "../../package/compiled-program.ts";

let built: BuiltPackage;

beforeAll(async () => {
  built = await buildPackage();
});

afterAll(() => built.remove());

/** A program around a decorated class, which handles two messages and ends by itself. */
const program = (handler: string) => `
import "reflect-metadata";
import { createBroker, type Delivery, queue, topic } from "anybroker";
import { bindHandler, DELIVERY, Handles, messagingModule, PUBLISHER, startMessaging } from "anybroker/inversify";
import { memory } from "anybroker/memory";
import { Container, inject, injectable } from "inversify";

interface Order { readonly id: string }
const orders = queue<Order>("orders");
const placed = topic<Order>("order.placed");
const both = Promise.withResolvers<void>();
const lines: string[] = [];
const say = (line: string): void => {
  if (lines.push(line) === 2) both.resolve();
};

@injectable()
class Clerk {
  greet(id: string): string {
    return "hello " + id;
  }
}
${handler}
const container = new Container();
container.bind(Clerk).toSelf();
bindHandler(container, Desk);
container.load(messagingModule({ broker: createBroker(memory()) }));
await startMessaging(container);
const publisher = container.get(PUBLISHER);
await publisher.send(orders, { id: "a" });
await publisher.publish(placed, { id: "b" });
await both.promise;
await container.unbindAllAsync();
console.log(lines.sort().join("\\n"));
`;

test("TypeScript's experimental decorators, with injection into the constructor by type and by symbol", async () => {
  const handler = `
@injectable()
@Handles(orders, { concurrency: 2 })
@Handles(placed, "desk")
class Desk {
  readonly #clerk: Clerk;
  readonly #delivery: Delivery;
  constructor(clerk: Clerk, @inject(DELIVERY) delivery: Delivery) {
    this.#clerk = clerk;
    this.#delivery = delivery;
  }
  handle(order: Order): void {
    say(this.#clerk.greet(order.id) + " of " + this.#delivery.destination);
  }
}
void inject;`;
  const options = { experimentalDecorators: true, emitDecoratorMetadata: true };
  expect(await runCompiled(built.folder, "experimental", program(handler), options)).toBe(
    "hello a of orders\nhello b of order.placed\n",
  );
});

test("ECMAScript's own decorators", async () => {
  const handler = `
@Handles(orders)
@Handles(placed, "desk")
class Desk {
  readonly #clerk = new Clerk();
  handle(order: Order, { destination }: Delivery): void {
    say(this.#clerk.greet(order.id) + " of " + destination);
  }
}
void [inject, DELIVERY];`;
  const code = program(handler).replace("@injectable()\n", "").replace(", injectable", "");
  expect(await runCompiled(built.folder, "ecmascript", code, { target: "es2022" })).toBe(
    "hello a of orders\nhello b of order.placed\n",
  );
});

test("a handler of another body does not compile with either", async () => {
  const handler = `
@Handles(orders)
class Desk {
  handle(order: { readonly weight: number }): void {
    say(String(order.weight));
  }
}
void [inject, DELIVERY];`;
  const wrong = program(handler);
  await expect(
    runCompiled(built.folder, "experimental-wrong", wrong, { experimentalDecorators: true }),
  ).rejects.toThrow("Property 'weight' is missing in type 'Order'");
  await expect(runCompiled(built.folder, "ecmascript-wrong", wrong, { target: "es2022" })).rejects.toThrow(
    "Property 'weight' is missing in type 'Order'",
  );
});

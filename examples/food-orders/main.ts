// One event for each order, and three services that hear of it, each by its own subscription and in its own container.
// One of them is down for a while, and catches up. BROKER_URL says which broker; without it everything is in this process.
import { subscription } from "anybroker";
import { BROKER } from "anybroker/inversify";
import { memorySpace } from "anybroker/memory";
import { fromUrl } from "anybroker/url";
import type { ContainerModule } from "inversify";
import { Progress } from "../shared/progress.ts";
import { until } from "../shared/until.ts";
import { billing } from "./billing.ts";
import { Books, SERVICES, type ServiceName } from "./books.ts";
import { courier } from "./courier.ts";
import { kitchen } from "./kitchen.ts";
import { order, placedIn } from "./orders.ts";
import { type Service, startService } from "./service.ts";
import { Shop, shop } from "./shop.ts";

const ORDERS = Number(process.env.ORDERS || 300);

const placed = placedIn(Date.now().toString(36));
const modules: Readonly<Record<ServiceName, ContainerModule>> = {
  kitchen: kitchen(placed),
  courier: courier(placed),
  billing: billing(placed),
};
const books = new Books();
const progress = new Progress();
const say = (line: string): void => progress.say(line);
const space = memorySpace();
const newAdapter = () => fromUrl(process.env.BROKER_URL || "memory:", { memory: { space } });
const running = new Set<Service>();
let cents = 0;

try {
  await main();
} catch (error) {
  say(String(error));
  process.exitCode = 1;
} finally {
  await Promise.all([...running].map(close));
}

async function main(): Promise<void> {
  const adapter = await newAdapter();
  // The subscriptions are declared before anything is published, so that no service misses an order.
  const subscriptions = SERVICES.map((name) => subscription(placed, name));
  const counter = await open(startService(adapter, books, shop(placed), subscriptions));
  const [third, twoThirds] = [Math.ceil(ORDERS / 3), Math.ceil((2 * ORDERS) / 3)];
  say(`${ORDERS} orders on ${adapter.name} (${placed.name}); ${SERVICES.join(", ")} hear of each`);

  const [first] = await Promise.all([start("billing"), start("kitchen"), start("courier")]);
  await take(counter, 0, third);
  await handled(third, SERVICES);
  tell("all services are up");

  await close(first);
  await take(counter, third, twoThirds);
  await handled(twoThirds, ["kitchen", "courier"]);
  tell("billing is down, the others go on");
  const { ready } = await counter.container.get(BROKER).depth(placed, "billing");
  say(`  waiting for billing, as ${adapter.name} counts them: ${ready}`);

  await Promise.all([start("billing"), take(counter, twoThirds, ORDERS)]);
  await handled(ORDERS, SERVICES);
  tell("billing is back, and has caught up");
  closeBooks();
}

async function start(name: ServiceName): Promise<Service> {
  return open(startService(await newAdapter(), books, modules[name]));
}

async function open(starting: Promise<Service>): Promise<Service> {
  const service = await starting;
  running.add(service);
  return service;
}

async function close(service: Service): Promise<void> {
  running.delete(service);
  await service.stop();
}

/** Takes the orders behind number `from`, up to number `to`. */
async function take({ container }: Service, from: number, to: number): Promise<void> {
  const orders = Array.from({ length: to - from }, (_, index) => order(from + index + 1));
  await Promise.all(orders.map((each) => container.get(Shop).place(each)));
  for (const each of orders) cents += each.cents;
}

/** Waits until these services have handled so many orders. */
async function handled(count: number, services: readonly ServiceName[]): Promise<void> {
  const areDone = () => services.every((name) => books.count(name) >= count);
  await until(`${count} were handled`, areDone, progress, counts);
}

function tell(what: string): void {
  say(`${what}: ${counts()}`);
}

function counts(): string {
  return SERVICES.map((name) => `${name} ${books.count(name)}`).join(", ");
}

function closeBooks(): void {
  const row = (...cells: readonly (string | number)[]): string =>
    cells.map((cell) => String(cell).padStart(12)).join("");
  say(`\nBooks after ${progress.seconds} s`);
  say(row("", "orders", "handled", "duplicates"));
  for (const name of SERVICES) say(row(name, ORDERS, books.count(name), books.duplicates(name)));
  const complete = SERVICES.every((name) => books.count(name) === ORDERS);
  const balanced = complete && books.cents === cents;
  say(`ordered for ${cents} cents, invoices over ${books.cents} cents`);
  say(balanced ? "every service has handled every order, and each has one invoice" : "the books do not balance");
  if (!balanced) process.exitCode = 1;
}

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { orderApi } from "../../examples/order-service/api.ts";
import type { Contents, Placing } from "../../examples/order-service/books.ts";
import { closeBooks, type Evidence } from "../../examples/order-service/closing.ts";
import { marketOf, type Order } from "../../examples/order-service/orders.ts";
import { type BuiltPackage, buildPackage } from "../package/built-package.ts";
import { rowOf } from "./exactly-once-charge-books.ts";
import { expectBooksToBalance } from "./order-service-books.ts";
import { startExample } from "./run-example.ts";

describe("in process", () => {
  let built: BuiltPackage;

  beforeAll(async () => {
    built = await buildPackage(["examples"]);
  });

  afterAll(() => built.remove());

  test("each accepted order has one invoice, though shops and workers are cut off", { timeout: 600_000 }, async () => {
    const { code, output } = await startExample(built.folder, "order-service", { CUSTOMERS: "30", KILLS: "3" }).ended();
    expectBooksToBalance(output, 30, 3);
    expect(output).toContain("database sqlite; events by the outbox; billing with the inbox");
    expect(output).toMatch(/shop: in-process worker \d+ is gone, in-process worker \d+ takes its place/);
    expect(output).toMatch(/billing: in-process worker \d+ is gone, in-process worker \d+ takes its place/);
    // What was committed and not acknowledged when a worker was cut off.
    expect(rowOf(output, "copies of events that the inbox kept from the handler")).toBeGreaterThan(0);
    expect(code).toBe(0);
  });

  test("without the inbox some orders have two invoices, and it says so", { timeout: 600_000 }, async () => {
    const more = { CUSTOMERS: "30", KILLS: "4", INBOX: "off" };
    const { code, output } = await startExample(built.folder, "order-service", more).ended();
    expect(rowOf(output, "with more than one invoice"), output).toBeGreaterThan(0);
    expect(output).toContain("the books do not balance\n");
    expect(code).toBe(1);
  });
});

describe("the API", () => {
  const ask = (answer: () => Promise<Placing>, body: unknown, id = "order-1") => {
    const api = orderApi(answer);
    return api.request(`/orders/${id}`, {
      method: "PUT",
      body: typeof body === "string" ? body : JSON.stringify(body),
    });
  };
  const fine = { customer: "ann", cents: 5 };

  test.for([
    ["placed", 201],
    ["there", 200],
    ["other", 409],
    ["refused", 402],
  ] as const)("answers an order that is %s with %i", async ([placing, status]) => {
    expect((await ask(async () => placing, fine)).status).toBe(status);
  });

  test("places what the request says", async () => {
    const given: Order[] = [];
    const api = orderApi(async (order) => {
      given.push(order);
      return "placed";
    });
    await api.request("/orders/order-7", { method: "PUT", body: JSON.stringify({ ...fine, id: "another" }) });
    expect(given).toEqual([{ id: "order-7", ...fine }]);
  });

  test.for([
    ["no JSON", "{"],
    ["no object", "[1]"],
    ["no cents", { customer: "ann" }],
    ["cents for nothing", { customer: "ann", cents: 0 }],
  ])("refuses %s, and places nothing", async ([, body]) => {
    const placed = () => Promise.reject(new Error("it was placed"));
    expect((await ask(placed, body)).status).toBe(400);
  });

  test("refuses a body that is too large", async () => {
    expect((await ask(async () => "placed", { ...fine, more: "x".repeat(20_000) })).status).toBe(413);
  });

  test("asks to ask again when it does not know, and does not repeat why", async () => {
    const answer = await ask(() => Promise.reject(new Error("canary-password")), fine);
    expect(answer.status).toBe(503);
    expect(await answer.text()).not.toContain("canary-password");
  });
});

describe("the books", () => {
  const { customers, orders } = marketOf(2);
  const accepted = orders.slice(0, 3);
  const [first, second, third] = accepted as [Order, Order, Order];
  const invoiceOf = ({ id, customer, cents }: Order) => ({ orderId: id, customer, cents });
  const closed = (contents: Partial<Contents>, told: readonly Order[] = accepted) => {
    const placed = contents.orders ?? accepted;
    const spent = placed.reduce((sum, { cents }) => sum + cents, 0);
    const evidence: Evidence = {
      customers,
      answers: { accepted: new Set(told.map(({ id }) => id)), there: new Set(), refused: new Set(), unanswered: 0 },
      contents: {
        orders: placed,
        invoices: placed.map(invoiceOf),
        creditLeft: customers.reduce((sum, { credit }) => sum + credit, 0) - spent,
        ...contents,
      },
      tally: { started: 3, "kept-back": 0, "dead-lettered": 0 },
      killed: { shop: 0, billing: 0 },
    };
    return closeBooks(evidence);
  };

  test("balance where each accepted order has one invoice", () => {
    const { balance, lines } = closed({});
    expect(balance).toBe(true);
    expect(rowOf(lines.join("\n"), "with exactly one invoice")).toBe(3);
  });

  test.for([
    ["an order without an invoice", "without an invoice", closed({ invoices: [first, second].map(invoiceOf) })],
    ["an order with two", "with more than one", closed({ invoices: [first, second, third, third].map(invoiceOf) })],
    ["one with two, another without", "without an invoice", closed({ invoices: [first, first, third].map(invoiceOf) })],
    [
      "an invoice without an order",
      "invoices without",
      closed({ orders: [first, second], invoices: accepted.map(invoiceOf) }),
    ],
    ["an order that is gone", "that are not in the books", closed({ orders: [first, second] })],
    ["an order that nobody was told of", "orders in the books that nobody", closed({}, [first, second])],
  ] as const)("do not balance over %s", ([, row, { balance, lines }]) => {
    expect(balance).toBe(false);
    expect(rowOf(lines.join("\n"), row)).toBe(1);
  });

  test("do not balance over what invoices say, though the sum is right", () => {
    const [one, two] = [invoiceOf(first), invoiceOf(second)];
    const wrong = [{ ...one, cents: one.cents + 1 }, { ...two, cents: two.cents - 1 }, invoiceOf(third)];
    const { balance, lines } = closed({ invoices: wrong });
    expect(balance).toBe(false);
    expect(rowOf(lines.join("\n"), "invoices that say something else")).toBe(2);
  });

  test("do not balance over the credit", () => {
    expect(closed({ creditLeft: 0 }).balance).toBe(false);
  });
});

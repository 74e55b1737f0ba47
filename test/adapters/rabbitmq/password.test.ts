import { expect, test } from "vitest";
import { currentPassword } from "../../../adapters/rabbitmq/connection.ts";
import { rabbitmq } from "../../../adapters/rabbitmq/index.ts";
import { Redactor } from "../../../adapters/rabbitmq/redactor.ts";
import { createBroker } from "../../../core/create-broker.ts";
import { queue } from "../../../core/destination.ts";

const CANARY = "c4n4ry-s3cret";
const fail = (): never => {
  throw new Error(CANARY);
};

class BrokenDate extends Date {
  override getTime(): number {
    return fail();
  }
}

const BROKEN: readonly (readonly [what: string, give: () => unknown])[] = [
  ["throws", fail],
  ["rejects", () => Promise.reject(new Error(CANARY))],
  [
    "gives an object whose value throws",
    () => ({
      get value() {
        return fail();
      },
    }),
  ],
  [
    "gives an object whose end throws",
    () => ({
      value: "word",
      get expiresAt() {
        return fail();
      },
    }),
  ],
  ["gives a date that throws", () => ({ value: "word", expiresAt: new BrokenDate() })],
  [
    "gives an end that cannot be looked at",
    () => ({ value: "word", expiresAt: new Proxy({}, { getPrototypeOf: fail }) }),
  ],
];

test.each(BROKEN)("a password function that %s is unauthorized, for what it threw", async (_what, give) => {
  const settings = { password: give as () => string, redactor: new Redactor("ada") };
  const error = await currentPassword(settings, 5_000).catch((thrown: unknown) => thrown);
  expect(error).toMatchObject({ code: "unauthorized", cause: { message: CANARY } });
  expect((error as Error).message).toContain("see the cause");
  expect((error as Error).message).not.toContain(CANARY);
});

test("and the start of a broker object says so", async () => {
  const give = BROKEN[2]?.[1] as () => string;
  const broker = createBroker(rabbitmq({ url: "amqp://127.0.0.1:1", username: "ada", password: give }), {
    destinations: [queue("orders")],
  });
  const error = await broker.start().catch((thrown: unknown) => thrown);
  await broker.stop();
  expect(error).toMatchObject({ problems: [{ code: "unauthorized", cause: { message: CANARY } }] });
  expect((error as Error).message).not.toContain(CANARY);
});

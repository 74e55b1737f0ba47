import { expect, test } from "vitest";
import { type Connection, openChannel } from "../../../adapters/rabbitmq/connection.ts";
import { operationError } from "../../../adapters/rabbitmq/errors.ts";
import { Redactor } from "../../../adapters/rabbitmq/redactor.ts";

test.for([
  ['count the messages of queue "orders"', "grant the user a permission on it, such as read"],
  ['consume from queue "orders"', "grant the user the read permission on it"],
  ['write to quarantine log of queue "orders"', "grant the user the write permission on it"],
] as const)("what is refused names the right that it takes: %s", ([what, next]) => {
  const error = operationError(Object.assign(new Error("ACCESS_REFUSED"), { code: 403 }), what, "try again");
  expect(error).toMatchObject({
    code: "unauthorized",
    message: `RabbitMQ refused to ${what}: ACCESS_REFUSED; ${next}`,
  });
});

test("channels that are used up name the server and what to do", async () => {
  const model = {
    connection: { channelMax: 12 },
    createChannel: () => Promise.reject(new Error("No channels left to allocate")),
  } as unknown as Connection["model"];
  const link: Connection = {
    model,
    where: "rabbit.example:5672",
    redactor: new Redactor("guest"),
    cut: () => undefined,
  };
  await expect(openChannel(link, 1_000)).rejects.toThrow(
    /all 12 channels that RabbitMQ at rabbit\.example:5672 allows .*raise channel_max/,
  );
});

import { expect, onTestFinished, test } from "vitest";
import { type Connection, openChannel, operationSlots } from "../../../adapters/rabbitmq/connection.ts";
import { problemsOf } from "../../../adapters/rabbitmq/declared-resources.ts";
import { operationError } from "../../../adapters/rabbitmq/errors.ts";
import { Redactor } from "../../../adapters/rabbitmq/redactor.ts";
import { topology, workQueue } from "../seam-values.ts";
import { openAdapter } from "./open-adapter.ts";
import { scriptedServer } from "./scripted-server.ts";

test.for([
  ['count the messages of queue "orders"', "grant the user any permission on it (write gives least away)"],
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
    once: () => undefined,
    createChannel: () => Promise.reject(new Error("No channels left to allocate")),
  } as unknown as Connection["model"];
  const link: Connection = {
    model,
    where: "rabbit.example:5672",
    redactor: new Redactor("guest"),
    operations: operationSlots(model),
    cut: () => undefined,
  };
  await expect(openChannel(link, 1_000)).rejects.toThrow(
    /all 12 channels that RabbitMQ at rabbit\.example:5672 allows .*raise channel_max/,
  );
});

test.for([
  ["inequivalent arg 'x-overflow' for queue 'q' in vhost '/': received none", "it exists with other properties"],
  ["invalid arg 'x-queue-leader-locator' for queue 'q' in vhost '/'", "correct it in the queueArguments"],
  [
    "cannot declare queue 'q': queue limit in vhost 'shop' (29) is reached",
    "delete what is not used, or raise the limit",
  ],
  ["something else", "see the server's log"],
] as const)("the advice fits what the server said: %s", ([text, advice]) => {
  const error = Object.assign(new Error(`406 with message "PRECONDITION_FAILED - ${text}"`), { code: 406 });
  const step = { what: 'declare queue "q"', run: () => Promise.reject(error) };
  const [problem] = problemsOf([{ step, error }]);
  expect(problem?.message).toContain(`${text}; ${advice}`);
  expect(problem?.message.includes("drain and delete")).toBe(text.startsWith("inequivalent"));
});

test.each(["ChannelOpen", "QueueDeclare"])("a server that ends the connection at %s gives the reason", async (at) => {
  let isOpen = false;
  const server = await scriptedServer((method, _channel, say) => {
    if (!isOpen || method !== at) return false;
    const replyText =
      "NOT_ALLOWED - number of channels opened for user 'ada' has reached the maximum allowed limit of (8)";
    say("ConnectionClose", 0, { replyCode: 530, replyText, classId: 20, methodId: 10 });
    return true;
  });
  onTestFinished(() => server.close());
  const { adapter } = await openAdapter({ url: `amqp://ada:secret@127.0.0.1:${server.port}` });
  onTestFinished(() => adapter.close());
  isOpen = true;
  await expect(adapter.declare(topology({ queues: [workQueue("orders")] }))).rejects.toMatchObject({
    message: expect.stringContaining("number of channels opened for user 'ada'"),
  });
});

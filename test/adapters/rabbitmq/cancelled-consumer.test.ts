import { expect, onTestFinished, test } from "vitest";
import { rabbitmq } from "../../../adapters/rabbitmq/index.ts";
import { createBroker } from "../../../core/create-broker.ts";
import { queue } from "../../../core/destination.ts";
import { scriptedServer } from "./scripted-server.ts";

test("a consumer whose queue was deleted binds it again before it takes from it", async () => {
  const said: string[] = [];
  let consumes = 0;
  const server = await scriptedServer((method, channel, say) => {
    said.push(method);
    if (method !== "BasicConsume") return false;
    say("BasicConsumeOk", channel, { consumerTag: "one" });
    // Somebody deleted the queue, and made it again before anybody could see that it was gone.
    if (++consumes === 1) setTimeout(() => say("BasicCancel", channel, { consumerTag: "one", nowait: true }), 20);
    return true;
  });
  onTestFinished(() => server.close());
  const notices: string[] = [];
  const broker = createBroker(rabbitmq({ url: `amqp://ada:secret@127.0.0.1:${server.port}` }), {
    onEvent: (event) => void (event.type === "notice" && notices.push(event.error.message)),
  });
  broker.consume(queue("orders"), () => {});
  await broker.start();
  await expect.poll(() => consumes).toBe(2);
  const [first, second] = [said.indexOf("BasicConsume"), said.lastIndexOf("BasicConsume")];
  const between = said.slice(first + 1, second);
  expect(between).toContain("QueueDeclare");
  expect(between).toContain("QueueBind");
  expect(notices).toEqual([expect.stringContaining('cancelled the consumer of queue "orders"')]);
  await broker.stop({ timeoutMs: 100 });
});

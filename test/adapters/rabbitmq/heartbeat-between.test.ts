import { expect, onTestFinished, test } from "vitest";
import { rabbitmq } from "../../../adapters/rabbitmq/index.ts";
import { createBroker } from "../../../core/create-broker.ts";
import { scriptedServer } from "./scripted-server.ts";

test("a heartbeat of a server that is slow to open the virtual host is no end of a start", async () => {
  let opens = 0;
  const server = await scriptedServer((method, channel, say) => {
    if (method === "ConnectionOpen" && opens++ === 0) say("Heartbeat", channel);
    return false;
  });
  onTestFinished(() => server.close());
  const broker = createBroker(rabbitmq({ url: `amqp://ada:secret@127.0.0.1:${server.port}` }));
  await broker.start();
  expect(broker.status().connected).toBe(true);
  expect(opens).toBeGreaterThan(1);
  await broker.stop({ timeoutMs: 100 });
});

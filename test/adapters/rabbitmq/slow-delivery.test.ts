import { deadLetters } from "anybroker/dead-letters";
import { expect, onTestFinished, test } from "vitest";
import { rabbitmq } from "../../../adapters/rabbitmq/index.ts";
import { createBroker } from "../../../core/create-broker.ts";
import { queue } from "../../../core/destination.ts";
import { delivered, type Script, scriptedServer } from "./scripted-server.ts";

/** Longer than reading dead letters waits where nothing is on its way. */
const SLOW_MS = 1_000;

test("dead letters that take their time on the way are not taken for none", async () => {
  let under = false;
  let answers: (() => void)[] = [];
  // It says that the queue has none, as RabbitMQ does of what it has handed out.
  const script: Script = (method, channel, say) => {
    if (method === "BasicQos" && under) {
      answers.push(() => say("BasicQosOk", channel));
      return true;
    }
    if (method !== "BasicConsume") return false;
    under = true;
    say("BasicConsumeOk", channel, { consumerTag: "one" });
    setTimeout(() => {
      say("Raw", channel, { bytes: delivered(channel, { tag: 1, id: "one", headers: Buffer.alloc(0), body: "{}" }) });
      under = false;
      for (const answer of answers) answer();
      answers = [];
    }, SLOW_MS);
    return true;
  };
  const server = await scriptedServer(script);
  onTestFinished(() => server.close());
  const orders = queue("orders");
  const broker = createBroker(rabbitmq({ url: `amqp://ada:secret@127.0.0.1:${server.port}` }), {
    destinations: [orders],
  });
  await broker.start();
  const { entries, complete } = await deadLetters(broker, orders).list();
  expect([entries.map(({ messageId }) => messageId), complete]).toEqual([["one"], true]);
  await broker.stop({ timeoutMs: 100 });
});

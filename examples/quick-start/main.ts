// One message, from a sender to a handler. BROKER_URL says which broker; without it everything is in this process.
import { createBroker, queue } from "anybroker";
import { fromUrl } from "anybroker/url";

interface Greeting {
  readonly name: string;
}

const greetings = queue<Greeting>("quick-start.greetings");
const broker = createBroker(await fromUrl(process.env.BROKER_URL || "memory:"));

const greeted = Promise.withResolvers<void>();
broker.consume(greetings, ({ name }) => {
  console.log(`Hello, ${name}!`);
  greeted.resolve();
});

await broker.start(); // connects, makes the queue, begins to consume
await broker.send(greetings, { name: "Ann" }); // resolves when the broker has the message
await greeted.promise;
await broker.stop(); // lets the handler finish, tells the broker so, closes

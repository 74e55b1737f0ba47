// A server that says what it should not: the password, in any form, and what a terminal obeys.
import { inspect } from "node:util";
import { expect, test } from "vitest";
import { rabbitmq } from "../../../adapters/rabbitmq/index.ts";
import { Redactor } from "../../../adapters/rabbitmq/redactor.ts";
import { serverVersion } from "../../../adapters/rabbitmq/server-version.ts";
import { createBroker } from "../../../core/create-broker.ts";
import { queue } from "../../../core/destination.ts";
import { type Script, scriptedServer } from "./scripted-server.ts";

const CANARY = "c4n4ry-s3cret/+?";

const FORMS: readonly ((password: string) => string)[] = [
  (password) => password,
  encodeURIComponent,
  (password) => Buffer.from(password).toString("base64"),
  (password) => Buffer.from(`\0ada\0${password}`).toString("base64"),
  (password) => Buffer.from(`ada:${password}`).toString("base64"),
  (password) => Buffer.from(password).toString("hex"),
];
const said = (password: string): string => {
  const words = FORMS.map((form) => form(password)).join(" ");
  return `\u001b[2J\r\n\u202e${words}`;
};

/** Closes instead of an answer. */
const closing =
  (instead: string, close: string, replyCode: number): Script =>
  (method, channel, say, password) => {
    if (method === "ConfirmSelect") say("ConnectionBlocked", 0, { reason: said(password) });
    if (method !== instead) return false;
    const replyText = said(password).slice(0, 250);
    say(close, close === "ChannelClose" ? channel : 0, { replyCode, replyText, classId: 0, methodId: 0 });
    return true;
  };

test.each<[string, Script]>([
  ["refuses the login", closing("ConnectionStartOk", "ConnectionClose", 403)],
  ["refuses the virtual host", closing("ConnectionOpen", "ConnectionClose", 530)],
  ["closes a channel for a conflict", closing("QueueDeclare", "ChannelClose", 406)],
  ["closes a channel for a right", closing("QueueDeclare", "ChannelClose", 403)],
  ["closes a channel for a thing", closing("ExchangeDeclare", "ChannelClose", 404)],
  ["closes the connection", closing("QueueDeclare", "ConnectionClose", 541)],
  ["closes a consumer's channel", closing("BasicConsume", "ChannelClose", 406)],
  ["closes a publisher's channel", closing("BasicPublish", "ChannelClose", 403)],
])("what a server says as it %s holds no password, and nothing that a terminal obeys", async (_what, script) => {
  const server = await scriptedServer(script, `4.3.0 \u001b[2J${CANARY}`);
  const seen: unknown[] = [];
  const url = `amqp://127.0.0.1:${server.port}`;
  const broker = createBroker(
    rabbitmq({ url, username: "ada", password: () => CANARY, connectTimeoutMs: 5_000, requestTimeoutMs: 5_000 }),
    { destinations: [queue("orders")], onEvent: (event) => void seen.push(event) },
  );
  broker.consume(queue("taken"), () => {});
  await broker.start().then(
    () => broker.send(queue("orders"), { n: 1 }, { timeoutMs: 1_000 }).catch((error: unknown) => seen.push(error)),
    (error: unknown) => seen.push(error),
  );
  await broker.stop();
  await server.close();
  const shown = inspect(seen, { depth: 20, showHidden: true, maxStringLength: null });
  // Its words are shown, but for that.
  expect(shown).toContain("?[2J???***");
  for (const form of FORMS) expect(shown).not.toContain(form(CANARY));
  // `inspect` writes controls as escapes, but for marks of direction.
  expect(shown).not.toMatch(/\\x1B|\\r|\p{Cf}/u);
});

test.each([
  ['PRECONDITION_FAILED - {"card":"4711"} is odd', "PRECONDITION_FAILED - …"],
  ['got [ {"card":"4711"} ]', "got …"],
  ['got ["4711"]', "got …"],
  ['got {\\"card\\":\\"4711\\"}', "got …"],
  ['{amqp_error,internal_error,<<"4711">>,none}', "{amqp_error,internal_error,…"],
  ["badarg <<123,34,112>> at", "badarg …"],
  ["badarg [123,34,112,105,110] at", "badarg …"],
  ["badarg [123,34|...] [49, 50, 51] at", "badarg [123,34|...] …"],
])("a message that a server repeats is not shown: %s", (text, shown) => {
  expect(new Redactor("ada").text(new Error(text))).toBe(shown);
});

test.each([
  "PRECONDITION_FAILED - inequivalent arg 'x-max-priority' for queue 'orders' in vhost '/': received none but current is the value '5' of type 'signedint'",
  "NOT_FOUND - no queue 'orders' in vhost '/'",
  "connect ECONNREFUSED [::1]:5672",
  "Channel closed by server: 404 (NOT-FOUND) with message \"NOT_FOUND - no exchange 'placed' in vhost '/'\"",
])("what RabbitMQ says of itself is shown: %s", (text) => {
  expect(new Redactor("ada").text(new Error(text))).toBe(text);
});

test("of a version only its numbers are read", () => {
  expect(serverVersion(`4.1.0-rc.1 ${CANARY}\u001b`).text).toBe("4.1.0-rc.1");
  expect(serverVersion(CANARY).text).toBe("unknown");
  expect(serverVersion({ toString: () => "4.1" }).text).toBe("unknown");
});

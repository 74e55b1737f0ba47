import { inspect } from "node:util";
import { describe, expect, test } from "vitest";
import { shownText } from "../../adapters/sqs/message-codec.ts";
import type { SendResult } from "../../core/adapter.ts";
import type { MessagingError } from "../../core/errors.ts";
import { brings, CREDENTIALS, eventually, holding, ORDERS, opened, send, unopened } from "./opened.ts";
import { outgoing } from "./outgoing.ts";
import { ScriptedAccount } from "./scripted-account.ts";
import { type Answer, entriesOf } from "./scripted-aws.ts";

const BODY = '{"secret":"canary-body"}';
const TOKEN = CREDENTIALS.sessionToken;

/** As AWS answers to a wrong secret key. */
const SIGNATURE = `The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key.

The Canonical String for this request should have been
'POST
/

host:sqs.eu-central-1.amazonaws.com
x-amz-security-token:${TOKEN}
'

The String-to-Sign should have been
'AWS4-HMAC-SHA256 ${CREDENTIALS.accessKeyId}'`;

const ECHOES: readonly (readonly [what: string, message: string])[] = [
  ["the canonical request", SIGNATURE],
  ["the canonical request in one line", SIGNATURE.replaceAll("\n", " ")],
  ["the body in JSON", `I do not understand ${JSON.stringify({ MessageBody: BODY })}`],
  ["the body as the value of a parameter", "Value canary-body for parameter MessageBody is invalid."],
  ["a form", `cannot read Action=SendMessage&MessageBody=${encodeURIComponent(BODY)}`],
  ["the header of authorization", `Authorization: 'AWS4-HMAC-SHA256 Credential=${CREDENTIALS.accessKeyId}'`],
  ["a line of its own", `no\n${BODY}`],
];

function expectNoSecret(seen: readonly unknown[]): void {
  for (const one of seen) {
    const said = inspect(one, { depth: Number.POSITIVE_INFINITY, showHidden: true, maxStringLength: null });
    for (const secret of [...Object.values(CREDENTIALS), "canary"]) expect(said).not.toContain(secret);
  }
}

describe("an answer that repeats the request", () => {
  test.for(ECHOES)("leaves nothing of %s in errors", async ([, message]) => {
    const { aws, adapter, receiver, tokens, inbox } = await holding(1);
    const seen: unknown[] = [];
    const ask = (asked: Promise<unknown>) =>
      asked.then(
        (value) => value,
        (error: unknown) => error,
      );
    for (const error of ["SignatureDoesNotMatch", "InvalidParameterValue", "InternalFailure"]) {
      const answer: Answer = { error, message, status: error === "InternalFailure" ? 500 : 403 };
      aws.next("SendMessage", answer);
      aws.next("SendMessageBatch", (input) => ({
        output: {
          Failed: entriesOf(input).map(({ Id }) => ({ Id, Code: error, SenderFault: true, Message: message })),
        },
      }));
      const body = Buffer.from(BODY);
      seen.push(...(await send(adapter, [outgoing({ body })])));
      seen.push(...(await send(adapter, [outgoing({ body }), outgoing({ body })])));
      aws.on("GetQueueAttributes", () => answer);
      seen.push(await ask(adapter.depth(ORDERS)));
      aws.on("ListTopics", () => answer);
      seen.push(await ask(adapter.depth({ kind: "topic", name: "placed" })));
      aws.next("DeleteMessageBatch", answer);
    }
    await receiver.settle(tokens.map((token) => ({ token, action: "ack" })));
    aws.next("ReceiveMessage", { error: "SignatureDoesNotMatch", message, status: 403 });
    await eventually(() => inbox.causes.some(({ message: said }) => said.includes("receiving from")));
    seen.push(...inbox.causes);
    expect(seen.length).toBeGreaterThan(12);
    expectNoSecret(seen);
  });

  test("keeps what tells why: the name, the status, the id of the request and the first line", async () => {
    const { aws, adapter } = await opened();
    aws.on("GetQueueAttributes", () => ({ error: "SignatureDoesNotMatch", message: SIGNATURE, status: 403 }));
    await expect(adapter.depth(ORDERS)).rejects.toMatchObject({
      code: "unauthorized",
      message: expect.stringContaining("refused it as SignatureDoesNotMatch; check the credentials"),
      cause: {
        name: "SignatureDoesNotMatch",
        message: SIGNATURE.split("\n")[0],
        $metadata: { httpStatusCode: 403 },
      },
    });
  });
});

test.for([`Bad\u001b[31m`, "x".repeat(101), "Bad code", "4111111111111111", "<html>"])(
  "what does not look like a code is shown nowhere: %s",
  async (error) => {
    const { aws, adapter } = await opened();
    aws.on("GetQueueAttributes", () => ({ raw: JSON.stringify({ __type: error, message: "no" }), status: 400 }));
    const failure = (await adapter.depth(ORDERS).catch((error: unknown) => error)) as MessagingError;
    expect(failure.message).toMatch(/the server answered status 400 without a reason; check the endpoint/);
    expect(failure.cause).toMatchObject({ name: "" });
    aws.on("SendMessageBatch", (input) => ({
      output: { Failed: entriesOf(input).map(({ Id }) => ({ Id, Code: error, SenderFault: true })) },
    }));
    const [result] = await send(adapter, [outgoing(), outgoing()]);
    expect(result).toMatchObject({
      status: "rejected",
      error: { message: failure.message.replace(/.*: /, 'sending to queue "orders": ') },
    });
  },
);

/** What a server may repeat that looks like a code, an id or a word. */
const REPEATED: readonly (readonly [what: string, text: string])[] = [
  ["the session's token", TOKEN],
  ["a piece of the token", TOKEN.slice(2, -1)],
  ["the key id", CREDENTIALS.accessKeyId],
  ["the body", "canary-plain"],
  ["the token and the body", `${TOKEN} canary-plain`],
];
const PLACES: readonly (readonly [where: string, answer: (text: string) => { headers?: Headers; body: object }])[] = [
  ["the code", (text) => ({ body: { __type: text, message: "no" } })],
  ["the code, by its other name", (text) => ({ body: { code: text, message: "no" } })],
  ["the type in the headers", (text) => ({ headers: { "x-amzn-errortype": text }, body: { message: "no" } })],
  ["the code of old", (text) => ({ headers: { "x-amzn-query-error": `${text};Sender` }, body: { __type: "Weird" } })],
  ["the message", (text) => ({ body: { __type: "Weird", message: `about ${text} it is` } })],
  ["the id of the request", (text) => ({ headers: { "x-amzn-requestid": text }, body: { __type: "Weird" } })],
];
type Headers = Readonly<Record<string, string>>;

test.for(PLACES.flatMap(([where, answer]) => REPEATED.map(([what, text]) => [where, what, answer, text] as const)))(
  "%s of a refusal that repeats %s is shown without it",
  async ([, , answer, text]) => {
    const { aws, adapter } = await opened();
    const { headers = {}, body } = answer(text);
    aws.on("SendMessage", () => {
      aws.headers = headers;
      return { raw: JSON.stringify(body), status: 400 };
    });
    aws.on("SendMessageBatch", (input) => ({
      output: {
        Failed: entriesOf(input).map(({ Id }) => ({ Id, Code: "Weird", SenderFault: true, Message: text, ...body })),
      },
    }));
    const message = outgoing({ body: Buffer.from("canary-plain") });
    const seen = [...(await send(adapter, [message])), ...(await send(adapter, [message, message]))];
    expect(seen.map(({ status }) => status)).toEqual(["rejected", "rejected", "rejected"]);
    expectNoSecret(seen);
    for (const one of seen) expect(inspect(one, { depth: 9 })).not.toContain(TOKEN.slice(3, -2));
  },
);

test.for<readonly [text: string, shown: string]>([
  [
    "User: arn:aws:sts::000000000000:assumed-role/the-role-of-the-worker/i-0 is not authorized to perform: sqs:sendmessage on resource: arn:aws:sqs:eu-central-1:000000000000:a-queue-with-a-long-name",
    "=",
  ],
  ["The security token included in the request is invalid.", "="],
  ["Signature expired: 20260101T000000Z is now earlier than 20260101T001500Z", "="],
  [
    "Value 999999 for parameter VisibilityTimeout is invalid. Reason: too long.",
    "The value for parameter VisibilityTimeout is invalid. Reason: too long.",
  ],
  [
    `The input receipt handle ${"AQEB".repeat(50)} is not a valid receipt handle.`,
    "The input receipt handle … is not a valid receipt handle.",
  ],
  ["first\nsecond", "first"],
  ["a ".repeat(500), `${"a ".repeat(150).trimEnd()}…`],
  ["", ""],
])("of what AWS says, %s", ([text, shown]) => {
  expect(shownText(text)).toBe(shown === "=" ? text : shown);
});

const errorOf = (result: SendResult): unknown =>
  result.status === "rejected" ? result.error : result.status === "unknown" ? result.cause : undefined;

/** What a gateway may answer, and what a hostile server does: no field has the form of AWS's. */
const SHAPES: readonly object[] = [
  { message: { code: 403, text: "blocked" } },
  { message: ["blocked"] },
  { message: 403 },
  { message: true },
  { Message: { toString: 1, valueOf: 1 } },
  { __type: "com.amazonaws.sqs#Weird", message: { toString: 1, valueOf: 1 } },
  { __type: { toString: 1, valueOf: 1 }, message: "no" },
  { code: { toString: 1 }, message: "no", $retryable: { toString: 1, body: "canary" } },
];

describe.for(SHAPES.flatMap((body) => [400, 503].map((status) => ({ status, raw: JSON.stringify(body) }))))(
  "an error in another form than AWS's, %j,",
  (answer) => {
    test("fails a send with a code and a text", async () => {
      const { aws, adapter } = await opened();
      aws.on("SendMessage", () => answer);
      aws.on("SendMessageBatch", () => answer);
      const results = [...(await send(adapter, [outgoing()])), ...(await send(adapter, [outgoing(), outgoing()]))];
      const status = answer.status === 400 ? "rejected" : "unknown";
      expect(results.map((result) => result.status)).toEqual([status, status, status]);
      expectNoSecret(results);
      for (const result of results) expect(errorOf(result)).toMatchObject({ message: expect.any(String) });
    });

    test("stalls polls and deletes, which are made again", async () => {
      const { aws, adapter, receiver, inbox, tokens } = await holding(1);
      aws.next("ReceiveMessage", answer, brings(1, 1, 1));
      aws.next("DeleteMessageBatch", answer);
      expect(await receiver.settle(tokens.map((token) => ({ token, action: "ack" })))).toEqual(["settled"]);
      await eventually(() => inbox.messages.length === 2);
      expect(inbox.causes[0]).toMatchObject({ message: expect.stringContaining('queue "orders"') });
      aws.on("GetQueueAttributes", () => answer);
      const code = answer.status === 400 ? "refused" : "unreachable";
      await expect(adapter.depth(ORDERS)).rejects.toMatchObject({ code });
    });
  },
);

test.for<readonly [form: string, written: (body: string) => string]>([
  ["in a URL", encodeURIComponent],
  ["in a form", (body) => encodeURIComponent(body).replaceAll("%20", "+")],
  ["in base64", (body) => Buffer.from(body).toString("base64")],
  ["in base64, in a longer text", (body) => Buffer.from(`Message=${body}`).toString("base64url")],
  ["in JSON", (body) => JSON.stringify(body).slice(1)],
])("a body that a refusal repeats %s is masked", async ([, written]) => {
  const { aws, adapter } = await opened();
  const existing = new ScriptedAccount(aws);
  existing.topics.set("placed", {});
  existing.queues.set("orders", {});
  for (const body of ["canary: 1, and more", "ü canary ü"]) {
    const message = `bad message ${written(body)}`;
    for (const action of ["SendMessage", "PublishBatch"]) aws.on(action, () => ({ error: "Weird", message }));
    aws.on("SendMessageBatch", (input) => ({
      output: {
        Failed: entriesOf(input).map(({ Id }) => ({ Id, Code: "Weird", SenderFault: true, Message: message })),
      },
    }));
    const one = outgoing({ body: Buffer.from(body) });
    const results = [
      ...(await send(adapter, [one])),
      ...(await send(adapter, [one, one])),
      ...(await send(adapter, [one], { kind: "topic", name: "placed" })),
    ];
    for (const result of results) {
      expect(result).toMatchObject({ status: "rejected", error: { cause: { name: "Weird" } } });
      const { cause } = errorOf(result) as { readonly cause: Error };
      expect(cause.message).toContain("***");
      for (let at = 0; at + 12 <= written(body).length; at++) {
        expect(cause.message).not.toContain(written(body).slice(at, at + 12));
      }
    }
    expectNoSecret(results);
  }
});

test("a start that is refused in another form than AWS's is unauthorized", async () => {
  const { aws, adapter } = await unopened();
  aws.on("ListQueues", () => ({ raw: '{"message":{"code":403}}', status: 403 }));
  const signals = { up() {}, down() {}, blocked() {}, unblocked() {}, notice() {} };
  await expect(adapter.open(signals)).rejects.toMatchObject({ code: "unauthorized" });
});

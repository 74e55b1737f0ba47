import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import { readQuery, writeAnswer, writeError } from "./query-protocol.ts";

/** What the server is asked: the input of a command of SQS or SNS. */
export type Input = Record<string, unknown>;

/**
 * What it says: an output, an error of the service, an answer of whatever stands before it, or nothing at all. An answer
 * that is `broken` never comes to its end, on a connection that stays: its head alone or with one byte, a space now and
 * then, or more and more.
 */
export type Answer =
  | { readonly output: unknown }
  | { readonly broken: "head" | "byte" | "drip" | "endless"; readonly status?: number }
  | { readonly error: string; readonly status?: number; readonly message?: string }
  | { readonly raw: string; readonly status: number }
  | "cut";

/** Answers a request for an action. */
export type Script = (input: Input) => Answer | Promise<Answer>;

/** A server that speaks the JSON protocol of SQS and the query protocol of SNS, and says what it is told to. */
export class ScriptedAws {
  readonly #server = createServer((request, response) => void this.#serve(request, response));
  readonly #scripts = new Map<string, Script>();
  /** What every answer has among its headers from now on. */
  headers: Readonly<Record<string, string>> = {};
  /** Sees the headers of each request, and may answer it before its script does. */
  gate: (headers: IncomingHttpHeaders) => Answer | undefined = () => undefined;
  /** Every request, in order. */
  readonly requests: { readonly action: string; readonly input: Input }[] = [];

  /** Starts it, with every queue that is asked for: it stands, is empty, and takes everything. No topic stands. */
  static async start(): Promise<ScriptedAws> {
    const aws = new ScriptedAws();
    await new Promise<void>((resolve) => aws.#server.listen(0, "127.0.0.1", resolve));
    aws.on("ListQueues", () => ({ output: {} }));
    aws.on("GetQueueUrl", ({ QueueName }) => {
      if (String(QueueName).endsWith(".fifo")) return { error: "QueueDoesNotExist" };
      return { output: { QueueUrl: `${aws.url}/000000000000/${QueueName}` } };
    });
    for (const action of ["SendMessageBatch", "DeleteMessageBatch", "ChangeMessageVisibilityBatch"]) {
      aws.on(action, ({ Entries }) => ({ output: { Successful: entriesOf({ Entries }), Failed: [] } }));
    }
    aws.on("ListTopics", () => ({ output: {} }));
    aws.on("SendMessage", () => ({ output: { MessageId: "aws-id" } }));
    aws.on("ReceiveMessage", async () => {
      // An empty queue keeps a poll waiting, though not for as long as a real one.
      await new Promise((resolve) => setTimeout(resolve, 20));
      return { output: {} };
    });
    return aws;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** How it answers an action from now on. */
  on(action: string, script: Script): void {
    this.#scripts.set(action, script);
  }

  /** How it answers an action, one request after another, and then again as before. */
  next(action: string, ...answers: readonly (Answer | Script)[]): void {
    const before = this.#scripts.get(action);
    const left = [...answers];
    this.on(action, (input) => {
      const answer = left.shift() ?? before;
      if (answer === undefined) return { error: "InvalidAction" };
      return typeof answer === "function" ? answer(input) : answer;
    });
  }

  inputs(action: string): readonly Input[] {
    return this.requests.filter((request) => request.action === action).map(({ input }) => input);
  }

  /** The entries of every batch of an action, one after another. */
  entries(action: string): readonly Input[] {
    return this.inputs(action).flatMap(entriesOf);
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { action, input, speaks } = await readRequest(request);
    this.requests.push({ action, input });
    const gated = this.gate(request.headers);
    const answer = gated ?? (await this.#scripts.get(action)?.(input)) ?? { error: "InvalidAction" };
    for (const [name, value] of Object.entries(this.headers)) response.setHeader(name, value);
    if (answer === "cut") request.socket.destroy();
    else if ("output" in answer) speaks.output(response, answer.output, action);
    else if ("broken" in answer) breakOff(response, answer.broken, answer.status ?? 200);
    else if ("raw" in answer) response.writeHead(answer.status).end(answer.raw);
    else {
      const { error, status = 400, message = "as scripted" } = answer;
      speaks.error(response, status, error, message);
    }
  }
}

const MIB = Buffer.alloc(1024 * 1024, " ");

function breakOff(response: ServerResponse, how: "head" | "byte" | "drip" | "endless", status: number): void {
  response.writeHead(status, { "content-type": "application/x-amz-json-1.0" });
  response.flushHeaders();
  if (how === "byte") response.write("{");
  if (how === "drip") {
    const timer = setInterval(() => response.write(" "), 10);
    response.on("close", () => clearInterval(timer));
  }
  if (how !== "endless") return;
  const more = (): void => {
    while (!response.destroyed && response.write(MIB));
    if (!response.destroyed) response.once("drain", more);
  };
  more();
}

/** How a service answers. */
interface Speech {
  output(response: ServerResponse, output: unknown, action: string): void;
  error(response: ServerResponse, status: number, code: string, message: string): void;
}

const JSON_PROTOCOL: Speech = {
  output: (response, output) => say(response, 200, "application/x-amz-json-1.0", JSON.stringify(output)),
  error: (response, status, code, message) => {
    const body = JSON.stringify({ __type: `com.amazonaws.sqs#${code}`, message });
    say(response, status, "application/x-amz-json-1.0", body);
  },
};

const QUERY_PROTOCOL: Speech = {
  output: (response, output, action) => say(response, 200, "text/xml", writeAnswer(action, output)),
  error: (response, status, code, message) => say(response, status, "text/xml", writeError(code, message)),
};

async function readRequest(
  request: IncomingMessage,
): Promise<{ readonly action: string; readonly input: Input; readonly speaks: Speech }> {
  const body = await text(request);
  const target = request.headers["x-amz-target"];
  if (target === undefined) return { ...readQuery(body), speaks: QUERY_PROTOCOL };
  const action = String(target).replace("AmazonSQS.", "");
  return { action, input: JSON.parse(body || "{}") as Input, speaks: JSON_PROTOCOL };
}

/** The entries of a batch, of SQS or of SNS. */
export function entriesOf({ Entries, PublishBatchRequestEntries = Entries }: Input): readonly Input[] {
  return Array.isArray(PublishBatchRequestEntries) ? (PublishBatchRequestEntries as Input[]) : [];
}

function say(response: ServerResponse, status: number, type: string, body: string): void {
  response.writeHead(status, { "content-type": type }).end(body);
}

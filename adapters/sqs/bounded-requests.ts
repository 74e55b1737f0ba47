import type { Readable } from "node:stream";
import type { SQSClient } from "@aws-sdk/client-sqs";
import { AnswerShapeError } from "./answers.ts";

/** Room for ten messages of 1 MiB of which every character is escaped in JSON. */
const MOST_BYTES = 64 * 1024 * 1024;
const LONGEST_TIMER_MS = 2 ** 31 - 1;

type Handle = SQSClient["config"]["requestHandler"]["handle"];
type Options = { readonly abortSignal?: AbortSignal };

/**
 * Gives every request of a client one deadline, from its start to the last byte of its answer, and its answer a size. The
 * SDK's own deadline ends with the head of an answer: half an answer would never end, and an endless one fill the memory.
 * A request that is over its deadline fails as a `TimeoutError`, and one whose answer is too long as an
 * {@link AnswerShapeError}; its connection is closed.
 */
export function boundRequests({ config: { requestHandler } }: Pick<SQSClient, "config">, timeoutMs: number): void {
  const handle: Handle = requestHandler.handle.bind(requestHandler);
  const limitMs = Math.min(timeoutMs, LONGEST_TIMER_MS);
  requestHandler.handle = (request, options) => bounded(handle, limitMs, request, options as Options);
}

async function bounded(
  handle: Handle,
  timeoutMs: number,
  request: Parameters<Handle>[0],
  options: Options = {},
): ReturnType<Handle> {
  const { abortSignal: given } = options;
  const late = new AbortController();
  const abortSignal = given === undefined ? late.signal : AbortSignal.any([given, late.signal]);
  const { promise: over, reject: end } = Promise.withResolvers<never>();
  const timer = setTimeout(() => {
    // By this name the SDK tries again where it is to.
    end(named("TimeoutError", `no whole answer within ${timeoutMs} ms`));
    late.abort();
  }, timeoutMs);
  const aborted = (): void => end(named("AbortError", "the request was aborted"));
  given?.addEventListener("abort", aborted, { once: true });
  const answer = async (): ReturnType<Handle> => {
    const { response } = await handle(request, { ...options, abortSignal });
    response.body = await wholeBody(response.body as Readable);
    return { response };
  };
  try {
    return await Promise.race([answer(), over]);
  } finally {
    clearTimeout(timer);
    given?.removeEventListener("abort", aborted);
  }
}

function wholeBody(body: Readable): Promise<Uint8Array> {
  const parts: Buffer[] = [];
  let bytes = 0;
  return new Promise((resolve, reject) => {
    body.on("data", (part: Buffer) => {
      parts.push(part);
      bytes += part.length;
      if (bytes <= MOST_BYTES) return;
      parts.length = 0;
      body.destroy(new AnswerShapeError(`what answered is no SQS or SNS: its answer has over ${MOST_BYTES} bytes`));
    });
    body.on("error", reject);
    body.on("end", () => resolve(parts.length === 1 && parts[0] !== undefined ? parts[0] : Buffer.concat(parts)));
  });
}

function named(name: string, message: string): Error {
  return Object.assign(new Error(message), { name });
}

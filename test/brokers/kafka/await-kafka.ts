import { connect } from "node:net";
import { until } from "../until.ts";

/** How long a server may take to start, on a slow machine that does other things as well. */
export const KAFKA_READY_MS = 120_000;

const ANSWER_WITHIN_MS = 5_000;

/** Waits until one of these answers and the cluster has a broker that serves. */
export async function awaitKafka(brokers: readonly string[], deadlineMs: number, signal?: AbortSignal): Promise<void> {
  let turn = 0;
  await until(
    `an answer of Kafka at ${brokers.join(",")}`,
    deadlineMs,
    async () => {
      const address = brokers[turn++ % brokers.length] ?? "";
      if ((await countBrokers(address)) === 0) throw new Error("no broker has registered yet");
    },
    signal,
  );
}

/**
 * Asks for the cluster's brokers, in the words of the protocol: it is one request, and a client library would try again
 * by itself and print what it met.
 */
function countBrokers(address: string): Promise<number> {
  const colon = address.lastIndexOf(":");
  const host = address.slice(0, colon).replace(/^\[|\]$/g, "");
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  const socket = connect(Number(address.slice(colon + 1)), host);
  let answer = Buffer.alloc(0);
  socket.setTimeout(ANSWER_WITHIN_MS, () => socket.destroy(new Error(`no answer within ${ANSWER_WITHIN_MS} ms`)));
  socket.once("connect", () => socket.write(metadataRequest()));
  socket.on("data", (chunk) => {
    answer = Buffer.concat([answer, chunk]);
    // Its size, the number of the request, and how many brokers follow.
    if (answer.length >= 12) resolve(answer.readInt32BE(8));
  });
  socket.once("error", reject);
  socket.once("close", () => reject(new Error("the connection was closed without an answer")));
  return promise.finally(() => socket.destroy());
}

/** Metadata, version 1, of no topic, by a client without a name. */
function metadataRequest(): Buffer {
  const request = Buffer.alloc(18);
  request.writeInt32BE(14, 0);
  request.writeInt16BE(3, 4);
  request.writeInt16BE(1, 6);
  request.writeInt16BE(-1, 12);
  return request;
}

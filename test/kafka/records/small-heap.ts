import { parentPort, workerData } from "node:worker_threads";
import { incomingRecord, routingKeyOf } from "../../../adapters/kafka/message-codec.ts";
import { decode } from "./batches.ts";

// In a thread whose heap is small: reads a batch, and the first of its records as they are delivered.
const { batch, prefetch } = workerData as { readonly batch: Uint8Array; readonly prefetch: number };
let turns = 0;
const beat = setInterval(() => turns++, 0);
const { records, nextOffset, unreadable } = await decode(Buffer.from(batch));
clearInterval(beat);
const routed = records.filter((record) => routingKeyOf(record) !== undefined).length;
const delivered = records
  .slice(0, prefetch)
  .map((record) => incomingRecord({ topic: "t", partition: 0 }, record, 0, 0));
const headers = delivered.map((message) => Object.keys(message.headers).length);
const problems = records.filter(({ problem }) => problem !== undefined).length;
const error = unreadable?.error.message;
parentPort?.postMessage({ records: records.length, nextOffset, error, turns, routed, headers, problems });

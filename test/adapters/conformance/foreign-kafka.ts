import { Kafka, logLevel } from "kafkajs";
import type { KafkaRecord } from "../../../adapters/kafka/index.ts";
import { topicName } from "../../../adapters/kafka/names.ts";
import type { ForeignSender } from "../../../conformance/index.ts";

const VALUE = Buffer.from('{"n":1}');
const KEY = Buffer.of(0, 255, 1);
const HEADERS = { text: Buffer.from("plain"), bytes: Buffer.of(0, 255), empty: Buffer.alloc(0) };

/** kafkajs alone. */
export function foreignOnKafka(brokers: readonly string[]): ForeignSender {
  return {
    async send(name) {
      const topic = topicName({ kind: "queue", name });
      const client = new Kafka({ brokers: [...brokers], logLevel: logLevel.NOTHING });
      const producer = client.producer();
      await producer.connect();
      await producer.send({ topic, messages: [{ key: KEY, value: VALUE, headers: HEADERS }] });
      await producer.disconnect();
      return { key: KEY, value: VALUE, headers: HEADERS };
    },
    read(native) {
      const { key, value, headers } = native as KafkaRecord;
      const given = Object.entries(headers).filter(([name]) => !name.startsWith("anybroker-"));
      return { key, value, headers: Object.fromEntries(given) };
    },
  };
}

import { randomUUID } from "node:crypto";
import { Kafka, logLevel } from "kafkajs";
import { until } from "../until.ts";

/** Names that one suite has for itself, on a broker that all share. */
export interface Namespace {
  /** What the names of topics and groups must begin with. */
  readonly namePrefix: string;
  /** Removes every topic and group with such a name. */
  remove(): Promise<void>;
}

/** Names that no other suite has. */
export function newNamespace(brokers: readonly string[]): Namespace {
  const namePrefix = `test-${randomUUID()}.`;
  return {
    namePrefix,
    remove: () => until("the end of a suite's topics", 180_000, () => removeAll(brokers, namePrefix)),
  };
}

async function removeAll(brokers: readonly string[], namePrefix: string): Promise<void> {
  const kafka = new Kafka({ brokers: [...brokers], clientId: "anybroker-tests", logLevel: logLevel.NOTHING });
  const admin = kafka.admin();
  await admin.connect();
  try {
    const topics = (await admin.listTopics()).filter((topic) => topic.startsWith(namePrefix));
    if (topics.length > 0) await admin.deleteTopics({ topics });
    const { groups } = await admin.listGroups();
    const own = groups.map(({ groupId }) => groupId).filter((group) => group.startsWith(namePrefix));
    if (own.length > 0) await admin.deleteGroups(own);
  } finally {
    await admin.disconnect();
  }
}

import { Kafka, logLevel } from "kafkajs";

/** The topics and groups of one suite. */
export async function existingOnKafka(brokers: readonly string[], namePrefix: string): Promise<readonly string[]> {
  const admin = new Kafka({
    brokers: [...brokers],
    clientId: "anybroker-tests",
    logLevel: logLevel.NOTHING,
  }).admin();
  await admin.connect();
  try {
    const topics = (await admin.listTopics()).map((topic) => `topic ${topic}`);
    const groups = (await admin.listGroups()).groups.map(({ groupId }) => `group ${groupId}`);
    return [...topics, ...groups].filter((name) => name.includes(namePrefix));
  } finally {
    await admin.disconnect();
  }
}

import { findJava } from "../java.ts";
import { mavenJars } from "../maven-jars.ts";
import { KAFKA_VERSION } from "./server-settings.ts";

/** What Kafka 4 needs at least. */
const JAVA_VERSION = 17;

/** What a Kafka can be started with. */
export interface KafkaInstallation {
  /** The program `java`. */
  readonly java: string;
  /** The folder of Kafka's jars. */
  readonly jars: string;
}

/** The machine's Java, and Kafka's jars, fetched through Maven into the cache. Installs nothing. */
export async function findKafka(): Promise<KafkaInstallation> {
  const java = await findJava("Kafka", JAVA_VERSION);
  const jars = await mavenJars(`kafka-${KAFKA_VERSION}`, [
    `org.apache.kafka:kafka_2.13:${KAFKA_VERSION}`,
    // So that the server's log says why it does not start.
    "org.slf4j:slf4j-simple:1.7.36",
  ]);
  return { java, jars };
}

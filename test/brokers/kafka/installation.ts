import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { mavenJars } from "../maven-jars.ts";
import { KAFKA_VERSION } from "./server-settings.ts";

const execute = promisify(execFile);

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
  const java = await findJava();
  const jars = await mavenJars(`kafka-${KAFKA_VERSION}`, [
    `org.apache.kafka:kafka_2.13:${KAFKA_VERSION}`,
    // So that the server's log says why it does not start.
    "org.slf4j:slf4j-simple:1.7.36",
  ]);
  return { java, jars };
}

/** The Java of `JAVA_HOME`, or else of the PATH, that is recent enough. */
async function findJava(): Promise<string> {
  const { JAVA_HOME } = process.env;
  const found: string[] = [];
  for (const java of [...(JAVA_HOME ? [join(JAVA_HOME, "bin/java")] : []), "java"]) {
    const version = await versionOf(java);
    if (version === undefined) continue;
    if (version >= JAVA_VERSION) return java;
    found.push(`${java} is Java ${version}`);
  }
  const what = found.length === 0 ? "neither JAVA_HOME nor the PATH has `java`" : found.join(", ");
  throw new Error(`Kafka needs Java ${JAVA_VERSION} or later: ${what}`);
}

async function versionOf(java: string): Promise<number | undefined> {
  try {
    const { stderr } = await execute(java, ["-version"], { timeout: 30_000 });
    const [, first, second] = /version "(\d+)(?:\.(\d+))?/.exec(stderr) ?? [];
    // Up to 8 it was 1.8.
    return Number(first === "1" ? second : first) || undefined;
  } catch {
    return undefined;
  }
}

import { findJava } from "../java.ts";
import { mavenJars } from "../maven-jars.ts";
import { ELASTICMQ_VERSION } from "./server-settings.ts";

/** What its jars were compiled for. */
const JAVA_VERSION = 11;

/** What an ElasticMQ can be started with. */
export interface ElasticMQInstallation {
  /** The program `java`. */
  readonly java: string;
  /** The folder of ElasticMQ's jars. */
  readonly jars: string;
}

/** The machine's Java, and ElasticMQ's jars, fetched through Maven into the cache. Installs nothing. */
export async function findElasticMQ(): Promise<ElasticMQInstallation> {
  const java = await findJava("ElasticMQ", JAVA_VERSION);
  const jars = await mavenJars(`elasticmq-${ELASTICMQ_VERSION}`, [
    `org.elasticmq:elasticmq-server_2.13:${ELASTICMQ_VERSION}`,
  ]);
  return { java, jars };
}

import { SQS_REGION } from "../sqs/running-sqs.ts";

/** ElasticMQ's release that the suites run against. */
export const ELASTICMQ_VERSION = "1.7.1";

/** The configuration of a server that listens at an address, and keeps its data in files with such a name or nowhere. */
export function serverSettings(host: string, port: number, dataFile: string | undefined): string {
  // A written message is in the file before it is confirmed, not up to half a second later.
  const database = `jdbc:h2:${dataFile};WRITE_DELAY=0;RETENTION_TIME=0`;
  return [
    'include classpath("application.conf")',
    `rest-sqs { bind-hostname = ${JSON.stringify(host)}, bind-port = ${port}, sqs-limits = strict }`,
    // A queue's URL leads where the request for it came in, so that links in between work.
    'node-address { host = "*" }',
    `aws { region = ${SQS_REGION}, accountId = "000000000000" }`,
    ...(dataFile ? [`messages-storage { enabled = true, uri = ${JSON.stringify(database)} }`] : []),
    "",
  ].join("\n");
}

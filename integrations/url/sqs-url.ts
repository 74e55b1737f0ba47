import type { SqsOptions } from "../../adapters/sqs/options.ts";
import { brokerUrl } from "./broker-url.ts";
import { elsewhere, integer, names, text, timeoutMs } from "./parameters.ts";

/** `sqs:`, SQS with SNS. */
export const sqsUrl = brokerUrl<SqsOptions>({
  name: "sqs",
  schemes: ["sqs"],
  form: "sqs://region?endpoint=http://localhost:4566",
  packages: ["@aws-sdk/client-sqs", "@aws-sdk/client-sns"],
  parameters: {
    endpoint: text(),
    snsEndpoint: text(),
    namePrefix: text(),
    visibilityTimeoutMs: integer(1_000, 12 * 60 * 60 * 1_000),
    waitSeconds: integer(1, 20),
    maxPolls: integer(1, 1_000),
    maxReceives: integer(1, 1_000),
    retentionSeconds: integer(60, 1_209_600),
    queueAttributes: names(text()),
    topicAttributes: names(text()),
    connectTimeoutMs: timeoutMs(),
    requestTimeoutMs: timeoutMs(),
    region: elsewhere("it is the host of the URL, as in sqs://eu-central-1"),
    credentials: elsewhere(
      "write sqs://access-key-id:secret-access-key@region for fixed ones; others are given as { sqs: { credentials } } to fromUrl, or found by the AWS SDK",
    ),
  },
  read({ username, password, hosts, path }, given, refuse) {
    if (!/^[A-Za-z0-9-]*$/.test(hosts)) {
      throw refuse("takes a region as its host, as in sqs://eu-central-1; a server is given as ?endpoint=http://…");
    }
    if (path !== "" && path !== "/") throw refuse("takes no path; queues are named by queue(…) and topic(…)");
    if ((username === undefined) !== (password === undefined)) {
      throw refuse("needs both an access key id and a secret access key before its region, or neither");
    }
    return {
      ...given,
      ...(hosts === "" ? {} : { region: hosts }),
      ...(username === undefined || password === undefined
        ? {}
        : { credentials: { accessKeyId: username, secretAccessKey: password } }),
    };
  },
  load: async () => (await import("../../adapters/sqs/index.ts")).sqs,
});

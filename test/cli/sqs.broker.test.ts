import { afterAll, beforeAll } from "vitest";
import { describeFauxqs } from "../brokers/suite.ts";
import { fauxqsEnvironment } from "../examples/fauxqs-environment.ts";
import { verbsSuite } from "./verbs-on-broker.ts";

describeFauxqs("the command line on SQS and SNS", (broker) => {
  const place = broker.newNamespace();
  const { BROKER_URL = "", ...credentials } = fauxqsEnvironment(broker);
  const before = { ...process.env };
  beforeAll(() => Object.assign(process.env, credentials));
  afterAll(async () => {
    for (const name of Object.keys(credentials)) {
      if (before[name] === undefined) delete process.env[name];
      else process.env[name] = before[name];
    }
    await place.remove();
  });
  verbsSuite({
    adapter: "sqs",
    url: () => `${BROKER_URL}&namePrefix=${place.namePrefix}`,
    prefix: "",
    server: { version: null, servers: null },
    consumers: null,
    watchesQueues: false,
  });
});

import { expect, test } from "vitest";
import { useVirtualHost } from "../adapters/conformance/virtual-host.ts";
import { describeFauxqs, describeKafka, describeRabbitMQ } from "../brokers/suite.ts";
import { rowOf } from "./exactly-once-charge-books.ts";
import { fauxqsEnvironment } from "./fauxqs-environment.ts";
import { expectDispatchToClose, useDispatch } from "./ride-dispatch-ledger.ts";

// An emulator is slow.
const RIDES = 400;

describeRabbitMQ("rides are matched on RabbitMQ", (rabbitmq) => {
  const place = useVirtualHost(rabbitmq);
  describeKafka("audited on Kafka", (kafka) => {
    describeFauxqs("and receipted on SQS", (fauxqs) => {
      const dispatch = useDispatch();

      test("in one process, and the audit is recomputed from the log", { timeout: 600_000 }, async () => {
        const { BROKER_URL: RECEIPTS_URL = "", ...credentials } = fauxqsEnvironment(fauxqs);
        const urls = { MATCHING_URL: place().url, AUDIT_URL: kafka.url, RECEIPTS_URL };
        const output = await dispatch(RIDES, { ...credentials, ...urls });
        expect(output).toContain("matching on rabbitmq, audit on kafka, receipts on sqs\n");
        expectDispatchToClose(output, RIDES);
        expect(output).toContain("the audit was rewound by a day, and recomputed from kafka\n");
        expect(rowOf(output, "rides in the recomputed audit")).toBe(RIDES);
        expect(rowOf(output, "drivers whose earnings differ")).toBe(0);
      });
    });
  });
});

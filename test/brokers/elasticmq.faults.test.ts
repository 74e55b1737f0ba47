import { CreateQueueCommand, GetQueueAttributesCommand, GetQueueUrlCommand } from "@aws-sdk/client-sqs";
import { expect, test } from "vitest";
import { clientOf, sqsCases } from "./sqs/cases.ts";
import { controlsOrNotRun, describeElasticMQ } from "./suite.ts";

describeElasticMQ("ElasticMQ to test against", (broker) => {
  sqsCases(broker);

  test("every queue is there again when a restart is over, with what was set", async (context) => {
    const controls = controlsOrNotRun(broker, context);
    const place = broker.newNamespace();
    const client = clientOf(broker);
    const names = Array.from({ length: 20 }, (_, index) => `${place.namePrefix}${index}.fifo`);
    try {
      for (const QueueName of names) {
        const Attributes = { FifoQueue: "true", VisibilityTimeout: "7" };
        await client.send(new CreateQueueCommand({ QueueName, Attributes }));
      }
      await controls.restart();
      for (const QueueName of names) {
        const { QueueUrl } = await client.send(new GetQueueUrlCommand({ QueueName }));
        const found = await client.send(new GetQueueAttributesCommand({ QueueUrl, AttributeNames: ["All"] }));
        expect(found.Attributes).toMatchObject({ FifoQueue: "true", VisibilityTimeout: "7" });
      }
    } finally {
      client.destroy();
      await place.remove();
    }
  });
});

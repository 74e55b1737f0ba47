import type { Adapter } from "../../core/index.ts";
import { type BrokerBindings, plainBindings } from "./broker-bindings.ts";
import { kafkaBindingsUnder } from "./kafka-bindings.ts";
import { amqpBindings } from "./rabbitmq-bindings.ts";
import { sqsBindingsUnder } from "./sqs-bindings.ts";

/** The bindings of an adapter's broker, under the names that this adapter gives; plain ones for a broker not known here. */
export function bindingsOfAdapter(adapter: Adapter): BrokerBindings {
  const physicalName = adapter.physicalName.bind(adapter);
  switch (adapter.name) {
    case "rabbitmq":
      return amqpBindings(physicalName);
    case "kafka":
      return kafkaBindingsUnder(physicalName);
    case "sqs":
      return sqsBindingsUnder(physicalName);
    default:
      return { ...plainBindings(), physicalName };
  }
}

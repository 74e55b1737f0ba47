export { asyncapi } from "./asyncapi.ts";
export {
  type BrokerBindings,
  type BrokerChannel,
  type BrokerMessages,
  type DescribedDestination,
  type KafkaBindingsOptions,
  kafkaBindings,
  type RabbitMQBindingsOptions,
  rabbitmqBindings,
  type SqsBindingsOptions,
  sqsBindings,
} from "./bindings.ts";
export type { AsyncApiDocument, AsyncApiInfo, AsyncApiServer, JsonObject, JsonValue } from "./document.ts";
export type { AsyncApiAction, AsyncApiOptions } from "./options.ts";

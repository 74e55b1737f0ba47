export { asyncapi } from "./asyncapi.ts";
export type { BrokerBindings, BrokerChannel, BrokerMessages, DescribedDestination } from "./bindings.ts";
export {
  type KafkaBindingsOptions,
  kafkaBindings,
  type RabbitMQBindingsOptions,
  rabbitmqBindings,
  type SqsBindingsOptions,
  sqsBindings,
} from "./bindings.ts";
export type { AsyncApiDocument, AsyncApiInfo, AsyncApiServer, JsonObject, JsonValue } from "./document.ts";
export type { AsyncApiAction, AsyncApiOptions } from "./options.ts";

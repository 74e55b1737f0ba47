export { type AsyncApiAction, type AsyncApiOptions, asyncapi } from "./asyncapi.ts";
export {
  type AsyncApiDocument,
  type AsyncApiInfo,
  type AsyncApiServer,
  type BrokerBindings,
  type BrokerChannel,
  type BrokerMessages,
  type DescribedDestination,
  type JsonObject,
  type JsonValue,
  type KafkaBindingsOptions,
  kafkaBindings,
  type RabbitMQBindingsOptions,
  rabbitmqBindings,
  type SqsBindingsOptions,
  sqsBindings,
} from "./bindings.ts";

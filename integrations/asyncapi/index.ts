export { asyncapi } from "./asyncapi.ts";
export type { BrokerBindings, BrokerChannel, BrokerMessages, DescribedDestination } from "./broker-bindings.ts";
export type { AsyncApiDocument, AsyncApiInfo, AsyncApiServer, JsonObject, JsonValue } from "./document.ts";
export { type KafkaBindingsOptions, kafkaBindings } from "./kafka-bindings.ts";
export type { AsyncApiAction, AsyncApiOptions } from "./options.ts";
export { type RabbitMQBindingsOptions, rabbitmqBindings } from "./rabbitmq-bindings.ts";
export { type SqsBindingsOptions, sqsBindings } from "./sqs-bindings.ts";

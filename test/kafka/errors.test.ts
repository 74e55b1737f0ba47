import { expect, test } from "vitest";
import { operationError } from "../../adapters/kafka/errors.ts";

test.for([
  ["TOPIC_AUTHORIZATION_FAILED", 'look at topic "t"', "grant the user Describe on the topic"],
  ["TOPIC_AUTHORIZATION_FAILED", 'write to topic "t", partition 0', "grant the user Write on the topic"],
  ["TOPIC_AUTHORIZATION_FAILED", 'create topic "t"', "grant the user Create on the topic"],
  [
    "TOPIC_AUTHORIZATION_FAILED",
    'describe the configuration of topic "t"',
    "grant the user DescribeConfigs on the topic",
  ],
  ["TOPIC_AUTHORIZATION_FAILED", 'delete records of partition 0 of topic "t"', "grant the user Delete on the topic"],
  ["GROUP_AUTHORIZATION_FAILED", 'fetch the offsets of group "g"', "grant the user Describe on the group"],
  ["GROUP_AUTHORIZATION_FAILED", 'commit offsets for group "g"', "grant the user Read on the group"],
  ["CLUSTER_AUTHORIZATION_FAILED", "get an identity for producing", "grant the user IdempotentWrite on the cluster"],
  ["SASL_AUTHENTICATION_FAILED", 'look at topic "t"', "check the login"],
] as const)("%s to %s names what is lacking", ([error, what, next]) => {
  const { code, message } = operationError(error, what, "try again");
  expect(code).toBe("unauthorized");
  expect(message).toBe(`Kafka refused to ${what} (${error}); ${next}`);
});

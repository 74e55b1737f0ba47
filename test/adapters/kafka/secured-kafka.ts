import kafkajs, { type Admin } from "kafkajs";
import { kafka } from "../../../adapters/kafka/index.ts";
import { startContainer } from "../../brokers/container.ts";
import { KAFKA_IMAGE } from "../../brokers/kafka/docker.ts";
import { HEAP_OPTIONS, serverSettings } from "../../brokers/kafka/server-settings.ts";
import { until } from "../../brokers/until.ts";

const { AclOperationTypes, AclPermissionTypes, AclResourceTypes, ResourcePatternTypes } = kafkajs;
const CLIENTS_PORT = 9092;
/** The name of the one cluster that there is. */
const CLUSTER = "kafka-cluster";

/** The rights that Kafka gives on topics, groups and itself. */
type Right = "Create" | "Delete" | "Describe" | "DescribeConfigs" | "Read" | "Write";

const OPERATIONS: Readonly<Record<Right, number>> = {
  Create: AclOperationTypes.CREATE,
  Delete: AclOperationTypes.DELETE,
  Describe: AclOperationTypes.DESCRIBE,
  DescribeConfigs: AclOperationTypes.DESCRIBE_CONFIGS,
  Read: AclOperationTypes.READ,
  Write: AclOperationTypes.WRITE,
};

/** A Kafka where everybody logs in, and may do only what was granted. */
export interface SecuredKafka {
  as(username: string): { readonly brokers: string; readonly sasl: PlainLogin };
  /** Rights by the names of topics and groups, of which `*` is every one, and on the cluster. */
  grant(username: string, rights: Rights): Promise<void>;
  stop(): Promise<void>;
}

interface Rights {
  readonly topics?: Grants;
  readonly groups?: Grants;
  readonly cluster?: readonly Right[];
}

type Grants = Readonly<Record<string, readonly Right[]>>;

interface PlainLogin {
  readonly mechanism: "plain";
  readonly username: string;
  readonly password: string;
}

/** Starts one in a container, with these users. */
export async function startSecuredKafka(usernames: readonly string[]): Promise<SecuredKafka> {
  const { host, hostPorts, guard } = await startContainer({
    image: KAFKA_IMAGE,
    ports: [CLIENTS_PORT],
    environment: (host, [port]) => variables(settings(`${host}:${port}`, ["admin", ...usernames])),
  });
  const brokers = `${host}:${hostPorts[0]}`;
  const as: SecuredKafka["as"] = (username) => {
    return { brokers, sasl: { mechanism: "plain", username, password: passwordOf(username) } };
  };
  let admin: Admin | undefined;
  try {
    admin = await until("a login", 120_000, async () => {
      const client = kafka(as("admin"))
        .kafkajs()
        .admin({ retry: { retries: 0 } });
      await client.connect();
      await client.describeCluster();
      return client;
    });
  } catch (error) {
    await guard.release();
    throw error;
  }
  const owner = admin;
  const rules = (username: string, resourceType: number, grants: Grants = {}) =>
    Object.entries(grants).flatMap(([resourceName, rights]) =>
      rights.map((right) => ({
        resourceType,
        resourceName,
        resourcePatternType: ResourcePatternTypes.LITERAL,
        principal: `User:${username}`,
        host: "*",
        operation: OPERATIONS[right],
        permissionType: AclPermissionTypes.ALLOW,
      })),
    );
  return {
    as,
    grant: async (username, { topics, groups, cluster }) => {
      const acl = [
        ...rules(username, AclResourceTypes.TOPIC, topics),
        ...rules(username, AclResourceTypes.GROUP, groups),
        ...rules(username, AclResourceTypes.CLUSTER, cluster && { [CLUSTER]: cluster }),
      ];
      await owner.createAcls({ acl });
    },
    stop: async () => {
      await owner.disconnect();
      await guard.release();
    },
  };
}

function passwordOf(username: string): string {
  return `${username}-canary-password`;
}

function settings(advertised: string, usernames: readonly string[]): ReadonlyMap<string, string> {
  const users = usernames.map((name) => `user_${name}="${passwordOf(name)}"`).join(" ");
  const plain = serverSettings(
    {
      clients: { bound: `0.0.0.0:${CLIENTS_PORT}`, advertised },
      linked: { bound: "0.0.0.0:9095", advertised: "localhost:9095" },
      itself: "localhost:9094",
      controller: "localhost:9093",
    },
    "/tmp/kafka-data",
  );
  return new Map([
    ...plain,
    ["listener.security.protocol.map", "CLIENTS:SASL_PLAINTEXT,LINKED:PLAINTEXT,ITSELF:PLAINTEXT,CONTROLLER:PLAINTEXT"],
    ["sasl.enabled.mechanisms", "PLAIN"],
    ["authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"],
    ["super.users", "User:admin;User:ANONYMOUS"],
    [
      "listener.name.clients.plain.sasl.jaas.config",
      `org.apache.kafka.common.security.plain.PlainLoginModule required ${users};`,
    ],
  ]);
}

/** Settings as the image takes them: `a.b` is `KAFKA_A_B`. */
function variables(given: ReadonlyMap<string, string>): Record<string, string> {
  const named = [...given].map(([name, value]) => [`KAFKA_${name.replaceAll(".", "_").toUpperCase()}`, value]);
  return { KAFKA_HEAP_OPTS: HEAP_OPTIONS.join(" "), ...Object.fromEntries(named) };
}

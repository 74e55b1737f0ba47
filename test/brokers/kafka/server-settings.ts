/** Kafka's release that the suites run against. */
export const KAFKA_VERSION = "4.3.1";

/** Addresses of the server's listeners, as in `127.0.0.1:9092`. */
export interface Listeners {
  /** For clients: where it listens, and where it says that it is. */
  readonly clients: Listener;
  /** For clients that come through a link. */
  readonly linked: Listener;
  /** For what the server asks of itself, which must not depend on how the others are reached. */
  readonly itself: string;
  readonly controller: string;
}

interface Listener {
  readonly bound: string;
  readonly advertised: string;
}

/** The settings of a server that is broker and controller in one, and that suits tests. */
export function serverSettings(listeners: Listeners, dataFolder: string): ReadonlyMap<string, string> {
  const { clients, linked, itself, controller } = listeners;
  return new Map(
    Object.entries({
      "process.roles": "broker,controller",
      "node.id": "1",
      "controller.quorum.voters": `1@${controller}`,
      "controller.listener.names": "CONTROLLER",
      "inter.broker.listener.name": "ITSELF",
      listeners: `CLIENTS://${clients.bound},LINKED://${linked.bound},ITSELF://${itself},CONTROLLER://${controller}`,
      "advertised.listeners": `CLIENTS://${clients.advertised},LINKED://${linked.advertised},ITSELF://${itself}`,
      "listener.security.protocol.map": "CLIENTS:PLAINTEXT,LINKED:PLAINTEXT,ITSELF:PLAINTEXT,CONTROLLER:PLAINTEXT",
      "log.dirs": dataFolder,
      // What a topic is, and that there is one, is for the tests to say.
      "auto.create.topics.enable": "false",
      "delete.topic.enable": "true",
      // One server has one copy, and few partitions of its own topics make it quick to start.
      "default.replication.factor": "1",
      "offsets.topic.replication.factor": "1",
      "offsets.topic.num.partitions": "4",
      "transaction.state.log.replication.factor": "1",
      "transaction.state.log.min.isr": "1",
      "transaction.state.log.num.partitions": "4",
      "share.coordinator.state.topic.replication.factor": "1",
      "share.coordinator.state.topic.min.isr": "1",
      "share.coordinator.state.topic.num.partitions": "4",
      // Members of groups join without waiting for others, and may ask to be given up on soon.
      "group.initial.rebalance.delay.ms": "0",
      "group.min.session.timeout.ms": "1000",
      // A server that was killed is let in again when the controller has given up on its former self.
      "broker.heartbeat.interval.ms": "500",
      "broker.session.timeout.ms": "3000",
    }),
  );
}

/** A JVM that leaves room for the tests. */
export const HEAP_OPTIONS = ["-Xms256m", "-Xmx512m"] as const;

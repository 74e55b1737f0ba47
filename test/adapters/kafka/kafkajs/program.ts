import { batchOf, connectionTo, refusal } from "./wire.ts";

// Every kind of socket, requests side by side, a failure and a close, in a process of its own.
const [brokers = "", topic = ""] = process.argv.slice(2);
const connection = connectionTo(brokers.split(","));
await connection.connect();
const { topics } = await connection.metadata([topic]);
const topicId = topics[0]?.id ?? "";
await Promise.all(["a", "b", "c"].map((value) => connection.produce(1, [batchOf(topic, 0, value)], 5_000)));
const partitions = [{ topic, topicId, partition: 0, offset: 0, maxBytes: 1_000 }];
await connection.fetch(1, { maxWaitMs: 100, minBytes: 1, maxBytes: 1_000, partitions });
const timeouts = { sessionTimeoutMs: 6_000, rebalanceTimeoutMs: 6_000 };
await connection.joinGroup(1, { group: topic, memberId: "", protocol: "p", metadata: Buffer.alloc(0), ...timeouts });
await refusal(connectionTo(["127.0.0.1:1"]).connect());
const [listed] = await connection.listOffsets(1, [{ topic, partition: 0, at: "latest" }]);
const end = [{ topic, topicId, partition: 0, offset: listed?.offset ?? 0, maxBytes: 1_000 }];
const polling = refusal(connection.fetch(1, { maxWaitMs: 600_000, minBytes: 1, maxBytes: 1_000, partitions: end }));
// Nothing of it is to hold the process up.
const unopened = connectionTo(brokers.split(","), { connectionTimeoutMs: 600_000 });
const connecting = refusal(unopened.connect());
await Promise.all([connection.close(), unopened.close()]);
await Promise.all([polling, connecting]);
process.stdout.write("done\n");

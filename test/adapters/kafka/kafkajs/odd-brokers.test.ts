import { describe, expect, test } from "vitest";
import { freePort } from "../../../brokers/free-port.ts";
import { API, cluster, type Reply, type Script, scriptedBroker, versions } from "./scripted-broker.ts";
import { batchOf, connectionTo, refusal } from "./wire.ts";

const SHORT = { connectionTimeoutMs: 2_000, requestTimeoutMs: 2_000 };
const produced =
  (error: number, offset: bigint): Reply =>
  (to) => {
    to.writeInt32(1).writeString("t").writeInt32(1).writeInt32(0).writeInt16(error);
    to.writeInt64(offset).writeInt64(-1).writeInt64(0).writeInt32(0);
  };

describe("brokers that answer in odd ways", () => {
  /** What comes of producing to a broker that answers so, at first; then well. */
  async function produce(...replies: Reply[]) {
    const { port } = await scriptedBroker(({ key }) =>
      key === API.produce ? (replies.shift() ?? produced(0, 7n)) : undefined,
    );
    const connection = connectionTo([`127.0.0.1:${port}`], SHORT);
    const send = () => connection.produce(1, [batchOf("t", 0, "x")], 100);
    return { connection, send };
  }

  test("an error that kafkajs does not know has its number for a name", async () => {
    const { connection, send } = await produce(produced(119, -1n));
    expect(await send()).toEqual([{ topic: "t", partition: 0, error: "UNKNOWN_119", baseOffset: -1 }]);
    await connection.close();
  });

  test.for<[string, Reply]>([
    ["is cut short", (to) => to.writeInt32(1).writeString("t").writeInt32(1)],
    ["says nothing of what was asked", (to) => to.writeInt32(0).writeInt32(0)],
    ["has an offset beyond safe integers", produced(0, 2n ** 53n)],
    ["is the end of the connection", "close"],
  ])("an answer that %s is none: unreachable, and the next goes over a new connection", async ([, reply]) => {
    const { connection, send } = await produce(reply);
    expect(await refusal(send())).toMatchObject({ code: "unreachable" });
    expect(await send()).toMatchObject([{ error: undefined, baseOffset: 7 }]);
    await connection.close();
  });

  test("a broker that names itself by an address that does not lead to it is named with the one that does", async () => {
    const wrong = await freePort();
    const { port } = await scriptedBroker(({ key }) =>
      key === API.metadata ? (to) => cluster(to, "127.0.0.1", wrong) : undefined,
    );
    const connection = connectionTo([`127.0.0.1:${port}`], SHORT);
    const { message } = await refusal(connection.produce(1, [batchOf("t", 0, "x")], 100));
    expect(message).toContain(`Kafka at 127.0.0.1:${wrong} cannot be reached (ECONNREFUSED)`);
    expect(message).toContain(
      `Kafka at 127.0.0.1:${port} names it so in its metadata: check advertised.listeners there`,
    );
    await connection.close();
  });

  test("requests leave in the order in which they were made, whatever their size", async () => {
    const { port, asked } = await scriptedBroker(({ key }) => (key === API.produce ? produced(0, 0n) : undefined));
    const connection = connectionTo([`127.0.0.1:${port}`]);
    const batches = [10, 3_000_000, 5, 400_000, 20, 30].map((size) => batchOf("t", 0, "x".repeat(size)));
    const sendAll = () => batches.map((batch) => connection.produce(1, [batch], 100));
    // Some before it is open, some as soon as it is.
    const [first, ...others] = sendAll();
    const second = first?.then(() => Promise.all(sendAll()));
    await Promise.all([...others, second]);
    const around = 27;
    const lengths = asked.filter(({ key }) => key === API.produce).map(({ body }) => body.length - around);
    const made = batches.map(({ batch }) => batch.length);
    expect(lengths).toEqual([...made, ...made]);
    await connection.close();
  });

  test("a request that the server does not speak is unsupported, by name", async () => {
    for (const spoken of [
      [0, 6],
      [9, 13],
    ] as const) {
      const { port } = await scriptedBroker(({ key }) =>
        key === API.apiVersions ? versions({ [API.produce]: spoken }) : undefined,
      );
      const connection = connectionTo([`127.0.0.1:${port}`], SHORT);
      await connection.connect();
      const error = await refusal(connection.produce(1, [batchOf("t", 0, "x")], 100));
      expect(error).toMatchObject({
        code: "unsupported",
        message: expect.stringMatching(/speaks Produce in versions/) as string,
      });
      await connection.close();
    }
  });

  test.for<[string, number, readonly [number, number]]>([
    ["Fetch", 1, [4, 12]],
    ["Metadata", 3, [0, 9]],
  ])(
    "a server that cannot tell topics from others of their names is refused at once: %s",
    async ([name, key, spoken]) => {
      const { port } = await scriptedBroker((asked) =>
        asked.key === API.apiVersions ? versions({ [key]: spoken }) : undefined,
      );
      const connection = connectionTo([`127.0.0.1:${port}`, `localhost:${port}`], SHORT);
      const error = await refusal(connection.connect());
      expect(error.code).toBe("unsupported");
      expect(error.message).toContain(`speaks ${name} in versions ${spoken[0]} to ${spoken[1]}`);
      expect(error.message).toContain("Kafka 3.1 or later");
      await connection.close();
    },
  );

  test("a server that is no Kafka is unreachable", async () => {
    const silent = await scriptedBroker(() => "nothing");
    const rude = await scriptedBroker(() => "close");
    const garbled = await scriptedBroker(() => (to) => to.writeInt16(0).writeInt32(1_000_000));
    for (const { port } of [silent, rude, garbled]) {
      const connection = connectionTo([`127.0.0.1:${port}`], { ...SHORT, connectionTimeoutMs: 500 });
      expect(await refusal(connection.connect())).toMatchObject({ code: "unreachable" });
      await connection.close();
    }
  });

  test("a broker whose address changed is looked for again", async () => {
    let home = 0;
    const metadata: Reply = (to) => cluster(to, "127.0.0.1", home);
    const script: Script = ({ key }) =>
      key === API.metadata ? metadata : key === API.produce ? produced(0, 7n) : undefined;
    const [seed, moved] = [await scriptedBroker(script), await scriptedBroker(script)];
    home = 1;
    const connection = connectionTo([`127.0.0.1:${seed.port}`], SHORT);
    const send = () => connection.produce(1, [batchOf("t", 0, "x")], 100);
    expect(await refusal(send())).toMatchObject({ code: "unreachable" });
    home = moved.port;
    expect(await send()).toMatchObject([{ error: undefined }]);
    await connection.close();
  });

  test("addresses may be of IPv6", async () => {
    const { port } = await scriptedBroker(({ key }) => (key === API.produce ? produced(0, 7n) : undefined), {
      host: "::1",
    });
    const connection = connectionTo([`[::1]:${port}`], SHORT);
    expect(await connection.produce(1, [batchOf("t", 0, "x")], 100)).toMatchObject([{ error: undefined }]);
    await connection.close();
  });
});

import { generateKeyPairSync } from "node:crypto";
import { inspect } from "node:util";
import type { SASLOptions } from "kafkajs";
import { describe, expect, test } from "vitest";
import { KafkaAdapter } from "../../../../adapters/kafka/adapter.ts";
import { type KafkaJsConfiguration, kafkaJsClient } from "../../../../adapters/kafka/kafkajs/cluster-connection.ts";
import { isMessagingError, type MessagingError } from "../../../../core/errors.ts";
import { topicId } from "../../../kafka/topic-ids.ts";
import { API, type Asked, type Reply, type Script, scriptedBroker } from "./scripted-broker.ts";
import { connectionTo, refusal } from "./wire.ts";

const CANARY = "canary-7d41";
const NUMBER = 74_175_913;
const PLAIN: SASLOptions = { mechanism: "plain", username: "ada", password: CANARY };
/** Longer than an answer takes, however busy the machine is. */
const PATIENT = { connectionTimeoutMs: 60_000, requestTimeoutMs: 60_000 };
/** For what gets no answer at all. */
const SHORT = { connectionTimeoutMs: 500, requestTimeoutMs: 500 };

function encryptedKey(): string {
  const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2_048 });
  return String(privateKey.export({ type: "pkcs1", format: "pem", cipher: "aes-128-cbc", passphrase: CANARY }));
}

function expectNoSecret(error: MessagingError, secret = CANARY): void {
  expect(inspect(error, { depth: 10, showHidden: true })).not.toContain(secret);
  expect(`${error.stack}${String((error.cause as Error | undefined)?.stack)}`).not.toContain(secret);
}

/** Lets everybody say who they are by the mechanism, and then does as told. */
function login(mechanism: string, authenticate: (asked: Asked) => Reply | undefined): Script {
  return (asked) => {
    if (asked.key === API.saslHandshake) return (to) => to.writeInt16(0).writeInt32(1).writeString(mechanism);
    return asked.key === API.saslAuthenticate ? authenticate(asked) : undefined;
  };
}

const refused =
  (words: string): Reply =>
  (to) => {
    to.writeInt16(58).writeString(words).writeBytes(Buffer.alloc(0)).writeInt64(0);
  };
const accepted: Reply = (to) => to.writeInt16(0).writeString(null).writeBytes(Buffer.alloc(0)).writeInt64(0);

describe("a login", () => {
  async function connect(script: Script, sasl: SASLOptions, given: Partial<KafkaJsConfiguration> = {}) {
    const { port, asked } = await scriptedBroker(script);
    const connection = connectionTo([`127.0.0.1:${port}`], { ...PATIENT, sasl, ...given });
    return { connection, asked, done: connection.connect().finally(() => connection.close()) };
  }

  test("with the right password is let in, on every socket", async () => {
    const { port, asked } = await scriptedBroker(login("PLAIN", () => accepted));
    const connection = connectionTo([`127.0.0.1:${port}`], { ...PATIENT, sasl: PLAIN });
    await connection.metadata([]);
    const partitions = [{ topic: "t", topicId: topicId("t"), partition: 0, offset: 0, maxBytes: 1 }];
    const fetched = refusal(connection.fetch(1, { maxWaitMs: 0, minBytes: 0, maxBytes: 1, partitions }));
    await expect.poll(() => asked.some(({ key }) => key === 1)).toBe(true);
    await connection.close();
    await fetched;
    const logins = asked.filter(({ key }) => key === API.saslAuthenticate);
    expect(logins.length).toBe(2);
    for (const { body } of logins) expect(body.subarray(4).toString()).toBe(`\0ada\0${CANARY}`);
    // kafkajs would keep things in it.
    expect(PLAIN).toEqual({ mechanism: "plain", username: "ada", password: CANARY });
  });

  test.for<["utf8" | "base64" | "base64url" | "hex", SASLOptions]>(
    (["utf8", "base64", "base64url", "hex"] as const).flatMap((encoding) =>
      [
        PLAIN,
        { mechanism: "oauthbearer", oauthBearerProvider: async () => ({ value: CANARY }) } as const,
        { mechanism: "aws", authorizationIdentity: "a", accessKeyId: "b", secretAccessKey: CANARY } as const,
      ].map((sasl): ["utf8" | "base64" | "base64url" | "hex", SASLOptions] => [encoding, sasl]),
    ),
  )("that the server quotes in %s leaves no word of the server, only its error", async ([encoding, sasl]) => {
    let said = "";
    const quoting = ({ body }: Asked): Reply => {
      said = `cannot take ${body.subarray(4).toString(encoding)}`;
      return refused(said);
    };
    const error = await refusal((await connect(login(sasl.mechanism.toUpperCase(), quoting), sasl)).done);
    expect(error).toMatchObject({
      code: "unauthorized",
      message: expect.stringContaining("(SASL_AUTHENTICATION_FAILED)"),
    });
    expect(inspect(error, { depth: 10, showHidden: true })).not.toContain("cannot take");
    expect(said).not.toBe("");
  });

  test("of kafkajs' own client leaves no word of the server either", async () => {
    const sasl = { mechanism: "plain", username: "ada", password: CANARY } as const;
    const quoting = ({ body }: Asked): Reply => refused(`cannot take ${body.toString("base64")}`);
    const { port } = await scriptedBroker(login("PLAIN", quoting));
    const adapter = new KafkaAdapter({ brokers: `127.0.0.1:${port}`, sasl });
    for (const work of [
      () => adapter.list(),
      () => adapter.remove({ mode: "create", queues: [], topics: [], subscriptions: [] }),
    ]) {
      const error = await refusal(work());
      expect(error.code).toBe("unauthorized");
      expect(inspect(error, { depth: 10, showHidden: true })).not.toContain("cannot take");
    }
  });

  test.for<[string, Script, SASLOptions]>([
    ["a password that is refused", login("PLAIN", () => refused("Authentication failed")), PLAIN],
    ["a password that the server repeats", login("PLAIN", () => refused(`no such password: ${CANARY}`)), PLAIN],
    ["a mechanism that the server does not take", login("GSSAPI", () => accepted), PLAIN],
    [
      "a listener without logins",
      ({ key }) => (key === API.saslHandshake ? (to) => to.writeInt16(34).writeInt32(0) : undefined),
      PLAIN,
    ],
    ["SCRAM that is refused", login("SCRAM-SHA-256", () => refused("no")), { ...PLAIN, mechanism: "scram-sha-256" }],
    [
      "a server that does not prove itself",
      login(
        "SCRAM-SHA-512",
        () => (to) =>
          to
            .writeInt16(0)
            .writeString(null)
            .writeBytes(Buffer.from(`r=${CANARY}`))
            .writeInt64(0),
      ),
      { ...PLAIN, mechanism: "scram-sha-512" },
    ],
    [
      "a token that is refused",
      login("OAUTHBEARER", () => refused("invalid_token")),
      { mechanism: "oauthbearer", oauthBearerProvider: async () => ({ value: CANARY }) },
    ],
    [
      "a token that is refused by a challenge",
      login("OAUTHBEARER", () => (to) => {
        const challenge = Buffer.from('{"status":"invalid_token"}');
        to.writeInt16(0).writeString(null).writeBytes(challenge).writeInt64(0);
      }),
      { mechanism: "oauthbearer", oauthBearerProvider: async () => ({ value: CANARY }) },
    ],
    [
      "a provider that fails",
      login("OAUTHBEARER", () => accepted),
      {
        mechanism: "oauthbearer",
        oauthBearerProvider: () => Promise.reject(Object.assign(new Error(CANARY), { request: CANARY })),
      },
    ],
  ])("with %s is unauthorized, and keeps the secret", async ([, script, sasl]) => {
    const { done } = await connect(script, sasl);
    const error = await refusal(done);
    expect(error.code).toBe("unauthorized");
    expectNoSecret(error);
  });

  test("with a token that the server takes is let in", async () => {
    const oauthBearerProvider = async () => ({ value: CANARY });
    const { done } = await connect(
      login("OAUTHBEARER", () => accepted),
      { mechanism: "oauthbearer", oauthBearerProvider },
    );
    await done;
  });

  test.for<[string, Script, Partial<KafkaJsConfiguration>]>([
    ["gets no answer", login("PLAIN", () => "nothing"), SHORT],
    ["ends with the connection", login("PLAIN", () => "close"), {}],
  ])("that %s is not refused: unreachable", async ([, script, given]) => {
    const { done } = await connect(script, PLAIN, given);
    const error = await refusal(done);
    expect(error.code).toBe("unreachable");
    expectNoSecret(error);
  });

  test("that waits for its provider for ever is unreachable", async () => {
    const oauthBearerProvider = () => new Promise<never>(() => undefined);
    const { done } = await connect(
      login("OAUTHBEARER", () => accepted),
      { mechanism: "oauthbearer", oauthBearerProvider },
      SHORT,
    );
    expect(await refusal(done)).toMatchObject({
      code: "unreachable",
      message: expect.stringContaining("the function given as oauthBearerProvider has given no token; see whether"),
    });
  });

  test("that is not renewed when its session ends is unauthorized", async () => {
    const sessions: Reply[] = [
      (to) => to.writeInt16(0).writeString(null).writeBytes(Buffer.alloc(0)).writeInt64(1_000),
      refused("the password has been changed"),
    ];
    const { port } = await scriptedBroker(login("PLAIN", () => sessions.shift()));
    const connection = connectionTo([`127.0.0.1:${port}`], { ...PATIENT, sasl: PLAIN });
    await connection.connect();
    const error = await refusal(connection.metadata([]));
    expect(error.code).toBe("unauthorized");
    expectNoSecret(error);
    await connection.close();
  });
});

describe("TLS", () => {
  const key = Buffer.from(CANARY.padEnd(16, "."));
  const shared = { ciphers: "PSK", minVersion: "TLSv1.2", maxVersion: "TLSv1.2" } as const;

  test("is spoken as told", async () => {
    const { port, asked } = await scriptedBroker(() => undefined, { tls: { ...shared, pskCallback: () => key } });
    const ssl = { ...shared, pskCallback: () => ({ psk: key, identity: "ada" }), checkServerIdentity: () => undefined };
    const connection = connectionTo([`127.0.0.1:${port}`], { ...PATIENT, ssl });
    expect(await connection.metadata([])).toEqual({ clusterId: "cluster", nodes: [1], topics: [] });
    expect(asked.length).toBe(2);
    await connection.close();
  });

  test("keeps its key when it fails", async () => {
    const pem = encryptedKey();
    const { port } = await scriptedBroker(() => undefined);
    const closing = await scriptedBroker(() => "close", { tls: { ...shared, pskCallback: () => null } });
    for (const at of [port, closing.port]) {
      const connection = connectionTo([`127.0.0.1:${at}`], { ...SHORT, ssl: { key: pem, passphrase: CANARY } });
      const error = await refusal(connection.connect());
      expect(error.code).toBe("unreachable");
      expectNoSecret(error);
      expectNoSecret(error, pem.split("\n")[5]);
      await connection.close();
    }
  });
});

test.for<[string, object]>([
  ["no brokers", { brokers: [] }],
  ["a broker without a port", { brokers: ["localhost"] }],
  ["a port that is none", { brokers: ["localhost:99999"] }],
  ["port 0", { brokers: ["localhost:0"] }],
  ["an address of IPv6 without brackets", { brokers: ["::1:9092"] }],
  ["a URL", { brokers: [`kafka://ada:${CANARY}@localhost:9092`] }],
  ["credentials in a broker", { brokers: ["localhost:9092", `ada:${CANARY}@localhost:9092`] }],
  ["a client id that is no text", { clientId: 7 }],
  ["a timeout that is none", { requestTimeoutMs: 0 }],
  ["a key that is no PEM", { ssl: { key: CANARY } }],
  ["a passphrase that does not fit", { ssl: { key: encryptedKey(), passphrase: `not ${CANARY}` } }],
  ["a passphrase that is no text", { ssl: { key: encryptedKey(), passphrase: NUMBER } }],
])("%s is refused before anything is opened, and quoted nowhere", ([, given]) => {
  const configuration = { brokers: ["localhost:9092"], clientId: "x", ...PATIENT, ...given };
  try {
    kafkaJsClient(configuration as KafkaJsConfiguration);
    expect.unreachable("it was taken");
  } catch (error) {
    if (!isMessagingError(error, "invalid")) throw error;
    expectNoSecret(error);
    expectNoSecret(error, String(NUMBER));
  }
});

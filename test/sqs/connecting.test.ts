import { createServer } from "node:http";
import { createServer as createSilentServer } from "node:net";
import { inspect } from "node:util";
import { afterEach, describe, expect, onTestFinished, test, vi } from "vitest";
import { type AwsCredentials, type SqsOptions, sqs } from "../../adapters/sqs/index.ts";
import type { AdapterSignals } from "../../core/adapter.ts";
import { MessagingError } from "../../core/errors.ts";
import { freePort } from "../brokers/free-port.ts";
import { CREDENTIALS, ORDERS, opened, send } from "./opened.ts";
import { outgoing } from "./outgoing.ts";
import { ScriptedAws } from "./scripted-aws.ts";

const SILENT: AdapterSignals = { up() {}, down() {}, blocked() {}, unblocked() {}, notice() {} };
const KNOWN: SqsOptions = { region: "eu-central-1", credentials: CREDENTIALS, waitSeconds: 1 };

afterEach(() => {
  vi.unstubAllEnvs();
});

async function failure(options: SqsOptions): Promise<MessagingError> {
  const adapter = sqs({ ...KNOWN, ...options });
  const outcome = await adapter.open(SILENT).then(
    () => adapter.close(),
    (error: unknown) => error,
  );
  if (outcome instanceof MessagingError) return outcome;
  throw new Error("it was opened");
}

/** The URL of a server that ends with the test. */
async function served(server: ReturnType<typeof createServer | typeof createSilentServer>): Promise<string> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => void server.close());
  const address = server.address();
  return `127.0.0.1:${typeof address === "object" ? address?.port : ""}`;
}

/** What the SDK would keep for ever. */
const FLAWED: readonly (readonly [what: string, given: Readonly<Record<string, unknown>>, flaw: string])[] = [
  ["with the expiration null", { expiration: null }, "an expiration that is no valid Date"],
  ["with the expiration as a text", { expiration: "2030-01-01T00:00:00Z" }, "an expiration that is no valid Date"],
  ["with no time as the expiration", { expiration: new Date(Number.NaN) }, "an expiration that is no valid Date"],
  ["with something like a Date", { expiration: new Proxy(new Date(), {}) }, "an expiration that is no valid Date"],
  ["with a line break in the token", { sessionToken: "canary\n" }, "a sessionToken with invalid characters"],
  ["with the token null", { sessionToken: null }, "a sessionToken that is no string"],
  ["with a line break in the key id", { accessKeyId: "canary\r\nX: y" }, "an accessKeyId with invalid characters"],
  ["with a slash in the key id", { accessKeyId: "canary/y" }, "an accessKeyId with invalid characters"],
  ["with a line break in the scope", { credentialScope: "canary\n" }, "an invalid credentialScope"],
];

describe("what keeps from connecting is named, with what to do", () => {
  test("a host that refuses connections", async () => {
    const port = await freePort();
    const error = await failure({ endpoint: `http://127.0.0.1:${port}` });
    expect(error.code).toBe("unreachable");
    expect(error.message).toContain(`127.0.0.1:${port} refuses connections (ECONNREFUSED); check the endpoint`);
  });

  test("a name that stands for several addresses, all of which refuse", async () => {
    const port = await freePort();
    const error = await failure({ endpoint: `http://localhost:${port}` });
    expect(error.message).toMatch(new RegExp(`(127\\.0\\.0\\.1|::1):${port} refuses connections \\(ECONNREFUSED\\)`));
  });

  test("a name that nobody knows", async () => {
    const error = await failure({ endpoint: "http://sqs.nowhere.invalid:4566" });
    expect(error.code).toBe("unreachable");
    expect(error.message).toMatch(/the host name sqs\.nowhere\.invalid is not found \(E\w+\); check the region/);
  });

  test("a server that does not answer", async () => {
    const sockets: { destroy(): void }[] = [];
    const place = await served(createSilentServer((socket) => sockets.push(socket)));
    onTestFinished(() => {
      for (const socket of sockets) socket.destroy();
    });
    const error = await failure({ endpoint: `http://${place}`, requestTimeoutMs: 200 });
    expect(error.code).toBe("unreachable");
    expect(error.message).toContain("no answer in time");
    expect(error.message).toContain("requestTimeoutMs");
  });

  test("TLS to a server that speaks none", async () => {
    const error = await failure({ endpoint: `https://${await served(createServer())}` });
    expect(error.code).toBe("unreachable");
    expect(error.message).toContain("no TLS connection could be opened");
  });

  test("an answer that is none of SQS", async () => {
    const { aws, adapter } = await opened();
    aws.on("GetQueueUrl", () => ({ output: {} }));
    await expect(adapter.depth(ORDERS)).rejects.toMatchObject({
      code: "unreachable",
      message: expect.stringMatching(/the answer to GetQueueUrlCommand is not from SQS or SNS.*; check the endpoint/),
    });
  });

  test("a refusal without a reason, as proxies give", async () => {
    const { aws, adapter } = await opened();
    aws.on("GetQueueUrl", () => ({ raw: "<html>", status: 405 }));
    await expect(adapter.depth(ORDERS)).rejects.toMatchObject({
      code: "refused",
      message: expect.stringContaining("status 405 without a reason; check the endpoint"),
    });
  });

  test.for<readonly [what: string, credentials: () => Promise<AwsCredentials>, says: string]>([
    [
      "that throws",
      () => Promise.reject(new RangeError("canary-token")),
      "the credentials function failed (RangeError)",
    ],
    [
      "that throws at once",
      () => {
        throw new Error("canary-token");
      },
      "the credentials function failed (Error)",
    ],
    ["that returns nothing", async () => undefined as never, "the credentials function returned none"],
    [
      "that returns half",
      async () => ({ accessKeyId: "me" }) as never,
      "make it return { accessKeyId, secretAccessKey }",
    ],
    ...FLAWED.map(([what, given, flaw]): readonly [string, () => Promise<AwsCredentials>, string] => [
      what,
      async () => ({ ...CREDENTIALS, ...given }) as never,
      `the credentials function returned ${flaw}`,
    ]),
    [
      "whose object throws",
      async () => ({
        accessKeyId: "me",
        get secretAccessKey(): string {
          throw new Error("canary-token");
        },
      }),
      "the credentials function failed (Error)",
    ],
    [
      "of the SDK that finds none",
      () => Promise.reject(Object.assign(new Error("canary-token"), { name: "CredentialsProviderError" })),
      "there are no credentials (CredentialsProviderError); set sqs({ credentials })",
    ],
  ])("a provider of credentials %s", async ([, credentials, says]) => {
    const error = await failure({ endpoint: "http://127.0.0.1:1", credentials });
    expect(error.code).toBe("unauthorized");
    expect(error.message).toContain(says);
    expect(error.message).not.toContain("canary");
  });

  test("credentials that are none are refused before", () => {
    const broken = { ...CREDENTIALS, sessionToken: "canary\n" };
    for (const credentials of [{}, "me:secret", { accessKeyId: "me" }, broken]) {
      expect(() => sqs({ credentials: credentials as never })).toThrow("accessKeyId, secretAccessKey");
    }
  });
});

test("a function that once gave what are no credentials is asked again", async () => {
  const aws = await ScriptedAws.start();
  onTestFinished(() => aws.stop());
  let next = {};
  // About to expire, so that the SDK asks for each request.
  const credentials = async () => {
    const given = { ...CREDENTIALS, expiration: new Date(Date.now() + 1_000), ...next };
    next = {};
    return given;
  };
  const adapter = sqs({ ...KNOWN, endpoint: aws.url, credentials });
  await adapter.open(SILENT);
  onTestFinished(() => adapter.close());
  expect(await send(adapter, [outgoing()])).toEqual([{ status: "confirmed" }]);
  for (const [, given] of FLAWED) {
    next = given;
    expect(await send(adapter, [outgoing()])).toMatchObject([{ status: "rejected", error: { code: "unauthorized" } }]);
    expect(await send(adapter, [outgoing()])).toEqual([{ status: "confirmed" }]);
  }
});

test("credentials are a copy: what becomes of the object that was returned changes nothing", async () => {
  const aws = await ScriptedAws.start();
  onTestFinished(() => aws.stop());
  const { proxy, revoke } = Proxy.revocable({ ...CREDENTIALS }, {});
  const adapter = sqs({ ...KNOWN, endpoint: aws.url, credentials: async () => proxy });
  await adapter.open(SILENT);
  onTestFinished(() => adapter.close());
  revoke();
  expect(await send(adapter, [outgoing()])).toEqual([{ status: "confirmed" }]);
});

test.for(["canary-secret", "http://canary:99999/"])(
  "an URL for credentials that is none is named, and quoted nowhere: %s",
  async (url) => {
    for (const name of ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"]) vi.stubEnv(name, undefined);
    for (const name of ["AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"]) vi.stubEnv(name, "/nonexistent/anybroker");
    vi.stubEnv("AWS_CONTAINER_CREDENTIALS_FULL_URI", url);
    const adapter = sqs({ endpoint: "http://127.0.0.1:1", region: "eu-central-1" });
    const error = await adapter.open(SILENT).catch((error: unknown) => error);
    expect(error).toMatchObject({
      code: "invalid",
      message: expect.stringContaining("check AWS_CONTAINER_CREDENTIALS_FULL_URI"),
    });
    expect(inspect(error, { depth: 9, showHidden: true })).not.toContain("canary");
  },
);

test.for([
  ["none", undefined],
  ["no host name", "eu central/#"],
] as const)("a region of the environment that is %s is invalid", async ([, region]) => {
  for (const name of ["AWS_REGION", "AWS_DEFAULT_REGION"]) vi.stubEnv(name, region);
  for (const name of ["AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"]) vi.stubEnv(name, "/nonexistent/anybroker");
  const adapter = sqs({ endpoint: "http://127.0.0.1:1", credentials: CREDENTIALS });
  await expect(adapter.open(SILENT)).rejects.toMatchObject({
    code: "invalid",
    message: expect.stringContaining("no valid region is set; set sqs({ region }) or AWS_REGION"),
  });
});

describe("the endpoints of the environment", () => {
  test("are SQS's for every request, whatever host the URLs of queues name", async () => {
    const aws = await ScriptedAws.start();
    onTestFinished(() => aws.stop());
    aws.on("GetQueueUrl", ({ QueueName }) =>
      QueueName === "orders"
        ? { output: { QueueUrl: `http://sqs.nowhere.invalid:9324/000000000000/${QueueName}` } }
        : { error: "QueueDoesNotExist" },
    );
    vi.stubEnv("AWS_ENDPOINT_URL_SQS", aws.url);
    const adapter = sqs(KNOWN);
    await adapter.open(SILENT);
    onTestFinished(() => adapter.close());
    expect(adapter.endpoints).toEqual({ sqs: aws.url, sns: undefined });
    expect(await send(adapter, [outgoing()])).toEqual([{ status: "confirmed" }]);
  });

  test("are SNS's, also beside an endpoint of SQS that was given", async () => {
    vi.stubEnv("AWS_ENDPOINT_URL_SNS", "http://127.0.0.1:4567");
    const endpoint = "http://127.0.0.1:4566";
    expect(sqs({ endpoint }).endpoints).toEqual({ sqs: endpoint, sns: "http://127.0.0.1:4567" });
    const snsEndpoint = "http://127.0.0.1:4568";
    expect(sqs({ endpoint, snsEndpoint }).endpoints).toEqual({ sqs: endpoint, sns: snsEndpoint });
  });

  test("are both services', if one is set for all", () => {
    vi.stubEnv("AWS_ENDPOINT_URL", "http://127.0.0.1:4566");
    expect(sqs().endpoints).toEqual({ sqs: "http://127.0.0.1:4566", sns: "http://127.0.0.1:4566" });
    vi.stubEnv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true");
    expect(sqs().endpoints).toEqual({ sqs: undefined, sns: undefined });
  });

  test("are named where they are no URLs", () => {
    vi.stubEnv("AWS_ENDPOINT_URL_SQS", "localhost:4566");
    expect(() => sqs()).toThrow("as AWS_ENDPOINT_URL_SQS");
  });
});

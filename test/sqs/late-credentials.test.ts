import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, expect, onTestFinished, test, vi } from "vitest";
import { type AwsCredentials, sqs } from "../../adapters/sqs/index.ts";
import { consuming } from "./consuming.ts";
import { bringing, received } from "./feed.ts";
import { CREDENTIALS, eventually } from "./opened.ts";
import { ScriptedAws } from "./scripted-aws.ts";

const NEVER = new Promise<never>(() => {});
const SHORT = { requestTimeoutMs: 500 };
const LATE = /: the credentials function returned nothing within 500 ms \(requestTimeoutMs\)/;

afterEach(() => {
  vi.unstubAllEnvs();
});

const opening = async (credentials?: () => Promise<AwsCredentials>) => {
  const aws = await ScriptedAws.start();
  onTestFinished(() => aws.stop());
  const given = credentials === undefined ? {} : { credentials };
  const adapter = sqs({ endpoint: aws.url, region: "eu-central-1", ...given, ...SHORT });
  return adapter.open({ up() {}, down() {}, blocked() {}, unblocked() {}, notice() {} });
};

test("a function that never gives credentials fails the start, by name", async () => {
  await expect(opening(() => NEVER)).rejects.toMatchObject({
    code: "unauthorized",
    message: expect.stringMatching(LATE),
  });
});

test("a chain of the SDK that never comes to an end does so, too", async () => {
  const folder = await mkdtemp(join(tmpdir(), "anybroker-credentials-"));
  onTestFinished(() => rm(folder, { recursive: true }));
  await writeFile(join(folder, "config"), "[default]\ncredential_process = sleep 30\n");
  vi.stubEnv("AWS_CONFIG_FILE", join(folder, "config"));
  vi.stubEnv("AWS_SHARED_CREDENTIALS_FILE", join(folder, "none"));
  for (const name of ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"]) vi.stubEnv(name, undefined);
  await expect(opening()).rejects.toMatchObject({
    code: "unauthorized",
    message: expect.stringContaining(
      "the AWS SDK's credential chain found no credentials within 500 ms; set sqs({ cred",
    ),
  });
});

test("one that no longer does stalls its consumer, which goes on when it does again, and stops when it does not", async () => {
  let answers = true;
  // The SDK asks anew for what is about to expire.
  const expiration = () => new Date(Date.now() + 1_000);
  const credentials = () => (answers ? Promise.resolve({ ...CREDENTIALS, expiration: expiration() }) : NEVER);
  const handled: string[] = [];
  const { feed, broker, consumer } = await consuming({
    sqs: { credentials, ...SHORT },
    handler: (_, { id }) => void handled.push(id),
  });
  answers = false;
  await eventually(() => consumer.status().state === "stalled");
  expect(consumer.status().error).toMatchObject({ code: "unauthorized", message: expect.stringMatching(LATE) });
  feed.give("orders", bringing(received({ id: "m" })));
  answers = true;
  await eventually(() => handled.length === 1);
  answers = false;
  await eventually(() => consumer.status().state === "stalled");
  await broker.stop({ timeoutMs: 1 });
  expect(broker.status().state).toBe("stopped");
});

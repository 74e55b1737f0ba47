import { describe, expect, test } from "vitest";
import { sqs } from "../../adapters/sqs/index.ts";
import { resolveOptions, type SqsOptions } from "../../adapters/sqs/options.ts";
import { isMessagingError, type MessagingError } from "../../core/errors.ts";

function refusal(options: SqsOptions): MessagingError {
  try {
    sqs(options);
  } catch (error) {
    if (isMessagingError(error)) return error;
  }
  throw new Error("the options were taken");
}

describe("the options of sqs()", () => {
  test("all have a default", () => {
    expect(resolveOptions({})).toMatchObject({
      leaseMs: 30_000,
      waitSeconds: 5,
      maxPolls: 10,
      retentionSeconds: 1_209_600,
    });
  });

  test("the endpoint is SNS's too, unless that has its own", () => {
    const endpoint = "http://127.0.0.1:4566";
    expect(resolveOptions({ endpoint }).snsEndpoint).toBe(endpoint);
    expect(resolveOptions({ endpoint, snsEndpoint: "http://127.0.0.1:4567" }).snsEndpoint).toBe(
      "http://127.0.0.1:4567",
    );
  });

  test.for<SqsOptions>([
    ...["", "a b", "evil.example/#", "ü", "-a", "a-", "a".repeat(64)].map((region) => ({ region })),
    { connectTimeoutMs: 86_400_001 },
    { requestTimeoutMs: 86_400_001 },
    { endpoint: "sqs.eu-central-1.amazonaws.com" },
    { endpoint: "ftp://host" },
    { visibilityTimeoutMs: 999 },
    { visibilityTimeoutMs: 1_500 },
    { visibilityTimeoutMs: 43_200_001 },
    { waitSeconds: 0 },
    { waitSeconds: 21 },
    { maxPolls: 0 },
    { maxReceives: 1_001 },
    { retentionSeconds: 59 },
    { namePrefix: "a.b" },
    { namePrefix: "a_" },
    { connectTimeoutMs: 0 },
    { requestTimeoutMs: 0.5 },
    { queueAttributes: { RedrivePolicy: "{}" } },
    { queueAttributes: { KmsMasterKeyId: 5 as unknown as string } },
    { topicAttributes: { FifoTopic: "true" } },
    ...[5, "text", true, null, ["text"]].flatMap((none) => [
      { queueAttributes: none as never },
      { topicAttributes: none as never },
      { credentials: none as never },
    ]),
    { colour: "blue" } as SqsOptions,
  ])("refuse %j", (options) => {
    expect(refusal(options).code).toBe("invalid");
  });

  test("an error holds nothing of a URL, which may hold a secret", () => {
    for (const endpoint of ["https://me:canary@host", "canary://x", "https://canary@host"]) {
      expect(refusal({ endpoint }).message).not.toContain("canary");
    }
  });
});

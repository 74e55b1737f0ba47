import { until } from "../until.ts";

/** How long a server may take to start, on a slow machine that does other things as well. */
export const SQS_READY_MS = 120_000;

const ANSWER_WITHIN_MS = 5_000;

/** Waits until the server answers and has every queue of these URLs. */
export async function awaitSQS(
  endpoint: string,
  deadlineMs: number,
  { queues = [], signal }: { readonly queues?: readonly string[]; readonly signal?: AbortSignal | undefined } = {},
): Promise<void> {
  await until(
    `an answer of SQS at ${endpoint}`,
    deadlineMs,
    async () => {
      const there = new Set((await queueUrls(endpoint)).map(nameOf));
      const missing = queues.filter((url) => !there.has(nameOf(url)));
      if (missing.length > 0) throw new Error(`${missing.length} of ${queues.length} queues are not there yet`);
    },
    signal,
  );
}

/** Asks for the URLs of all queues, in the words of the protocol: a client would try again by itself. */
export async function queueUrls(endpoint: string): Promise<readonly string[]> {
  const response = await fetch(endpoint, {
    method: "POST",
    headers: { "content-type": "application/x-amz-json-1.0", "x-amz-target": "AmazonSQS.ListQueues" },
    body: "{}",
    signal: AbortSignal.timeout(ANSWER_WITHIN_MS),
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`the list of queues: ${response.status}`);
  const { QueueUrls = [] } = JSON.parse(text) as { QueueUrls?: readonly string[] };
  return QueueUrls;
}

/** Where a URL leads to may change with how it was asked for. */
function nameOf(queueUrl: string): string | undefined {
  return queueUrl.split("/").at(-1);
}

import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { askBrokerDesk, type BrokerDesk, openBrokerDesk } from "./broker-desk.ts";
import { BrokerUnavailable } from "./contract.ts";
import { kafkaFrom, type RunningKafka } from "./kafka.ts";
import { rabbitMQFrom } from "./rabbitmq.ts";

const record = { how: "url", brokers: ["localhost:1"], version: "1.0" } as const;
const stop = vi.fn(async () => {});
const kafka = vi.fn(async (): Promise<RunningKafka> => ({ ...kafkaFrom(record), stop }));
const rabbitmq = vi.fn(async () => rabbitMQFrom({ how: "url", url: "amqp://localhost:1", version: "1.0" }));

let desk: BrokerDesk;

beforeEach(async () => {
  vi.clearAllMocks();
  // The desk reports to the summary of the run, and these are no brokers.
  vi.stubEnv("RUN_REPORT", "");
  desk = await openBrokerDesk({ kafka, rabbitmq });
});

afterEach(async () => {
  await desk.close();
  vi.unstubAllEnvs();
});

test("what is asked for is started, once, and nothing else", async () => {
  expect(kafka).not.toHaveBeenCalled();
  const answers = await Promise.all([askBrokerDesk(desk.url, "kafka"), askBrokerDesk(desk.url, "kafka")]);
  for (const answer of answers) expect(answer).toEqual({ status: "running", record });
  expect(kafka).toHaveBeenCalledOnce();
  expect(rabbitmq).not.toHaveBeenCalled();
  expect(stop).not.toHaveBeenCalled();
  await desk.close();
  expect(stop).toHaveBeenCalledOnce();
});

test("a broker that is still starting when the run ends is ended too", async () => {
  const { promise: started, resolve: finish } = Promise.withResolvers<RunningKafka>();
  kafka.mockReturnValueOnce(started);
  const answer = expect(askBrokerDesk(desk.url, "kafka")).rejects.toThrow();
  await expect.poll(() => kafka.mock.calls.length).toBe(1);
  const closed = desk.close();
  finish({ ...kafkaFrom(record), stop });
  await closed;
  await answer;
  expect(stop).toHaveBeenCalledOnce();
});

test("one that cannot be had is not run, with the reasons; anything else is a fault", async () => {
  const loud = vi.spyOn(console, "error").mockReturnValue();
  kafka.mockRejectedValueOnce(new BrokerUnavailable("kafka", "Docker: no engine"));
  expect(await askBrokerDesk(desk.url, "kafka")).toEqual({
    status: "not-run",
    reason: "kafka is not available. Docker: no engine",
  });
  expect(loud).toHaveBeenCalledWith(expect.stringContaining("NOT RUN"));
  loud.mockRestore();
  rabbitmq.mockRejectedValueOnce(new Error("a bug"));
  await expect(askBrokerDesk(desk.url, "rabbitmq")).rejects.toThrow(/rabbitmq could not be started: .*a bug/);
});

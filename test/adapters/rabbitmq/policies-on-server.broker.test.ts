import { afterAll, beforeAll, expect, test } from "vitest";
import { rabbitmq } from "../../../adapters/rabbitmq/index.ts";
import { createBroker } from "../../../core/create-broker.ts";
import { queue } from "../../../core/destination.ts";
import type { BrokerEvent } from "../../../core/events.ts";
import type { VirtualHost } from "../../brokers/rabbitmq.ts";
import { describeRabbitMQ } from "../../brokers/suite.ts";
import { until } from "../../brokers/until.ts";
import { command } from "../../cli/commands.ts";
import { codeOf, message, topology, workQueue } from "../seam-values.ts";
import { openAdapter } from "./open-adapter.ts";

interface Order {
  readonly n: number;
}

const NOT_RUN = "NOT RUN: RabbitMQ was given by URL, so policies cannot be set";

describeRabbitMQ("policies of RabbitMQ", (broker) => {
  let place: VirtualHost;
  const { record } = broker;
  const isOurs = record.how !== "url";
  const management = new URL(record.how === "url" ? "http://nowhere.invalid" : record.managementUrl);
  const managementUrl = management.origin;

  beforeAll(async () => {
    place = await broker.newVirtualHost();
  });
  afterAll(() => place?.remove());

  async function request(method: "GET" | "PUT" | "DELETE", path: string, body?: object): Promise<Response> {
    const { username, password } = management;
    const response = await fetch(`${managementUrl}/api/${path}`, {
      method,
      headers: { authorization: `Basic ${btoa(`${username}:${password}`)}`, "content-type": "application/json" },
      body: body === undefined ? null : JSON.stringify(body),
    });
    expect(response.status).toBeLessThan(300);
    return response;
  }

  const vhost = (): string => new URL(place.url).pathname.slice(1);
  const put = (path: string, body: object): Promise<Response> => request("PUT", path, body);

  /** Whether the server lists new queues with the policies that apply to them. */
  async function reportsApplied(): Promise<boolean> {
    const listed = await request("GET", `queues/${vhost()}?disable_stats=true`);
    return ((await listed.json()) as readonly object[]).every((one) => "policy" in one);
  }

  function set(kind: "policies" | "operator-policies", pattern: string, definition: object): Promise<Response> {
    return put(`${kind}/${vhost()}/tidy`, { pattern, definition, "apply-to": "queues", priority: 1 });
  }

  test("one that loses messages keeps a service from its start, by name, where it can be known", async (context) => {
    if (!isOurs) return context.skip(NOT_RUN);
    const orders = queue<Order>("orders");
    await set("policies", ".*", { expires: 86_400_000 });
    const refused = createBroker(rabbitmq({ url: place.url, managementUrl }), { destinations: [orders] });
    await expect(refused.start()).rejects.toMatchObject({
      code: "start-failed",
      problems: [{ code: "conflict", message: expect.stringMatching(/"tidy" sets expires.*anybroker\.delay\.0/s) }],
    });
    const verifying = createBroker(rabbitmq({ url: place.url, managementUrl }), {
      destinations: [orders],
      declare: "verify",
    });
    await expect(verifying.start()).rejects.toMatchObject({ problems: [{ code: "conflict" }] });
    const blind = createBroker(rabbitmq({ url: place.url }), { destinations: [orders] });
    await blind.start();
    await blind.stop();
    await set("policies", ".*", { "max-length": 1_000_000 });
    const events: BrokerEvent[] = [];
    const told = createBroker(rabbitmq({ url: place.url, managementUrl }), {
      destinations: [orders],
      onEvent: (event) => events.push(event),
    });
    await told.start();
    expect(events).toContainEqual({
      type: "notice",
      error: expect.objectContaining({ message: expect.stringContaining('"tidy" sets max-length') }),
    });
    await told.stop();
  });

  test("a pattern that never ends in JavaScript blocks nobody, and RabbitMQ tells what it applies to", async (context) => {
    if (!isOurs) return context.skip(NOT_RUN);
    const events: BrokerEvent[] = [];
    const start = async (pattern: string): Promise<void> => {
      await set("policies", pattern, { expires: 86_400_000 });
      const started = createBroker(rabbitmq({ url: place.url, managementUrl }), {
        destinations: [queue<Order>("orders")],
        onEvent: (event) => events.push(event),
      });
      await started.start();
      await started.stop();
    };
    await start("^(([a-z.])+)+[A-Z]([a-z])+$");
    const notices = events.flatMap((event) => (event.type === "notice" ? [event.error.message] : []));
    if (!(await reportsApplied())) {
      // Such a server, as 3.10, says of new queues only later which policies apply.
      expect(notices).toEqual([expect.stringMatching(/not known.*"tidy".*check them manually/)]);
      return;
    }
    expect(notices).toEqual([]);
    await expect(start("^((orders)+)+$")).rejects.toMatchObject({
      problems: [{ code: "conflict", message: expect.stringMatching(/"tidy" sets expires.* \(on "orders"\)/s) }],
    });
  });

  test("doctor finds it, and says when it cannot know", async (context) => {
    if (!isOurs) return context.skip(NOT_RUN);
    const configuration = { broker: place.url, destinations: [queue<Order>("orders")] };
    await set("operator-policies", ".*", { "message-ttl": 60_000 });
    const made = createBroker(rabbitmq({ url: place.url }), { destinations: configuration.destinations });
    await made.start();
    await made.stop();
    const checksOf = async (broker: string) => {
      const { json, code } = await command(["doctor", "--json"], { configuration: { ...configuration, broker } });
      const checks = json.checks as readonly { check: string; status: string; message: string }[];
      return { code, checks: checks.filter(({ check }) => check === "policies") };
    };
    const blind = await checksOf(place.url);
    expect(blind.checks).toMatchObject([{ status: "unknown", message: expect.stringContaining("managementUrl") }]);
    expect(blind.code).toBe(0);
    const seen = await checksOf(`${place.url}?managementUrl=${encodeURIComponent(managementUrl)}`);
    expect(seen.code).toBe(78);
    expect(seen.checks).toContainEqual({
      check: "policies",
      status: "failed",
      message: expect.stringMatching(/operator policy "tidy" sets message-ttl to 60000.*orders\.dlq/s),
    });
    const away = await checksOf(`${place.url}?managementUrl=${encodeURIComponent("http://127.0.0.1:1")}`);
    expect(away.checks).toMatchObject([{ status: "unknown", message: expect.stringContaining("127.0.0.1:1") }]);
    await set("operator-policies", "^nothing-of-ours$", { "message-ttl": 60_000 });
  });

  test("a management API that does not answer, is told and keeps nobody from a start", async (context) => {
    if (!isOurs) return context.skip(NOT_RUN);
    for (const [url, code] of [
      ["http://127.0.0.1:1", "unreachable"],
      [`${managementUrl}/nothing-here`, "not-found"],
    ] as const) {
      const events: BrokerEvent[] = [];
      const app = createBroker(rabbitmq({ url: place.url, managementUrl: url }), {
        destinations: [queue<Order>("orders")],
        onEvent: (event) => events.push(event),
      });
      await app.start();
      expect(events).toMatchObject([{ type: "notice", error: { code } }]);
      await app.stop();
    }
  });

  test("so is one that this login may not ask", async (context) => {
    if (!isOurs) return context.skip(NOT_RUN);
    const user = decodeURIComponent(new URL(place.url).pathname.slice(1));
    await put(`users/${user}`, { password: "secret-word", tags: "" });
    await put(`permissions/${user}/${user}`, { configure: ".*", write: ".*", read: ".*" });
    const events: BrokerEvent[] = [];
    const url = new URL(place.url);
    [url.username, url.password] = [user, "secret-word"];
    const app = createBroker(rabbitmq({ url: url.href, managementUrl }), {
      destinations: [queue<Order>("orders")],
      onEvent: (event) => events.push(event),
    });
    await app.start();
    expect(events).toMatchObject([{ type: "notice", error: { code: "unauthorized" } }]);
    expect(JSON.stringify(events)).not.toContain("secret-word");
    await app.stop();
    await request("DELETE", `users/${user}`);
  });

  test("doctor tells how many messages are between two wait queues", async (context) => {
    if (!isOurs) return context.skip(NOT_RUN);
    const own = await openAdapter({ url: place.url });
    const { address } = workQueue("full");
    expect(await own.adapter.declare(topology({ queues: [workQueue(address.name)] }))).toEqual([]);
    await set("policies", "^full$", { "max-length": 1 });
    let sent = 0;
    // What the full queue does not take stays with the worker of the last wait queue, as after a kill. It takes a few more
    // before it refuses.
    await until("the messages that are held up", 60_000, async () => {
      await own.send(address, ...Array.from({ length: 20 }, () => message(`delayed-${sent++}`, { delayMs: 32 })));
      const { json } = await command(["doctor", "--broker", `${place.url}?managementUrl=${managementUrl}`, "--json"]);
      expect(json.checks).toContainEqual({
        check: "delays",
        status: "ok",
        message: expect.stringMatching(/^[1-9]\d* messages are between.*dead_letter_worker_publisher_confirm_timeout/),
      });
    });
    await own.adapter.close();
  });

  test("a limit on the length of dead letters drops none of them: what is over it is not taken", async (context) => {
    if (!isOurs) return context.skip(NOT_RUN);
    const own = await openAdapter({ url: place.url });
    expect(await own.adapter.declare(topology({ queues: [workQueue("limited")] }))).toEqual([]);
    await set("policies", "^limited\\.dlq$", { "max-length": 3 });
    const dead = { kind: "dead-letters", of: { kind: "queue", name: "limited" } } as const;
    const confirmed: string[] = [];
    // A quorum queue takes a few more before it refuses, and the policy takes a moment.
    await until("a refusal", 60_000, async () => {
      const id = `dead-${confirmed.length}`;
      const [result] = await own.send(dead, message(id));
      if (codeOf(result) === "confirmed") confirmed.push(id);
      expect(codeOf(result)).toBe("unknown");
    });
    await until("all that was confirmed", 60_000, async () =>
      expect((await own.adapter.depth(dead)).ready).toBe(confirmed.length),
    );
    await own.adapter.close();
  });
});

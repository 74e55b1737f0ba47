import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, expect, test } from "vitest";
import { rabbitmq } from "../../../adapters/rabbitmq/index.ts";
import { type FaultyLink, faultyLink } from "../../brokers/faulty-link.ts";
import { describeRabbitMQ } from "../../brokers/suite.ts";
import { until } from "../../brokers/until.ts";
import { command } from "../../cli/commands.ts";
import { useVirtualHost } from "../conformance/virtual-host.ts";
import { codeOf, message, topology, workQueue } from "../seam-values.ts";
import { openAdapter } from "./open-adapter.ts";

const NO_SIGNALS = { up() {}, down() {}, blocked() {}, unblocked() {}, notice() {} };

describeRabbitMQ("several hosts, and passwords that expire", (broker) => {
  const host = useVirtualHost(broker);
  const { rabbitmqctl } = broker;
  const user = `user-${randomUUID()}`;
  let links: readonly [FaultyLink, FaultyLink];

  beforeAll(async () => {
    links = [await faultyLink(broker.url), await faultyLink(broker.url)];
  });
  afterAll(async () => {
    for (const link of links ?? []) await link.close();
    await rabbitmqctl?.("delete_user", user).catch(() => {});
  });

  /** Two ways to the server, and two ports where nothing is. */
  function urlOfAll(): string {
    const url = new URL(host().url);
    const hosts = ["127.0.0.1:1", ...links.map((link) => `${link.host}:${link.port}`), "127.0.0.1:2"].join(",");
    return `amqp://${url.username}:${url.password}@${hosts}${url.pathname}`;
  }

  test("the first that serves is used, and another after each loss", async () => {
    const { adapter, signals, send } = await openAdapter({ url: urlOfAll(), heartbeatSeconds: 1 });
    const { address } = workQueue(`${host().namePrefix}hosts`);
    expect(await adapter.declare(topology({ queues: [workQueue(address.name)] }))).toEqual([]);
    const serving = () => links.filter(({ connections }) => connections > 0);
    for (let round = 0; round < 4; round++) {
      // Both connections go one way.
      const [used, ...others] = serving();
      expect(others).toEqual([]);
      used?.refuse();
      await until("another host", 60_000, async () => {
        expect(serving().filter((link) => link !== used)).toHaveLength(1);
        const [result] = await send(address, message(`r-${round}-${randomUUID()}`));
        expect(codeOf(result)).toBe("confirmed");
        expect(signals.at(-1)).toBe("up");
      });
      used?.restore();
    }
    await adapter.close();
    const { stdout } = await command(["doctor", "--broker", urlOfAll()]);
    expect(stdout).toContain("connected and logged in");
  });

  test("where none serves, each is told with its reason", async () => {
    const adapter = rabbitmq({ host: ["127.0.0.1:1", "127.0.0.1:2"], port: 3 });
    await expect(adapter.open(NO_SIGNALS)).rejects.toMatchObject({
      code: "unreachable",
      message: expect.stringMatching(/none of the 2 hosts.*127\.0\.0\.1:[12] \(ECONNREFUSED\)/),
    });
    await adapter.close();
  });

  test("a wrong password is told at once, and not tried on every host", async () => {
    let asked = 0;
    const password = async () => {
      asked++;
      return "wrong";
    };
    const { pathname } = new URL(host().url);
    const adapter = rabbitmq({
      host: links.map((link) => `${link.host}:${link.port}`),
      vhost: decodeURIComponent(pathname.slice(1)),
      username: "guest",
      password,
    });
    await expect(adapter.open(NO_SIGNALS)).rejects.toMatchObject({ code: "unauthorized" });
    expect(asked).toBe(2);
    await adapter.close();
  });

  test("a password function that fails is the cause of the refusal", async () => {
    const cause = new Error("the vault is sealed");
    const adapter = rabbitmq({ url: broker.url, username: "guest", password: () => Promise.reject(cause) });
    await expect(adapter.open(NO_SIGNALS)).rejects.toMatchObject({ code: "unauthorized", cause });
    await adapter.close();
  });

  test("each login asks for the password, and a token is renewed while the connections go on", async (context) => {
    if (rabbitmqctl === undefined) return context.skip("NOT RUN: users are made by rabbitmqctl");
    const vhost = decodeURIComponent(new URL(host().url).pathname.slice(1));
    let current = "first-secret";
    await rabbitmqctl("add_user", user, current);
    await rabbitmqctl("set_permissions", "-p", vhost, user, ".*", ".*", ".*");
    let asked = 0;
    let expiresInMs = 1_000;
    const { adapter, signals, notices, send } = await openAdapter({
      url: links[0].through(host().url),
      username: user,
      password: async () => {
        asked++;
        return { value: current, expiresAt: new Date(Date.now() + expiresInMs) };
      },
    });
    const { address } = workQueue(`${host().namePrefix}tokens`);
    expect(await adapter.declare(topology({ queues: [workQueue(address.name)] }))).toEqual([]);
    await until("several renewals of both connections", 60_000, () => expect(asked).toBeGreaterThan(7));
    const [result] = await send(address, message("renewed"));
    expect(codeOf(result)).toBe("confirmed");
    expect([signals, notices]).toEqual([[], []]);
    // From here on a new login takes another password.
    expiresInMs = 3_600_000;
    current = "second-secret";
    await rabbitmqctl("change_password", user, current);
    links[0].cut();
    await until("a login with the new one", 60_000, () => expect(signals).toEqual(["down", "up"]));
    await adapter.close();
  });
});

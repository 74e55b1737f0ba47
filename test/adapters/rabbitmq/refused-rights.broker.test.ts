import { randomUUID } from "node:crypto";
import { type BrokerEvent, createBroker, queue, topic } from "anybroker";
import { rabbitmq } from "anybroker/rabbitmq";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { VirtualHost } from "../../brokers/rabbitmq.ts";
import { describeRabbitMQ } from "../../brokers/suite.ts";
import { until } from "../../brokers/until.ts";
import { command } from "../../cli/commands.ts";
import { codeOf, message, subscriptionOf, topology, workQueue } from "../seam-values.ts";
import { openAdapter } from "./open-adapter.ts";

const NO_SIGNALS = { up() {}, down() {}, blocked() {}, unblocked() {}, notice() {} };
const PASSWORD = "canary-password";

describeRabbitMQ("rights and limits that RabbitMQ refuses", (broker) => {
  const { rabbitmqctl = async () => "" } = broker;
  const isOurs = broker.rabbitmqctl !== undefined;
  const mark = randomUUID();
  const users: string[] = [];
  const vhosts: string[] = [];
  let place: VirtualHost;
  let vhost: string;

  beforeAll(async () => {
    place = await broker.newVirtualHost();
    vhost = decodeURIComponent(new URL(place.url).pathname.slice(1));
  });
  afterAll(async () => {
    for (const user of users) await rabbitmqctl("delete_user", user);
    for (const name of vhosts) await rabbitmqctl("delete_vhost", name);
    await place?.remove();
  });

  const named = (name: string) => `${place.namePrefix}${name}`;

  function urlOf(name: string, user?: string): string {
    const url = new URL(place.url);
    url.pathname = `/${encodeURIComponent(name)}`;
    if (user !== undefined) {
      url.username = user;
      url.password = PASSWORD;
    }
    return url.href;
  }

  async function newUser(write?: string): Promise<string> {
    const user = `user-${randomUUID()}`;
    users.push(user);
    await rabbitmqctl("add_user", user, PASSWORD);
    if (write !== undefined) await rabbitmqctl("set_permissions", "-p", vhost, user, "^$", write, "^$");
    return user;
  }

  async function refusedOpening(url: string): Promise<Error> {
    const adapter = rabbitmq({ url });
    const error = await adapter.open(NO_SIGNALS).then(
      () => new Error("it opened"),
      (cause: Error) => cause,
    );
    await adapter.close();
    return error;
  }

  test("a virtual host that is not there is told by name, by the library and the command", async () => {
    const url = urlOf(`nowhere-${mark}`);
    expect(await refusedOpening(url)).toMatchObject({
      code: "not-found",
      message: expect.stringContaining(`no virtual host "nowhere-${mark}"`),
    });
    const doctor = await command(["doctor", "--broker", url]);
    expect([doctor.code, doctor.stderr]).toEqual([67, expect.stringContaining(`no virtual host "nowhere-${mark}"`)]);
  });

  test("a user without permissions in the virtual host is told so, and no password", async (context) => {
    if (!isOurs) return context.skip("NOT RUN: users are made by rabbitmqctl");
    const error = await refusedOpening(urlOf(vhost, await newUser()));
    expect(error).toMatchObject({ code: "unauthorized", message: expect.stringContaining(`virtual host "${vhost}"`) });
    expect(String(error.stack) + String((error.cause as Error).stack)).not.toContain(PASSWORD);
  });

  test("a limit of connections is told as what it is", async (context) => {
    if (!isOurs) return context.skip("NOT RUN: virtual hosts are made by rabbitmqctl");
    const full = `full-${mark}`;
    vhosts.push(full);
    await rabbitmqctl("add_vhost", full);
    await rabbitmqctl("set_permissions", "-p", full, "guest", ".*", ".*", ".*");
    await rabbitmqctl("set_vhost_limits", "-p", full, '{"max-connections": 0}');
    expect(await refusedOpening(urlOf(full))).toMatchObject({
      code: "unreachable",
      message: expect.stringMatching(/accepts no more connections .*limit \(0\) is reached/),
    });
  });

  test("a virtual host that goes while it is used is told once, by name", async (context) => {
    if (!isOurs) return context.skip("NOT RUN: virtual hosts are made by rabbitmqctl");
    const going = `going-${mark}`;
    vhosts.push(going);
    await rabbitmqctl("add_vhost", going);
    await rabbitmqctl("set_permissions", "-p", going, "guest", ".*", ".*", ".*");
    const { adapter, signals, notices } = await openAdapter({ url: urlOf(going) });
    const aboutVhost = () => notices.filter(({ code }) => code === "not-found");
    try {
      await rabbitmqctl("delete_vhost", going);
      await until("the notices", 60_000, () => expect(aboutVhost().length).toBeGreaterThanOrEqual(2));
      expect(aboutVhost()[0]?.message).toContain(`no virtual host "${going}"`);
      await rabbitmqctl("add_vhost", going);
      await rabbitmqctl("set_permissions", "-p", going, "guest", ".*", ".*", ".*");
      await until("it to be up again", 60_000, () => expect(signals).toEqual(["down", "up"]));
      // One of each connection, however often it was tried. Between the two calls the user had no permissions there.
      expect(aboutVhost()).toHaveLength(2);
    } finally {
      await adapter.close();
    }
  });

  test("no right to publish is unauthorized at the first try, for everything sent at once", async (context) => {
    if (!isOurs) return context.skip("NOT RUN: users are made by rabbitmqctl");
    const [orders, placed] = [queue(named("orders")), topic(named("placed"))];
    const owner = await openAdapter({ url: place.url });
    expect(
      await owner.adapter.declare(
        topology({ queues: [workQueue(orders.name)], subscriptions: [subscriptionOf(placed.name, "s")] }),
      ),
    ).toEqual([]);
    await owner.adapter.close();
    const url = urlOf(vhost, await newUser(`^${placed.name}$`));
    const events: BrokerEvent[] = [];
    const sender = createBroker(rabbitmq({ url }), { declare: "none", onEvent: (event) => events.push(event) });
    await sender.start();
    const refused = await Promise.allSettled(Array.from({ length: 50 }, () => sender.send(orders, "x")));
    for (const one of refused) {
      expect(one).toMatchObject({ status: "rejected", reason: { code: "unauthorized" } });
      expect((one as PromiseRejectedResult).reason.message).toContain("access to exchange 'amq.default'");
    }
    // The refusal closed the channel: what is sent before the next one is open was never written.
    const next = await Promise.allSettled([sender.send(orders, "x"), sender.send(orders, "x")]);
    for (const one of next) expect(one).toMatchObject({ status: "rejected", reason: { code: "unauthorized" } });
    // What the same user may do goes on.
    await sender.publish(placed, "y");
    await sender.stop();
    expect(events.filter(({ type }) => type === "down")).toEqual([]);
    const sent = await command(["send", `queue:${orders.name}`, "{}", "--broker", url, "--json"]);
    expect([sent.code, sent.json.failures]).toMatchObject([77, [{ code: "unauthorized" }]]);
  });

  test("a publisher with the documented rights can use the command", async (context) => {
    if (!isOurs) return context.skip("NOT RUN: users are made by rabbitmqctl");
    const [orders, placed] = [named("documented"), named("documented.placed")];
    const owner = await openAdapter({ url: place.url });
    const wanted = topology({ queues: [workQueue(orders)], subscriptions: [subscriptionOf(placed, "s")] });
    expect(await owner.adapter.declare(wanted)).toEqual([]);
    await owner.adapter.close();
    const url = urlOf(vhost, await newUser(`^(amq\\.default|${placed.replaceAll(".", "\\.")})$`));
    const run = async (...line: string[]) => (await command([...line, "--broker", url, "--json"])).json.sent;
    expect(await run("send", `queue:${orders}`, "{}")).toBe(1);
    expect(await run("publish", `topic:${placed}`, "{}")).toBe(1);
    const missing = await command(["send", `queue:${named("documented.nowhere")}`, "{}", "--broker", url, "--json"]);
    expect(missing.code).toBe(67);
  });

  test("a permission about topics refuses its routing keys alone", async (context) => {
    if (!isOurs) return context.skip("NOT RUN: users are made by rabbitmqctl");
    const placed = { kind: "topic", name: named("by-topic") } as const;
    const owner = await openAdapter({ url: place.url });
    expect(await owner.adapter.declare(topology({ subscriptions: [subscriptionOf(placed.name, "s")] }))).toEqual([]);
    await owner.adapter.close();
    const user = await newUser(`^${placed.name}$`);
    await rabbitmqctl("set_topic_permissions", "-p", vhost, user, placed.name, "^geo\\.us", "^$");
    const session = await openAdapter({ url: urlOf(vhost, user) });
    const [refused] = await session.send(placed, message("a", { routingKey: "geo.eu" }));
    expect(codeOf(refused)).toBe("unauthorized");
    await until("the other key to be taken", 60_000, async () => {
      const [taken] = await session.send(placed, message("b", { routingKey: "geo.us" }));
      expect(codeOf(taken)).toBe("confirmed");
    });
    const [again] = await session.send(placed, message("c", { routingKey: "geo.eu" }));
    expect(codeOf(again)).toBe("unauthorized");
    await session.adapter.close();
  });
});

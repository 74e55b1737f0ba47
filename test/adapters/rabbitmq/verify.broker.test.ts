import { randomUUID } from "node:crypto";
import { connect } from "amqplib";
import { createBroker, queue, subscription, topic } from "anybroker";
import { rabbitmq } from "anybroker/rabbitmq";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { RabbitMQOptions } from "../../../adapters/rabbitmq/index.ts";
import type { VirtualHost } from "../../brokers/rabbitmq.ts";
import { describeRabbitMQ } from "../../brokers/suite.ts";
import { until } from "../../brokers/until.ts";
import { command } from "../../cli/commands.ts";
import { subscriptionOf, topology, workQueue } from "../seam-values.ts";
import { openAdapter } from "./open-adapter.ts";

describeRabbitMQ("verifying on RabbitMQ", (broker) => {
  const { record, rabbitmqctl } = broker;
  const management = record.how === "url" ? undefined : new URL(record.managementUrl);
  let place: VirtualHost;
  let admin: Awaited<ReturnType<typeof connect>>;

  beforeAll(async () => {
    place = await broker.newVirtualHost();
    admin = await connect(place.url);
  });
  afterAll(async () => {
    await admin?.close();
    await place?.remove();
  });

  const named = (name: string) => `${place.namePrefix}${name}`;
  /** By AMQP alone, and with the management API. */
  const ways: readonly (readonly [string, () => RabbitMQOptions])[] = [
    ["by AMQP", () => ({ url: place.url })],
    ...(management === undefined
      ? []
      : ([["by the management API", () => ({ url: place.url, managementUrl: management.origin })]] as const)),
  ];

  async function withAdapter<Result>(
    options: RabbitMQOptions,
    use: (session: Awaited<ReturnType<typeof openAdapter>>) => Promise<Result>,
  ): Promise<Result> {
    const session = await openAdapter(options);
    try {
      return await use(session);
    } finally {
      await session.adapter.close();
    }
  }

  const created = (...queues: readonly ReturnType<typeof workQueue>[]) =>
    withAdapter({ url: place.url }, async ({ adapter }) => {
      expect(await adapter.declare(topology({ queues }))).toEqual([]);
    });

  for (const [way, options] of ways) {
    test(`${way}: every property that differs is a conflict that names it`, async () => {
      const mark = randomUUID();
      const same = workQueue(named(`${mark}.same`), { ordered: true, ttlMs: 60_000 });
      const unordered = workQueue(named(`${mark}.unordered`));
      const short = workQueue(named(`${mark}.short`), { ttlMs: 1_000 });
      await created(same, unordered, short);
      const channel = await admin.createChannel();
      for (const name of ["classic", "classic.dlq", "classic.quarantine", "foreign", "foreign.dlq"]) {
        await channel.assertQueue(named(`${mark}.${name}`), { durable: true });
      }
      await channel.assertExchange(named(`${mark}.t`), "direct");
      await channel.close();
      await withAdapter(options(), async ({ adapter }) => {
        const verified = async (...queues: readonly ReturnType<typeof workQueue>[]) =>
          (await adapter.declare(topology({ queues, mode: "verify" })))
            .map(({ code, message }) => `${code} ${message}`)
            .sort();
        expect(await verified(same)).toEqual([]);
        expect(await verified({ ...unordered, ordered: true })).toEqual([
          expect.stringMatching(/^conflict .*\.unordered".*x-(single-active-consumer|delivery-limit)/),
        ]);
        expect(await verified({ ...short, ttlMs: 2_000 })).toEqual([
          expect.stringMatching(/^conflict .*\.short".*x-message-ttl/),
        ]);
        expect(await verified(workQueue(named(`${mark}.classic`)))).toEqual(
          ["classic", "classic.dlq", "classic.quarantine"].map((name) =>
            expect.stringMatching(new RegExp(`^conflict .*${name}".*x-`)),
          ),
        );
        // What is missing is told beside it, and not made.
        expect((await verified(workQueue(named(`${mark}.foreign`)))).map((text) => text.split(" ")[0]).sort()).toEqual([
          "conflict",
          "conflict",
          "not-found",
        ]);
        await expect(adapter.depth({ kind: "queue", name: named(`${mark}.foreign.quarantine`) })).rejects.toMatchObject(
          { code: "not-found" },
        );
        const topics = [{ address: { kind: "topic", name: named(`${mark}.t`) }, ordered: false }] as const;
        expect(await adapter.declare(topology({ topics, mode: "verify" }))).toMatchObject([
          { code: "conflict", message: expect.stringMatching(/exchange .*\.t".*type/) },
        ]);
      });
    });
  }

  test("a start with verify is refused, and each verb tells what differs", async () => {
    const orders = queue(named("told"), { ordered: true, key: () => "k" });
    await created(workQueue(orders.name));
    const verifying = createBroker(rabbitmq({ url: place.url }), { destinations: [orders], declare: "verify" });
    await expect(verifying.start()).rejects.toMatchObject({
      code: "start-failed",
      problems: [{ code: "conflict", message: expect.stringContaining("x-") }],
    });
    await verifying.stop();
    const world = { configuration: { broker: place.url, destinations: [orders] }, cwd: process.cwd() };
    const run = async (...line: string[]) => command([...line, "--json"], world);
    const different = [{ state: "different", problems: [{ message: expect.stringContaining("x-") }] }];
    const verify = await run("topology", "verify");
    expect([verify.code, verify.json.verified]).toEqual([78, false]);
    expect(verify.json.destinations).toMatchObject(different);
    expect((await run("topology", "diff")).json.destinations).toMatchObject(different);
    const create = await run("topology", "create");
    expect([create.code, create.json.created, create.json.existed]).toEqual([78, [], []]);
    expect(create.json.problems).toMatchObject([{ code: "conflict" }]);
    const doctor = await run("doctor");
    expect(doctor.code).toBe(78);
    expect(doctor.json.checks).toContainEqual({
      check: `compare queue:${orders.name}`,
      status: "failed",
      message: expect.stringContaining("x-"),
    });
    // Whoever names a queue by hand need not know its options.
    const sent = await command(["send", `queue:${orders.name}`, "{}", "--broker", place.url, "--json"], {
      cwd: process.cwd(),
    });
    expect([sent.code, sent.json.sent]).toEqual([0, 1]);
  });

  test("filters: by AMQP they are unknown, with the management API what differs is a conflict", async () => {
    const of = { topics: [], subscriptions: [subscriptionOf(named("geo"), "us", "geo.us.#")] };
    const changed = { topics: [], subscriptions: [subscriptionOf(named("geo"), "us", "geo.eu.#")] };
    const events = topic(named("geo"));
    const eu = subscription(events, "us", { filter: "geo.eu.#" });
    await withAdapter({ url: place.url }, async ({ adapter, notices }) => {
      expect(await adapter.declare(topology(of))).toEqual([]);
      expect(await adapter.declare(topology({ ...changed, mode: "verify" }))).toEqual([]);
      expect(notices.map(({ message }) => message).join()).toMatch(/not known.*geo\.eu\.#.*managementUrl/);
    });
    const world = { configuration: { broker: place.url, destinations: [eu] }, cwd: process.cwd() };
    const verify = await command(["topology", "verify", "--json"], world);
    expect([verify.code, verify.json.verified]).toEqual([69, false]);
    expect(verify.json.destinations).toMatchObject([{ state: "unknown" }]);
    if (management === undefined) return;
    const options = { url: place.url, managementUrl: management.origin };
    await withAdapter(options, async ({ adapter, notices }) => {
      expect(await adapter.declare(topology({ ...of, mode: "verify" }))).toEqual([]);
      const problems = await adapter.declare(topology({ ...changed, mode: "verify" }));
      expect(problems.map(({ code }) => code)).toEqual(problems.map(() => "conflict"));
      const text = problems.map(({ message }) => message).join("\n");
      expect(text).toMatch(/not bound .* with "geo\.eu\.#"/);
      expect(text).toMatch(/also bound .* with the filter "geo\.us\.#"/);
      // Whoever creates binds the new one, and is told of the old.
      expect(await adapter.declare(topology(changed))).toEqual([]);
      expect(notices.map(({ message }) => message).join()).toMatch(/also bound .* with the filter "geo\.us\.#"/);
    });
    const withApi = `${place.url}?managementUrl=${management.origin}`;
    const made = await command(["topology", "create", "--json"], {
      ...world,
      configuration: { ...world.configuration, broker: withApi },
    });
    expect([made.code, made.json.created, made.json.existed]).toEqual([78, [], []]);
    expect(made.json.problems).toMatchObject([{ message: expect.stringContaining("geo.us.#") }]);
  });

  test("who may not configure is told that nothing could be compared", async (context) => {
    if (rabbitmqctl === undefined) {
      context.skip("NOT RUN: users are made by rabbitmqctl");
      return;
    }
    const name = named("looked-at");
    await created(workQueue(name, { ttlMs: 5_000 }));
    const user = `looker-${randomUUID()}`;
    const url = new URL(place.url);
    const vhost = decodeURIComponent(url.pathname.slice(1));
    await rabbitmqctl("add_user", user, "canary-password");
    try {
      await rabbitmqctl("set_permissions", "-p", vhost, user, "^$", ".*", "^$");
      url.username = user;
      url.password = "canary-password";
      await withAdapter({ url: url.href }, async ({ adapter, notices }) => {
        expect(await adapter.declare(topology({ queues: [workQueue(name)], mode: "verify" }))).toEqual([]);
        await until("the notice", 30_000, () =>
          expect(notices).toMatchObject([{ code: "unauthorized", message: expect.stringContaining(`"${name}"`) }]),
        );
        expect(notices[0]?.message).toContain("managementUrl");
      });
      const destinations = [queue(name)];
      const world = { configuration: { broker: url.href, destinations }, cwd: process.cwd() };
      const verify = await command(["topology", "verify", "--json"], world);
      expect([verify.code, verify.json.verified]).toEqual([77, false]);
      expect(verify.json.destinations).toMatchObject([{ state: "unknown" }]);
      if (management === undefined) return;
      await rabbitmqctl("set_user_tags", user, "management");
      await withAdapter({ url: url.href, managementUrl: management.origin }, async ({ adapter, notices }) => {
        expect(await adapter.declare(topology({ queues: [workQueue(name)], mode: "verify" }))).toMatchObject([
          { code: "conflict", message: expect.stringContaining("x-message-ttl is 5000 instead of none") },
        ]);
        expect(notices).toEqual([]);
      });
    } finally {
      await rabbitmqctl("delete_user", user);
    }
  });
});

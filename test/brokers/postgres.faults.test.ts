import { Client } from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { faultyLink } from "./faulty-link.ts";
import { ask } from "./postgres/await-postgres.ts";
import type { Database } from "./postgres.ts";
import { controlsOrNotRun, describePostgres } from "./suite.ts";

describePostgres("Postgres to test against", (broker) => {
  let place: Database;

  beforeAll(async () => {
    place = await broker.newDatabase();
  });

  afterAll(async () => {
    await place.remove();
  });

  async function connect(url = place.url): Promise<Client> {
    const client = new Client({ connectionString: url, connectionTimeoutMillis: 5_000 });
    client.on("error", () => undefined);
    await client.connect();
    return client;
  }

  async function store(table: string, body: string): Promise<void> {
    await ask(place.url, `CREATE TABLE ${table} AS SELECT '${body}' AS body`);
  }

  const stored = (table: string) => ask<{ body: string }>(place.url, `SELECT body FROM ${table}`);

  test("says its version and keeps rows", async () => {
    expect(broker.version).toMatch(/^\d+\.\d+/);
    await store("plain", "hello");
    expect(await stored("plain")).toEqual([{ body: "hello" }]);
  });

  test("two places do not see each other's tables, and one that is removed is gone, with its connections", async () => {
    const other = await broker.newDatabase();
    const client = await connect(other.url);
    try {
      await store("mine", "here");
      await client.query("CREATE TABLE mine AS SELECT 'there' AS body");
      expect(await stored("mine")).toEqual([{ body: "here" }]);
    } finally {
      await other.remove();
    }
    await expect(client.query("SELECT body FROM mine")).rejects.toThrow();
    await client.end().catch(() => undefined);
  });

  test.for(["restart", "kill and start"] as const)("%s keeps the URL and the data", async (fault, context) => {
    const controls = controlsOrNotRun(broker, context);
    const table = fault.split(" ")[0] ?? "";
    await store(table, "kept");
    // Someone who does not leave by himself, and whose process must not live on.
    const client = await connect();
    const ended = new Promise((resolve) => client.once("end", resolve));
    const asking = client.query("SELECT pg_sleep(600)").catch(() => undefined);
    if (fault === "restart") {
      await controls.restart();
    } else {
      await controls.kill();
      await expect(connect()).rejects.toThrow();
      await controls.start();
    }
    await Promise.all([ended, asking]);
    expect(await stored(table)).toEqual([{ body: "kept" }]);
  });

  test("a frozen server answers nothing, also on connections that stand, and goes on when thawed", async (context) => {
    const controls = controlsOrNotRun(broker, context);
    const client = await connect();
    await controls.pause();
    let answered = false;
    const answer = client.query("SELECT 1").then(() => {
      answered = true;
    });
    try {
      // An attempt that runs into its own deadline shows that the server had the time to answer.
      await expect(connect()).rejects.toThrow();
      expect(answered).toBe(false);
    } finally {
      await controls.resume();
    }
    await answer;
    await client.end();
  });

  test("a link in between can be cut", async () => {
    const link = await faultyLink(broker.url);
    try {
      const client = await connect(link.through(place.url));
      const ended = new Promise((resolve) => client.once("end", resolve));
      link.cut();
      await ended;
      await (await connect(link.through(place.url))).end();
    } finally {
      await link.close();
    }
  });
});

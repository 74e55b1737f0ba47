import { createClient } from "redis";
import { expect, test } from "vitest";
import { faultyLink } from "./faulty-link.ts";
import { controlsOrNotRun, describeValkey } from "./suite.ts";
import { withClient } from "./valkey/await-valkey.ts";

describeValkey("Valkey to test against", (broker) => {
  const get = (key: string) => withClient(broker.url, (client) => client.get(key));
  const set = (key: string, value: string) => withClient(broker.url, (client) => client.set(key, value));

  test("says its version and keeps keys", async () => {
    expect(broker.version).toMatch(/^\d+\.\d+/);
    const place = broker.newNamespace();
    await set(`${place.keyPrefix}plain`, "hello");
    expect(await get(`${place.keyPrefix}plain`)).toBe("hello");
    await place.remove();
  });

  test("a namespace that is removed takes its keys with it, however many, and no others", async () => {
    const [mine, other] = [broker.newNamespace(), broker.newNamespace()];
    expect(mine.keyPrefix).not.toBe(other.keyPrefix);
    await set(`${mine.keyPrefix}key`, "mine");
    for (let key = 0; key < 50; key++) await set(`${other.keyPrefix}${key}`, "other");
    await other.remove();
    expect(await get(`${mine.keyPrefix}key`)).toBe("mine");
    expect(await withClient(broker.url, (client) => client.keys(`${other.keyPrefix}*`))).toEqual([]);
    await mine.remove();
  });

  test.for(["restart", "kill and start"] as const)("%s keeps the URL and the data", async (fault, context) => {
    const controls = controlsOrNotRun(broker, context);
    const place = broker.newNamespace();
    await set(`${place.keyPrefix}key`, "kept");
    if (fault === "restart") {
      await controls.restart();
    } else {
      await controls.kill();
      await expect(get(`${place.keyPrefix}key`)).rejects.toThrow();
      await controls.start();
    }
    expect(await get(`${place.keyPrefix}key`)).toBe("kept");
    await place.remove();
  });

  test("a frozen server answers nothing, and goes on when thawed", async (context) => {
    const controls = controlsOrNotRun(broker, context);
    const place = broker.newNamespace();
    const client = createClient({ url: broker.url });
    client.on("error", () => undefined);
    await client.connect();
    await controls.pause();
    let answered = false;
    const answer = client.get(`${place.keyPrefix}key`).then(() => {
      answered = true;
    });
    try {
      // A question that runs into its own deadline shows that the server had the time to answer.
      await expect(get(`${place.keyPrefix}key`)).rejects.toThrow();
      expect(answered).toBe(false);
    } finally {
      await controls.resume();
    }
    await answer;
    client.destroy();
  });

  test("a link in between can be cut", async () => {
    const link = await faultyLink(broker.url);
    try {
      await withClient(link.through(broker.url), async (client) => {
        const ended = new Promise((resolve) => client.once("error", resolve));
        link.cut();
        await ended;
      });
      expect(await withClient(link.through(broker.url), (client) => client.ping())).toBe("PONG");
    } finally {
      await link.close();
    }
  });
});

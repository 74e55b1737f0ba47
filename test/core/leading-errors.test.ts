import { describe, expect, it } from "vitest";
import { createBroker } from "../../core/create-broker.ts";
import { queue } from "../../core/destination.ts";
import { MessagingError } from "../../core/errors.ts";
import { PublisherEngine } from "../../core/publish/publisher-engine.ts";
import { startFailed } from "../../core/start.ts";
import { storeFailure } from "../../core/stores.ts";
import { Prng } from "../simulation/prng.ts";
import { ProcessClock, VirtualTime } from "../simulation/virtual-time.ts";
import { outgoingMessage, RecordingAdapter } from "./recording-adapter.ts";

const LIMITS = { maxBatchMessages: 1, maxBatchBytes: 1_000, maxBatchesInFlight: 1 };

describe("errors say where, why, and what to do next", () => {
  it.for<[string, unknown, string]>([
    ["an address", { code: "ECONNREFUSED", address: "10.0.0.7", port: 5432 }, "at 10.0.0.7:5432 (ECONNREFUSED)"],
    ["one of IPv6", { code: "ECONNREFUSED", address: "::1", port: 5432 }, "at [::1]:5432 (ECONNREFUSED)"],
    ["a name", { code: "ENOTFOUND", hostname: "db.invalid" }, "at db.invalid (ENOTFOUND)"],
    ["no place", { code: "ECONNRESET" }, "it cannot be reached (ECONNRESET)"],
    ["several addresses", { errors: [{ code: "ETIMEDOUT", address: "::1", port: 1 }] }, "at [::1]:1 (ETIMEDOUT)"],
    ["an error of its client", { cause: { code: "EAI_AGAIN", hostname: "db" } }, "at db (EAI_AGAIN)"],
  ])("a store that cannot be reached, by %s", ([, fields, text]) => {
    const cause = Object.assign(new Error("postgres://u:secret@db"), fields);
    const error = storeFailure("outbox store", "Postgres", "tell its health", undefined, cause);
    expect(error.code).toBe("unreachable");
    expect(error.message).toContain(text);
    expect(error.message).toContain("check host and port, and that it runs; the call can be repeated");
    expect(error.message).not.toContain("secret");
  });

  it("what else a store says is left to the cause", () => {
    const error = storeFailure("outbox store", "Postgres", "tell its health", undefined, new Error("odd"));
    expect(error.message).toBe(
      "the outbox store's Postgres did not tell its health: see the cause; the call can be repeated",
    );
  });

  it("a limit that many meet is told once", () => {
    const full = () => new MessagingError("overloaded", "all channels are in use");
    const { message, problems } = startFailed([full(), full(), new MessagingError("not-found", "no queue"), full()]);
    expect(problems).toHaveLength(4);
    expect(message).toContain("overloaded: all channels are in use (3 times)\n  - not-found: no queue");
  });

  it("a send that was never handed over says why there is no connection, as long as there is none", async () => {
    const time = new VirtualTime();
    const adapter = new RecordingAdapter(LIMITS);
    adapter.holds = true;
    const publishing = new PublisherEngine(adapter, {}, new ProcessClock(time), new Prng("lost"));
    const lost = new MessagingError("unreachable", "RabbitMQ at a:5672 cannot be reached (ECONNREFUSED)");
    const late = async (): Promise<MessagingError> => {
      const sent = publishing.send(publishing.route({ kind: "queue", name: "q" }, false), outgoingMessage("1"), 10);
      let ended: unknown;
      sent.catch((error: unknown) => {
        ended = error;
      });
      expect(await time.until(() => ended !== undefined, 1_000)).toBe(true);
      return ended as MessagingError;
    };
    publishing.connected(false, lost);
    const error = await late();
    expect(error).toMatchObject({ code: "timeout", cause: lost });
    expect(error.message).toContain(
      "it was not sent, since there is no connection: RabbitMQ at a:5672 cannot be reached",
    );
    // It came back, and is gone for another reason, or for none that is known.
    publishing.connected(true);
    publishing.connected(false);
    expect((await late()).message).toContain("Check the connection in broker.status()");
  });

  it("a broker object that was stopped says what to do", async () => {
    const work = queue("work");
    const broker = createBroker(new RecordingAdapter(LIMITS), { destinations: [work] });
    await broker.start();
    await broker.stop();
    await expect(broker.send(work, 1)).rejects.toThrow("it was stopped; make another by createBroker()");
  });
});

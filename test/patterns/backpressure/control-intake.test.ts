import { describe, expect, it } from "vitest";
import { queue } from "../../../core/destination.ts";
import { IntakeGroup } from "../../../patterns/backpressure/control-intake.ts";
import { controlIntake, type Intake, type IntakeControl } from "../../../patterns/backpressure/index.ts";
import { virtualWorld } from "./virtual.ts";

const orders = queue<number>("orders");

/** A control that the test holds in its hand, and that notes when handlers pass it. */
function byHand(name: string, passed: string[]): IntakeControl & { readonly intakes: Intake[] } {
  const intakes: Intake[] = [];
  return {
    intakes,
    control(intake) {
      intakes.push(intake);
      return (next) => (body, delivery) => {
        passed.push(name);
        return next(body, delivery);
      };
    },
  };
}

function controlled() {
  const world = virtualWorld("controlled");
  const passed: string[] = [];
  const controls = [byHand("first", passed), byHand("second", passed)];
  const done: number[] = [];
  const consumer = controlIntake(controls, (use) =>
    world.broker.consume(
      orders,
      async (n) => {
        await world.sleep(100);
        done.push(n);
      },
      { use, concurrency: 8 },
    ),
  );
  const [first, second] = controls.map(({ intakes }) => intakes[0] as Intake) as [Intake, Intake];
  return { ...world, consumer, first, second, done, passed };
}

describe("IntakeGroup", () => {
  it("goes by what was said last, also where letting one go on changes what holds for the others", () => {
    const { clock } = virtualWorld("group");
    const group = new IntakeGroup(clock);
    const told: string[] = [];
    const intake = (name: string): Intake => ({
      live: true,
      leased: false,
      ended: false,
      requeue: () => {},
      allow: (handlers) => {
        told.push(`${name} ${handlers}`);
        // As a consumer does that holds a message, whose control then holds all of them.
        if (handlers === 1) group.allow(0);
      },
    });
    group.add(intake("first"));
    group.add(intake("second"));
    told.length = 0;
    group.allow(1);
    expect(told).toEqual(["first 1", "first 0", "second 0"]);
  });

  it("has messages given back in holds that last and that only moments interrupt, sooner where there are no leases", async () => {
    const { clock, pass } = virtualWorld("holds");
    const requeued: string[] = [];
    const group = new IntakeGroup(clock);
    for (const leased of [false, true]) {
      const requeue = (): void => void requeued.push(`${leased} ${Math.floor(clock.monotonic() / 60_000)}`);
      group.add({ live: true, leased, ended: false, allow: () => {}, requeue });
    }
    const hold = (ms: number): void => group.holdUntil(clock.monotonic() + ms, () => group.allow(undefined));
    for (let minute = 0; minute < 60; minute++) {
      hold(60_000);
      await pass(60_000);
    }
    expect(requeued).toEqual(["false 25", "false 50"]);
    for (let minute = 0; minute < 60; minute++) {
      hold(30_000);
      await pass(60_000);
    }
    expect(requeued).toHaveLength(2);
    hold(12 * 3_600_000);
    await pass(12 * 3_600_000);
    expect(requeued.filter((one) => one.startsWith("true"))).toEqual([`true ${120 + 11 * 60}`]);
    expect(requeued.filter((one) => one.startsWith("false"))).toHaveLength(2 + 28);
  });
});

describe("controlIntake", () => {
  it("starts handlers only while no control and no one else holds them", async () => {
    const { broker, consumer, first, second, done, finish, pass, until } = controlled();
    await finish(broker.start());
    first.allow(0);
    second.allow(0);
    consumer.pause();
    await finish(broker.send(orders, 1));
    const held = async (): Promise<void> => {
      await pass(10_000);
      expect(consumer.status()).toMatchObject({ state: "paused", started: 0, concurrency: 8 });
    };
    await held();
    first.allow(undefined);
    await held();
    consumer.resume();
    await held();
    second.allow(5);
    await until(() => done.length === 1);
    consumer.pause();
    expect(consumer.status().state).toBe("paused");
    second.allow(undefined);
    first.allow(0);
    first.allow(undefined);
    expect(consumer.status().state).toBe("paused");
    consumer.resume();
    expect(consumer.status().state).toBe("running");
    await finish(broker.stop());
  });

  it("gives back what waits in memory when it is told to, also behind a control", async () => {
    const { broker, another, consumer, first, finish, pass, until } = controlled();
    await finish(broker.start());
    await finish(
      broker.sendMany(
        orders,
        Array.from({ length: 12 }, (_, body) => ({ body })),
      ),
    );
    await until(() => consumer.status().running === 8);
    first.allow(0);
    await pass(1_000);
    expect(consumer.status()).toMatchObject({ succeeded: 8, waiting: 4 });
    consumer.pause({ requeue: true });
    await until(() => consumer.status().requeued === 4);
    expect(consumer.status()).toMatchObject({ unsettled: 0, state: "paused" });
    const other = another();
    const attempts: number[] = [];
    other.consume(orders, (_, { attempt }) => void attempts.push(attempt));
    await finish(other.start());
    await until(() => attempts.length === 4);
    expect(attempts).toEqual([1, 1, 1, 1]);
    await finish(other.stop());
    await finish(broker.stop());
  });

  it("runs as many handlers at once as the strictest allows", async () => {
    const { broker, consumer, first, second, done, finish, until } = controlled();
    await finish(broker.start());
    const concurrency = () => consumer.status().concurrency;
    first.allow(3);
    second.allow(2);
    expect(concurrency()).toBe(2);
    await finish(
      broker.sendMany(
        orders,
        [1, 2, 3, 4, 5, 6].map((body) => ({ body })),
      ),
    );
    await until(() => consumer.status().started > 0);
    expect(consumer.status().running).toBe(2);
    second.allow(undefined);
    expect(concurrency()).toBe(3);
    first.allow(0);
    expect(concurrency()).toBe(8);
    first.allow(undefined);
    consumer.setConcurrency(4);
    expect(concurrency()).toBe(4);
    first.allow(20);
    expect(concurrency()).toBe(4);
    expect(() => consumer.setConcurrency(0)).toThrow(expect.objectContaining({ code: "invalid" }));
    await until(() => done.length === 6);
    await finish(broker.stop());
  });

  it("puts the first control outermost, and tells controls when the consumer ends", async () => {
    const { broker, consumer, first, passed, done, finish, until } = controlled();
    expect(first).toMatchObject({ live: true, ended: false });
    await finish(broker.start());
    await finish(broker.send(orders, 1));
    await until(() => done.length === 1);
    expect(passed).toEqual(["first", "second"]);
    await finish(broker.stop());
    expect(first).toMatchObject({ live: false, ended: false });
    await finish(broker.start());
    expect(first.live).toBe(true);
    await finish(consumer.stop());
    expect(first).toMatchObject({ live: false, ended: true });
    await finish(broker.stop());
  });

  it("refuses what is no control, and leaves the consumer's own mistakes as they are", () => {
    const { broker } = virtualWorld("wrong");
    for (const wrong of [undefined, [{}], ["rate"]]) {
      expect(() => controlIntake(wrong as never, () => broker.consume(orders, () => {}))).toThrow(
        expect.objectContaining({ code: "invalid" }),
      );
    }
    expect(() => controlIntake([], (use) => broker.consume(orders, () => {}, { use, concurrency: 0 }))).toThrow(
      expect.objectContaining({ code: "invalid" }),
    );
  });
});

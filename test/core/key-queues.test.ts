import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { InFlightDelivery } from "../../core/consume/in-flight.ts";
import { KeyQueues, UnorderedQueue } from "../../core/consume/key-queues.ts";
import { incoming } from "./recording-adapter.ts";

function held(sequence: number, key: string | undefined): InFlightDelivery {
  return new InFlightDelivery(incoming(`${sequence}`, { key }), sequence, 0, () => {});
}

const key = fc.constantFrom(undefined, "a", "b", "c");
const step = fc.oneof(
  fc.record({ kind: fc.constant("push" as const), key }),
  fc.record({ kind: fc.constant("take" as const) }),
  fc.record({ kind: fc.constant("leave" as const), which: fc.nat() }),
  fc.record({ kind: fc.constant("again" as const), which: fc.nat() }),
  fc.record({ kind: fc.constant("lose" as const), which: fc.nat() }),
  fc.record({ kind: fc.constant("drain" as const) }),
);

describe("KeyQueues", () => {
  it("runs a key one at a time and in order, lets others pass, and forgets nothing", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const queues = new KeyQueues();
        const waiting: InFlightDelivery[] = [];
        const occupying: InFlightDelivery[] = [];
        const again = new Set<InFlightDelivery>();
        let sequence = 0;
        const choose = (list: readonly InFlightDelivery[], which: number) => list[which % Math.max(list.length, 1)];
        const startable = (): InFlightDelivery[] => [
          ...again,
          ...waiting.filter((one, index) => {
            const { key } = one.incoming;
            if (key === undefined) return true;
            const first = waiting.findIndex((other) => other.incoming.key === key);
            return first === index && !occupying.some((other) => other.incoming.key === key);
          }),
        ];
        for (const step of steps) {
          if (step.kind === "push") {
            const one = held(sequence++, step.key);
            waiting.push(one);
            queues.push(one);
          } else if (step.kind === "take") {
            const may = startable();
            const taken = queues.take();
            if (may.length === 0) expect(taken).toBeUndefined();
            else expect(may).toContain(taken);
            if (taken === undefined) continue;
            taken.state = "running";
            if (again.delete(taken)) continue;
            waiting.splice(waiting.indexOf(taken), 1);
            occupying.push(taken);
          } else if (step.kind === "leave") {
            const one = choose(occupying, step.which);
            if (one === undefined) continue;
            occupying.splice(occupying.indexOf(one), 1);
            again.delete(one);
            one.state = "settled";
            queues.leave(one);
          } else if (step.kind === "again") {
            const one = choose(
              occupying.filter((other) => !again.has(other)),
              step.which,
            );
            if (one === undefined) continue;
            one.state = "waiting";
            again.add(one);
            queues.again(one);
          } else if (step.kind === "lose") {
            const one = choose(waiting, step.which);
            if (one === undefined) continue;
            one.state = "settled";
            waiting.splice(waiting.indexOf(one), 1);
            queues.leave(one);
          } else {
            const drained = queues.drain().filter(({ state }) => state === "waiting");
            expect(drained).toEqual([...waiting, ...again].sort((one, other) => one.sequence - other.sequence));
            waiting.length = 0;
            for (const one of again) occupying.splice(occupying.indexOf(one), 1);
            again.clear();
          }
        }
        // Once everything leaves, everything else comes, each key in its order.
        for (const one of occupying) queues.leave(one);
        const rest: InFlightDelivery[] = [];
        for (let one = queues.take(); one !== undefined; one = queues.take()) {
          rest.push(one);
          queues.leave(one);
        }
        expect(new Set(rest)).toEqual(new Set([...waiting, ...again]));
        for (const name of ["a", "b", "c"]) {
          const ofKey = rest.filter((one) => one.incoming.key === name).map((one) => one.sequence);
          expect(ofKey).toEqual([...ofKey].sort((one, other) => one - other));
        }
      }),
      { numRuns: 500 },
    );
  });

  it("frees a lane once, though everything that waited there was lost", () => {
    const queues = new KeyQueues();
    const [lost, one, two] = [held(0, "a"), held(1, "a"), held(2, "a")];
    queues.push(lost);
    lost.state = "settled";
    expect(queues.take()).toBeUndefined();
    queues.push(one);
    queues.push(two);
    expect(queues.take()).toBe(one);
    expect(queues.take()).toBeUndefined();
  });
});

describe("UnorderedQueue", () => {
  it("is first come, first served, what starts again before all others", () => {
    const queues = new UnorderedQueue();
    const [one, two, three] = [held(1, "a"), held(2, "a"), held(3, undefined)];
    queues.push(one);
    queues.push(two);
    queues.push(three);
    expect(queues.take()).toBe(one);
    queues.again(one);
    two.state = "settled";
    expect([queues.take(), queues.take(), queues.take()]).toEqual([one, three, undefined]);
  });
});

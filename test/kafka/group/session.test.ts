import { expect, test } from "vitest";
import { MemberSession } from "../../../adapters/kafka/group/session.ts";
import type { Clock } from "../../../core/clock.ts";
import { ProcessClock, VirtualTime } from "../../simulation/virtual-time.ts";

function open(clock?: Partial<Clock>) {
  const time = new VirtualTime();
  const own = new ProcessClock(time);
  const ends: number[] = [];
  const merged: Clock = {
    now: () => own.now(),
    monotonic: () => own.monotonic(),
    schedule: (run, ms) => own.schedule(run, ms),
    cancel: (timer) => own.cancel(timer),
    ...clock,
  };
  const session = new MemberSession("orders", merged, 10_000, () => {
    ends.push(time.now);
    session.end("member-id");
  });
  const pass = async (ms: number): Promise<void> => {
    let isOver = false;
    time.schedule(() => {
      isOver = true;
    }, ms);
    await time.until(() => isOver, Number.POSITIVE_INFINITY);
  };
  return { session, ends, pass };
}

test("lasts from when a request was sent that was answered, and not from its answer", async () => {
  const { session, ends, pass } = open();
  session.joined("member-1", 1, session.moment());
  session.gotAssignment(session.moment());
  await pass(4_000);
  const asked = session.moment();
  await pass(3_000);
  session.seen(asked);
  await pass(20_000);
  expect(ends).toEqual([14_000]);
  expect(session.membership).toBeUndefined();
  expect(session.memberId).toBe("member-1");
});

test("answers that overtake each other do not shorten it", async () => {
  const { session, ends, pass } = open();
  const early = session.moment();
  session.joined("member-1", 1, early);
  await pass(5_000);
  session.seen(session.moment());
  session.seen(early);
  await pass(20_000);
  expect(ends).toEqual([15_000]);
});

test("a member that waited long for its first join begins then; later joins do not renew it by their answer", async () => {
  const { session, ends, pass } = open();
  const asked = session.moment();
  await pass(30_000);
  session.joined("member-1", 1, asked);
  const again = session.moment();
  await pass(9_000);
  session.joined("member-1", 2, again);
  await pass(20_000);
  expect(ends).toEqual([40_000]);
});

test("a machine that was suspended knows by the wall clock", () => {
  let now = 1_000_000;
  const { session, ends } = open({ now: () => now });
  session.joined("member-1", 1, session.moment());
  session.check();
  expect(ends).toEqual([]);
  now += 10_000;
  session.check();
  expect(ends).toEqual([0]);
});

test("commits have a membership only with the assignment of the same generation", () => {
  const { session } = open();
  expect(session.assigned).toBeUndefined();
  session.joined("member-1", 1, session.moment());
  expect(session.assigned).toBeUndefined();
  session.gotAssignment(session.moment());
  expect(session.assigned).toEqual({ group: "orders", memberId: "member-1", generation: 1 });
  session.joined("member-1", 2, session.moment());
  expect(session.assigned).toBeUndefined();
  expect(session.membership).toEqual({ group: "orders", memberId: "member-1", generation: 2 });
  session.end("nothing");
  expect(session).toMatchObject({ membership: undefined, memberId: "", assignedGeneration: -1 });
});

import { describe, expect, test } from "vitest";
import { eventually, ORDERS, opened, receiving, send } from "./opened.ts";
import { outgoing } from "./outgoing.ts";
import { ScriptedAccount } from "./scripted-account.ts";
import { type Answer, entriesOf, type ScriptedAws } from "./scripted-aws.ts";

const CONFIRMED = [{ status: "confirmed" }];

const HOUR_MS = 3_600_000;

/** AWS, whose clock is that far from the one of this machine, and which looks at the time of each signature. */
function clocked(aws: ScriptedAws, refusal: Answer) {
  const clock = { offMs: 0, refusals: 0 };
  aws.gate = (headers) => {
    const now = Date.now() + clock.offMs;
    aws.headers = { date: new Date(now).toUTCString() };
    const [, year, month, day, hour, minute, second] =
      /^(....)(..)(..)T(..)(..)(..)Z$/.exec(String(headers["x-amz-date"])) ?? [];
    const signedAt = Date.parse(`${year}-${month}-${day}T${hour}:${minute}:${second}Z`);
    if (Math.abs(signedAt - now) < 5 * 60_000) return undefined;
    clock.refusals++;
    return refusal;
  };
  return clock;
}

describe("a step of the clock, as of a machine that slept", () => {
  const refusals = [
    { error: "RequestTimeTooSkewed", status: 403 },
    { error: "RequestExpired", status: 400 },
    { error: "SignatureDoesNotMatch", message: "Signature expired", status: 403 },
    { error: "InvalidSignatureException", message: "Signature not yet current", status: 400 },
  ] as const;

  test.for(refusals)("is no missing right: $error", async (refusal) => {
    const { aws, adapter, signals } = await opened();
    const account = new ScriptedAccount(aws);
    account.topics.set("placed", {});
    account.queues.set("orders", {});
    aws.on("PublishBatch", (input) => ({ output: { Successful: entriesOf(input).map(({ Id }) => ({ Id })) } }));
    const { inbox, receiver } = await receiving(adapter);
    const topic = { kind: "topic", name: "placed" } as const;
    const sends = () => [send(adapter, [outgoing()]), send(adapter, [outgoing()], topic)];
    expect(await Promise.all(sends())).toEqual([CONFIRMED, CONFIRMED]);
    const clock = clocked(aws, refusal);
    for (const offMs of [HOUR_MS, -HOUR_MS, 0]) {
      clock.offMs = offMs;
      const before = clock.refusals;
      expect(await Promise.all(sends())).toEqual([CONFIRMED, CONFIRMED]);
      expect(await adapter.depth(ORDERS).catch((error: unknown) => error)).not.toMatchObject({ code: "unauthorized" });
      const polls = aws.inputs("ReceiveMessage").length;
      await eventually(() => aws.inputs("ReceiveMessage").length > polls + 2);
      expect(clock.refusals).toBeGreaterThan(before);
    }
    expect(inbox.causes).toEqual([]);
    expect(signals).toEqual([]);
    await receiver.close();
  });

  test("a signature that is wrong for another reason is refused at once, with a clock that is right or wrong", async () => {
    const { aws, adapter } = await opened();
    for (const offMs of [0, HOUR_MS]) {
      aws.headers = { date: new Date(Date.now() + offMs).toUTCString() };
      expect(await send(adapter, [outgoing()])).toEqual(CONFIRMED);
      const before = aws.inputs("SendMessage").length;
      aws.next("SendMessage", { error: "SignatureDoesNotMatch", status: 403 });
      expect(await send(adapter, [outgoing()])).toMatchObject([{ error: { code: "unauthorized" } }]);
      expect(aws.inputs("SendMessage")).toHaveLength(before + 1);
    }
  });
});

describe("a wild time of the server", () => {
  const dates = [
    "Sat, 13 Sep 275760 00:00:00 GMT",
    "Thu, 01 Jan 9999 00:00:00 GMT",
    "Fri, 01 Jan -271821 00:00:00 GMT",
    "Thu, 01 Jan 1970 00:00:00 GMT",
    "yesterday",
  ];

  test.for(dates)("in the headers of answers, %s, stops neither sends nor consumers", async (date) => {
    const { aws, adapter } = await opened();
    const { inbox } = await receiving(adapter);
    aws.headers = { date };
    expect(await send(adapter, [outgoing()])).toEqual(CONFIRMED);
    const polls = aws.inputs("ReceiveMessage").length;
    await eventually(() => aws.inputs("ReceiveMessage").length > polls + 2);
    expect(await send(adapter, [outgoing()])).toEqual(CONFIRMED);
    expect(inbox.causes).toEqual([]);
  });

  test("in a refusal does not either", async () => {
    const { aws, adapter } = await opened();
    const ServerTime = "+275760-09-13T00:00:00.000Z";
    aws.next("SendMessage", { raw: JSON.stringify({ __type: "Refused", message: "no", ServerTime }), status: 400 });
    expect(await send(adapter, [outgoing()])).toMatchObject([{ status: "rejected" }]);
    expect(await send(adapter, [outgoing()])).toEqual(CONFIRMED);
    await expect(adapter.depth(ORDERS)).rejects.toMatchObject({ code: "refused" });
  });
});

import { describe, expect, test } from "vitest";
import { eventually, ORDERS, opened, receiving, send } from "./opened.ts";
import { outgoing } from "./outgoing.ts";

const CONFIRMED = [{ status: "confirmed" }];

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

import { expect, test } from "vitest";
import { z } from "zod";
import { queue } from "../../../../core/destination.ts";
import { HEADER } from "../../../../core/system-headers.ts";
import { burials, freshName, Graveyard, type Grounds } from "../graveyard.ts";

/** `edit`, and `replay` with an edit. */
export function editCases(grounds: () => Grounds): void {
  const open = (): Promise<Graveyard> => {
    const orders = queue(freshName(grounds(), "orders"), { schema: z.object({ n: z.number().positive() }) });
    return Graveyard.open(grounds(), { orders });
  };

  test("one, which goes under another id with a link to what it was", async () => {
    const yard = await open();
    await yard.bury([...burials(1, "a", { body: '{"n":-1}', key: "k" }), ...burials(1, "b")]);
    const { entries } = await yard.dead.list({ filter: "id = a-00000" });
    expect(entries).toMatchObject([{ valid: false }]);
    const handled: { body: unknown; id: string; key: string | undefined }[] = [];
    yard.broker.consume(yard.orders, (body, { id, key }) => void handled.push({ body, id, key }));
    await expect(yard.dead.edit("a-00000", () => ({ n: -2 }))).rejects.toMatchObject({ code: "invalid" });
    await expect(yard.dead.edit("a-00000", () => undefined)).rejects.toMatchObject({ code: "not-found" });
    await expect(yard.dead.edit("nobody", () => ({ n: 1 }))).rejects.toMatchObject({ code: "not-found" });
    expect(yard.sentBack()).toEqual([]);
    const edited = await yard.dead.edit("a-00000", (body) => ({ n: -(body as { n: number }).n }));
    expect(edited).toEqual({ id: expect.stringMatching(/^[0-9a-f-]{36}$/), editedFrom: "a-00000" });
    await yard.until("the copy", () => handled.length === 1);
    expect(handled).toEqual([{ body: { n: 1 }, id: edited.id, key: "k" }]);
    expect(yard.sentBack()[0]?.headers).toMatchObject({ [HEADER.editedFrom]: "a-00000", [HEADER.replays]: "1" });
    expect((await yard.dead.list()).entries).toMatchObject([{ messageId: "b-00000", valid: false }]);
    await yard.stop();
  });

  test("a group, by a JSON patch that is tried on each when it is planned, and kept with the plan", async () => {
    const yard = await open();
    await yard.bury([
      ...burials(3, "a", { body: '{"m":7}' }),
      ...burials(1, "b", { body: '{"other":7}' }),
      ...burials(1, "c", { body: '{"m":-7}' }),
      ...burials(1, "d", { body: "{no json" }),
    ]);
    const edit = [{ op: "move", from: "/m", path: "/n" }] as const;
    const { plan } = await yard.dead.replay("all", { edit });
    expect(plan).toMatchObject({ count: 3, edit, entries: [{ messageId: "a-00000" }, {}, {}] });
    expect(plan.refused.map(({ why }) => why).sort()).toEqual([
      expect.stringMatching(/^edit for .* at n/),
      expect.stringContaining("cannot be read by the codec"),
      "operation 0 of the patch (move) does not fit: there is nothing at /m",
    ]);
    const kept = JSON.parse(JSON.stringify(plan)) as typeof plan;
    await expect(yard.dead.resume(kept, { edit: () => ({ n: 1 }) })).rejects.toMatchObject({ code: "invalid" });
    const result = await (await yard.dead.resume(kept)).run();
    expect(result).toMatchObject({ done: 3, failed: 0, stopped: undefined });
    expect(yard.sentBack().map(({ body }) => Buffer.from(body).toString())).toEqual(Array(3).fill('{"n":7}'));
    await yard.stop();
  });

  test("not without the function, when a plan with one is taken up", async () => {
    const yard = await open();
    await yard.bury(burials(2));
    const edit = () => ({ n: 5 });
    const { plan } = await yard.dead.replay("all", { edit });
    expect(plan.edit).toBe("function");
    await expect(yard.dead.resume(plan)).rejects.toMatchObject({
      code: "invalid",
      message: expect.stringContaining("pass the same function as { edit }"),
    });
    await expect((await yard.dead.resume(plan, { edit })).run()).resolves.toMatchObject({ done: 2 });
    await yard.stop();
  });

  test("many, of which some are left as they were", async () => {
    const yard = await open();
    await yard.bury(burials(6));
    const { plan, run } = await yard.dead.replay("all", {
      edit: async (body, { messageId }) => {
        if (messageId === "m-00005") throw new Error("no idea");
        const { n } = body as { n: number };
        return n === 4 ? undefined : { n: n + 100 };
      },
    });
    expect(plan.count).toBe(6);
    const result = await run();
    expect(result).toMatchObject({ done: 4, left: 1, failed: 1, stopped: undefined });
    expect(result.failures).toMatchObject([{ messageId: "m-00005", error: { code: "invalid" } }]);
    expect(result.edited.map(({ from }) => from).sort()).toEqual(["m-00000", "m-00001", "m-00002", "m-00003"]);
    expect(
      yard
        .sentBack()
        .map(({ body }) => JSON.parse(Buffer.from(body).toString()).n)
        .sort(),
    ).toEqual([100, 101, 102, 103]);
    expect((await yard.dead.list()).entries.map(({ messageId }) => messageId)).toEqual(["m-00004", "m-00005"]);
    await yard.stop();
  });
}

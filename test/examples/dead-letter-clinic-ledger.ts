import { readFileSync } from "node:fs";
import type { ArchivedEntry } from "anybroker/dead-letters";
import { expect } from "vitest";
import { rowOf } from "./exactly-once-charge-books.ts";

/** What the clinic prints and archives of so many orders, a multiple of 500, whatever the broker. */
export function expectClinicToSucceed(output: string, orders: number, archive: string): void {
  const [timedOut, renamed, unwanted] = [39, 5, 6].map((share) => (orders / 500) * share) as [number, number, number];
  const dead = timedOut + renamed + unwanted;
  const expectLine = (line: string): void => expect(output).toContain(`\n${line}\n`);

  expectLine(`${dead} dead letters in 3 groups`);
  expectLine(`  ${timedOut} × attempts, PriceTimeout: <url> did not answer within <n> ms for order-<n>`);
  expectLine(`  ${unwanted} × rejected, MessagingError: <text> is a load test, nobody wants it`);
  expectLine(`  ${renamed} × invalid, MessagingError: the schema refuses the body at postcode`);

  // One was sent before the fix, failed again, and no other was sent.
  expectLine(`  sent back 1 of ${timedOut}, came back 1, stopped: failed-again`);
  expect(output).toContain(`a replay would leave ${renamed} alone, for the codec or the schema`);
  // Any of the group: which failed first differs.
  expect(output).toMatch(
    /\n {2}(order-\d+), the schema .* at postcode: \{"id":"\1",.*"zip":"\d+"\}\n {2}edited: [\da-f-]{36}, from \1\n {2}handled\n/,
  );
  expectLine(`  edited likewise ${renamed - 1} of ${renamed - 1}, came back 0`);
  const after = output.slice(output.indexOf("The same replay after the fix"));
  const steps = [...[1, 11, 111].filter((done) => done < timedOut), timedOut];
  for (const [index, done] of steps.entries()) {
    expect(after).toContain(`\n  step ${index + 1}: ${done} of ${timedOut}\n`);
  }
  expectLine(`  sent back ${timedOut} of ${timedOut}, came back 0`);
  expectLine(`  archived and removed ${unwanted} of ${unwanted}, came back 0`);
  expectAudit(output, timedOut, renamed, unwanted);

  expect(rowOf(output, "orders given"), output).toBe(orders);
  expect(rowOf(output, "handled as they were sent"), output).toBe(orders - dead);
  expect(rowOf(output, "handled after a replay"), output).toBe(timedOut);
  expect(rowOf(output, "handled as an edited copy"), output).toBe(renamed);
  expect(rowOf(output, "archived"), output).toBe(unwanted);
  expect(rowOf(output, "handled or archived more than once"), output).toBe(0);
  expect(rowOf(output, "lost"), output).toBe(0);
  expect(rowOf(output, "handled or archived, and no order"), output).toBe(0);
  expect(rowOf(output, "dead letters left"), output).toBe(0);
  // In process nothing but a second copy could come twice.
  if (output.includes(" orders on memory ")) expect(rowOf(output, "second deliveries"), output).toBe(0);
  expectLine("the ledger closes: each order was handled once, or archived");
  expectArchive(archive, unwanted);
}

function expectAudit(output: string, timedOut: number, renamed: number, unwanted: number): void {
  const begin = "\nThe audit\n";
  const [audit] = output.slice(output.indexOf(begin) + begin.length).split("\n\n");
  expect(audit?.split("\n"), output).toEqual([
    `  replay of ${timedOut} begun by the clinic`,
    "  replay of 1 ended: failed-again",
    "  edit of 1 begun by the clinic",
    "  edit of 1 ended",
    `  replay of ${renamed - 1} begun by the clinic`,
    `  replay of ${renamed - 1} ended`,
    `  replay of ${timedOut} begun by the clinic`,
    `  replay of ${timedOut} ended`,
    `  discard of ${unwanted} begun by the clinic`,
    `  discard of ${unwanted} ended`,
  ]);
}

/** The whole orders are in the file, and those of the load test only. */
function expectArchive(file: string, count: number): void {
  const entries = readFileSync(file, "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as ArchivedEntry);
  expect(new Set(entries.map(({ messageId }) => messageId)).size).toBe(count);
  for (const { messageId, body, by } of entries) {
    expect(JSON.parse(body)).toMatchObject({ id: messageId, customer: expect.stringMatching(/^load-test-/) });
    expect(by).toBe("the clinic");
  }
}

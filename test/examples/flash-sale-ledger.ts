import { expect } from "vitest";

interface Row {
  readonly given: number;
  readonly handled: number;
  readonly deadLettered: number;
  readonly lost: number;
  readonly duplicates: number;
}

function row(output: string, role: string): Row {
  const line = output.split("\n").findLast((text) => text.trim().startsWith(`${role} `));
  const [given, handled, deadLettered, lost, duplicates] = (line?.trim().split(/\s+/).slice(1) ?? []).map(Number);
  expect(duplicates, `a ledger line of ${role} in:\n${output}`).toBeTypeOf("number");
  return { given, handled, deadLettered, lost, duplicates } as Row;
}

/** What the closing ledger has to say, whatever happened on the way. */
export function expectNothingLost(output: string, orders: number): void {
  expect(output).toContain(`accepted ${orders}, not accepted 0, lost 0`);
  // Exactly the poison; a copy of it more is possible only if a worker died between its copy and its ack.
  expect(row(output, "orders")).toMatchObject({ given: orders, handled: orders - 1, deadLettered: 1, lost: 0 });
  for (const role of ["billing", "warehouse"]) {
    expect(row(output, role)).toMatchObject({ given: orders - 1, handled: orders - 1, deadLettered: 0, lost: 0 });
  }
}

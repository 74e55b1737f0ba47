import { expect } from "vitest";

/** What the closing books of the example say, by the beginning of each row's label. */
export function rowOf(output: string, label: string): number {
  const line = output.split("\n").findLast((text) => text.trim().startsWith(label));
  const [, number] = / (\d+)$/.exec(line ?? "") ?? [];
  expect(number, `a row "${label}" in:\n${output}`).toBeDefined();
  return Number(number);
}

/** Every card was charged once, whoever was killed. */
export function expectBooksToClose(output: string, cards: number): void {
  expect(rowOf(output, "cards to charge"), output).toBe(cards);
  expect(rowOf(output, "charged exactly once"), output).toBe(cards);
  expect(rowOf(output, "charged more than once"), output).toBe(0);
  expect(rowOf(output, "not charged"), output).toBe(0);
  expect(rowOf(output, "cents charged"), output).toBe(rowOf(output, "cents to charge"));
  expect(rowOf(output, "dead letters"), output).toBe(0);
  expect(output).toContain("the books close: each card was charged exactly once\n");
}

/** The middleware kept the second copies from the handler; what ran again did so because of a kill. */
export function expectSecondCopiesKeptBack(output: string, cards: number): void {
  const starts = rowOf(output, "starts of the handler");
  const afterKill = rowOf(output, "again, the worker of the start before was killed");
  const withoutKill = rowOf(output, "again, though it was not");
  expect(starts, output).toBe(cards + afterKill + withoutKill);
  // Each of the two copies ended in one or the other.
  expect(starts + rowOf(output, "deliveries that the store kept"), output).toBeGreaterThanOrEqual(2 * cards);
  // On a very busy machine claims are lost, for they are not renewed in time. Without the middleware it would be all cards.
  expect(withoutKill, output).toBeLessThan(cards / 2);
}

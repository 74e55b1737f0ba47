/** How many slips of the pen are taken for one: a third of the name's letters. */
const SLIPS = 1 / 3;
const SHORTEST_BEGINNING = 4;

/**
 * The one of the names that was probably meant: the fewest slips away (a letter too much, missing, another, or two
 * swapped), or begun or continued alike. Case, `-` and `_` do not count. Undefined if none is near.
 */
export function nearest(given: string, names: readonly string[]): string | undefined {
  const wanted = plain(given);
  const ranked = names
    .map((name) => ({ name, slips: slips(wanted, plain(name)), alike: begunAlike(wanted, plain(name)) }))
    .filter(({ name, slips, alike }) => alike || slips <= Math.max(1, Math.floor(plain(name).length * SLIPS)))
    .sort((one, other) => one.slips - other.slips);
  return ranked[0]?.name;
}

function plain(name: string): string {
  return name.toLowerCase().replaceAll(/[-_]/g, "");
}

function begunAlike(one: string, other: string): boolean {
  const [shorter, longer] = one.length < other.length ? [one, other] : [other, one];
  return shorter.length >= SHORTEST_BEGINNING && longer.startsWith(shorter);
}

/** The optimal string alignment distance: Damerau's four kinds of slips, each letter touched once. */
function slips(one: string, other: string): number {
  let beforeLast: readonly number[] = [];
  let last: readonly number[] = Array.from({ length: other.length + 1 }, (_, column) => column);
  for (let row = 1; row <= one.length; row++) {
    const current = [row];
    for (let column = 1; column <= other.length; column++) {
      const same = one[row - 1] === other[column - 1];
      const swapped = one[row - 1] === other[column - 2] && one[row - 2] === other[column - 1];
      current[column] = Math.min(
        at(last, column) + 1,
        at(current, column - 1) + 1,
        at(last, column - 1) + (same ? 0 : 1),
        swapped ? at(beforeLast, column - 2) + 1 : Number.POSITIVE_INFINITY,
      );
    }
    beforeLast = last;
    last = current;
  }
  return at(last, other.length);
}

function at(row: readonly number[], column: number): number {
  return row[column] ?? Number.POSITIVE_INFINITY;
}

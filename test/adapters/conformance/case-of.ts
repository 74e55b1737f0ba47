import { type ConformanceCase, SECTIONS } from "../../../conformance/index.ts";

/** The case of a number. */
export function caseOf(number: string): ConformanceCase {
  const found = SECTIONS.flatMap(({ cases }) => cases).find((one) => one.number === number);
  if (found === undefined) throw new Error(`there is no case ${number}`);
  return found;
}

import { isMessagingError, MessagingError } from "../errors.ts";

/** What keeps a broker object from starting, as an error of ours. */
export function asProblem(error: unknown): MessagingError {
  if (isMessagingError(error)) return error;
  return new MessagingError("unreachable", "the broker could not be started; see the cause", { cause: error });
}

/** Every problem in one error. `tried` says how often it was tried, if it was more than once. */
export function startFailed(problems: readonly MessagingError[], tried = ""): MessagingError {
  const all = problems.flatMap((problem) => (problem.code === "start-failed" ? problem.problems : [problem]));
  // A limit that is met is met by each that comes after.
  const kinds = [...Map.groupBy(all, ({ code, message }) => `${code}: ${message}`)];
  const lines = kinds.map(([line, { length }]) => `\n  - ${line}${length === 1 ? "" : ` (${length} times)`}`);
  const many = all.length === 1 ? "a problem" : `${all.length} problems`;
  return new MessagingError(
    "start-failed",
    `start found ${many}${tried}, and nothing was left open:${lines.join("")}`,
    {
      problems: all,
    },
  );
}

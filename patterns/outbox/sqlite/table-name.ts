import { MessagingError } from "../../../core/index.ts";

const NAME = /^[A-Za-z_][A-Za-z0-9_]{0,49}$/;

/** Refuses a table name that would need quoting. */
export function checkTableName(where: string, name: unknown): asserts name is string {
  if (typeof name === "string" && NAME.test(name)) return;
  throw new MessagingError("invalid", `${where} takes letters, digits and _, no digit first, 50 at most`);
}

import { MessagingError } from "../../core/errors.ts";

/** Makes the refusal of a URL. What it says must not quote values: one may be a password in the wrong place. */
export type Refuse = (problem: string) => MessagingError;

export function refuseAs(where: string): Refuse {
  return (problem) => new MessagingError("invalid", `${where} ${problem}`);
}

import { inspect } from "node:util";
import { isMessagingError } from "../../../core/errors.ts";
import { readUrl } from "../../../integrations/url/from-url.ts";
import type { UrlOptions } from "../../../integrations/url/index.ts";

/** Which broker a URL leads to, and what its adapter would be made with. */
export function optionsOf(url: string, own?: UrlOptions): { readonly broker: string; readonly options: object } {
  const { broker, settings } = readUrl(url, own);
  return { broker: broker.name, options: settings };
}

/** What the refusal of a URL says. */
export function refusalOf(url: string | undefined, own?: UrlOptions): string {
  try {
    readUrl(url, own);
  } catch (error) {
    if (isMessagingError(error, "invalid")) return error.message;
    throw error;
  }
  throw new Error("was not refused");
}

/** Everything that an error could give away, its cause included. */
export function toldBy(error: unknown): string {
  return inspect(error, { depth: 10, showHidden: true });
}

import type { UrlOptions } from "anybroker/url";

/** How soon a worker that is killed is missed, where the broker sees no connection end: others have its work only then. */
export const SOON_MISSED: UrlOptions = {
  kafka: { sessionTimeoutMs: 6_000 },
  sqs: { visibilityTimeoutMs: 10_000 },
};

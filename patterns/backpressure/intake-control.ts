import type { Middleware } from "../../core/index.ts";
import type { Intake } from "./intake.ts";

/**
 * Something that decides when a consumer takes messages: a rate limit, a circuit breaker, a downstream that is full.
 * One object may control several consumers, which then share its limit.
 */
export interface IntakeControl {
  /** Takes an intake under control; what it returns wraps the consumer's handler, so that it sees every start and end. */
  control(intake: Intake): Middleware;
}

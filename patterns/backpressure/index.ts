export {
  type AdmissionOptions,
  type AdmissionStatus,
  type AdmittingPublisher,
  admitByDepth,
} from "./admit-by-depth.ts";
export { type Backlog, backlog, type ReadingsOptions } from "./backlog.ts";
export type { BacklogOptions, BacklogSource } from "./backlog-options.ts";
export type { BacklogReading } from "./backlog-reading.ts";
export { type CircuitBreaker, type CircuitStatus, circuitBreaker } from "./circuit-breaker.ts";
export type { CircuitBreakerOptions, CircuitChange, CircuitState } from "./circuit-breaker-options.ts";
export { controlIntake } from "./control-intake.ts";
export type { DepthLimit, DepthSource } from "./depth-limit.ts";
export { type FollowOptions, followDownstream } from "./follow-downstream.ts";
export type { Intake } from "./intake.ts";
export type { IntakeControl } from "./intake-control.ts";
export { type PrometheusText, prometheusText } from "./prometheus-text.ts";
export { type RateLimitOptions, rateLimit } from "./rate-limit.ts";
export { type RetryBudget, type RetryBudgetOptions, type RetryBudgetStatus, retryBudget } from "./retry-budget.ts";

export type { DepthLimit, DepthSource } from "./admit-by-depth.ts";
export {
  type AdmissionOptions,
  type AdmissionStatus,
  type AdmittingPublisher,
  admitByDepth,
} from "./admit-by-depth.ts";
export type { BacklogOptions, BacklogReading, BacklogSource } from "./backlog.ts";
export { type Backlog, backlog, type ReadingsOptions } from "./backlog.ts";
export type { CircuitBreakerOptions, CircuitChange, CircuitState } from "./circuit-breaker.ts";
export { type CircuitBreaker, type CircuitStatus, circuitBreaker } from "./circuit-breaker.ts";
export type { Intake, IntakeControl } from "./control-intake.ts";
export { controlIntake } from "./control-intake.ts";
export { type FollowOptions, followDownstream } from "./follow-downstream.ts";
export { type PrometheusText, prometheusText } from "./prometheus-text.ts";
export { type RateLimitOptions, rateLimit } from "./rate-limit.ts";
export { type RetryBudget, type RetryBudgetOptions, type RetryBudgetStatus, retryBudget } from "./retry-budget.ts";

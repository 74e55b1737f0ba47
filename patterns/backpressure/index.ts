export {
  type AdmissionOptions,
  type AdmissionStatus,
  type AdmittingPublisher,
  admitByDepth,
  type DepthLimit,
  type DepthSource,
} from "./admit-by-depth.ts";
export {
  type Backlog,
  type BacklogOptions,
  type BacklogReading,
  type BacklogSource,
  backlog,
  type ReadingsOptions,
} from "./backlog.ts";
export {
  type CircuitBreaker,
  type CircuitBreakerOptions,
  type CircuitChange,
  type CircuitState,
  type CircuitStatus,
  circuitBreaker,
} from "./circuit-breaker.ts";
export {
  controlIntake,
  type FollowOptions,
  followDownstream,
  type Intake,
  type IntakeControl,
} from "./control-intake.ts";
export { type PrometheusText, prometheusText } from "./prometheus-text.ts";
export { type RateLimitOptions, rateLimit } from "./rate-limit.ts";
export { type RetryBudget, type RetryBudgetOptions, type RetryBudgetStatus, retryBudget } from "./retry-budget.ts";

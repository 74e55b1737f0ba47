import type { Broker } from "../../core/broker.ts";
import { checkInteger, checkOptions, clockOf, LONGEST_MS, optionalText } from "../../core/checks.ts";
import type { Clock } from "../../core/clock.ts";
import { MessagingError } from "../../core/errors.ts";
import { observe } from "../../core/foreign.ts";
import { checkBrokerOptions } from "../../core/options.ts";
import { checkRate } from "./bridge.ts";
import { BrokerPair } from "./broker-pair.ts";
import { Changes, type Patience, type Read, waitingFor } from "./changes.ts";
import { checkAccepted, compareBrokers } from "./compare.ts";
import type {
  AdvanceOptions,
  Comparison,
  MigrationControl,
  MigrationControlOptions,
  MigrationStatus,
  ParityReport,
  ReportOptions,
  RollbackOptions,
} from "./contract.ts";
import { reportOf } from "./drain.ts";
import { Plan } from "./plan.ts";
import { parityReport } from "./report.ts";
import { type MigrationState, refuseOtherDestinations, type Side, shareOf, stateIn, usedBrokers } from "./state.ts";
import { MIGRATION_STEPS } from "./steps.ts";
import { isBack, Stepping, stepBack, stepForward } from "./steps-forward.ts";

/**
 * Controls a migration from another process, such as the command line. Brokers are connected at first use; `status` and
 * `compare` connect to none. Throws `invalid` for wrong options.
 */
export function migrationControl(options: MigrationControlOptions): MigrationControl {
  const where = "migrationControl";
  checkOptions(where, options, ["from", "to", "destinations", "state", "name", "broker"]);
  const { broker = {} } = options;
  checkBrokerOptions(broker);
  const plan = new Plan(where, options);
  const pair = new BrokerPair(plan, broker);
  return new Control(
    plan,
    clockOf("migrationControl { broker.clock }", broker.clock),
    async (side, what) => {
      const { accepted } = stateIn(await plan.state.read(plan.name), []);
      await pair.start(side, accepted);
      return pair.require(side, what);
    },
    async () => {
      await Promise.all(pair.started().map((side) => pair.stop(side)));
    },
  );
}

const CHANGE_OPTIONS = ["by", "patienceMs", "signal", "emptyForMs", "rate", "onProgress", "share", "accept"];
const DEFAULT_PATIENCE_MS = 120_000;
const DEFAULT_EMPTY_FOR_MS = 10_000;

/** Controls a migration over given broker objects. */
export class Control implements MigrationControl {
  readonly name: string;
  readonly #plan: Plan;
  readonly #clock: Clock;
  readonly #changes: Changes;
  readonly #broker: (side: Side, what: string) => Promise<Broker>;
  readonly #close: () => Promise<void>;

  /** `broker` returns a started broker object, or rejects. `close` closes what it opened. */
  constructor(
    plan: Plan,
    clock: Clock,
    broker: (side: Side, what: string) => Promise<Broker>,
    close: () => Promise<void> = async () => {},
  ) {
    this.name = plan.name;
    this.#plan = plan;
    this.#clock = clock;
    this.#changes = new Changes(plan.state, plan.name, plan.described, clock);
    this.#broker = broker;
    this.#close = close;
  }

  compare(): Comparison {
    const { adapters, destinations } = this.#plan;
    return compareBrokers(adapters.from, adapters.to, destinations);
  }

  async status(): Promise<MigrationStatus> {
    return statusOf(this.name, await this.#changes.read());
  }

  async advance(options: AdvanceOptions = {}): Promise<MigrationStatus> {
    const where = "advance";
    this.#check(where, options, CHANGE_OPTIONS);
    checkAccepted(where, options.accept ?? [], ["parity"]);
    const stepping = this.#stepping(options);
    const read = await this.#changes.read();
    this.#refuseOtherDestinations(read.state);
    const { pending } = read.state;
    if (pending === null) {
      await stepForward(stepping, read, options);
    } else {
      // Another process announced it, and was interrupted or is waiting too.
      if (options.share !== undefined && options.share !== pending.share) {
        const what = `a share of ${pending.share} is announced`;
        throw new MessagingError("conflict", `${what}: complete it with advance(), or take it back with rollback()`);
      }
      await this.#changes.settled(pending, stepping.patience);
    }
    return this.status();
  }

  async rollback(options: RollbackOptions = {}): Promise<MigrationStatus> {
    const where = "rollback";
    this.#check(where, options, [...CHANGE_OPTIONS, "to"]);
    const { to, accept = [] } = options;
    if (to !== undefined && !MIGRATION_STEPS.includes(to)) {
      throw new MessagingError("invalid", `${where} { to } takes ${MIGRATION_STEPS.join(", ")}, not ${String(to)}`);
    }
    if (!Array.isArray(accept) || accept.some((name) => name !== "order")) {
      throw new MessagingError("invalid", `${where} { accept } takes ["order"]`);
    }
    const stepping = this.#stepping(options);
    let read = await this.#changes.read();
    this.#refuseOtherDestinations(read.state);
    if (read.state.pending !== null) {
      await this.#changes.takeBack(read, options.by);
      read = await this.#changes.read();
      if (to === undefined && options.share === undefined) return statusOf(this.name, read);
    }
    if (to === undefined && options.share === undefined) {
      await stepBack(stepping, read, options);
      return this.status();
    }
    while (!isBack(read.state.step, shareOf(read.state), options)) {
      await stepBack(stepping, read, options);
      read = await this.#changes.read();
    }
    return statusOf(this.name, read);
  }

  async report(options: ReportOptions = {}): Promise<ParityReport> {
    const { state } = await this.#changes.read();
    const brokers: Partial<Record<Side, Broker>> = {};
    for (const side of usedBrokers(state.step)) brokers[side] = await this.#broker(side, "the parity report");
    return parityReport(this.#plan, brokers, options);
  }

  close(): Promise<void> {
    return this.#close();
  }

  #refuseOtherDestinations(state: MigrationState): void {
    if (state.step !== "new" || state.pending !== null) refuseOtherDestinations(state, this.#plan.described);
  }

  #check(where: string, options: AdvanceOptions | RollbackOptions, known: readonly string[]): void {
    checkOptions(where, options, known);
    const { by, patienceMs, emptyForMs, rate, share } = options;
    optionalText(where, "by", by);
    if (patienceMs !== undefined) checkInteger(`${where} { patienceMs }`, patienceMs, 0, LONGEST_MS);
    if (emptyForMs !== undefined) checkInteger(`${where} { emptyForMs }`, emptyForMs, 0, LONGEST_MS);
    if (rate !== undefined) checkRate(`${where} { rate }`, rate);
    if (share === undefined) return;
    const isShare = typeof share === "number" && share >= 0 && share <= 100 && Math.round(share * 100) / 100 === share;
    if (!isShare)
      throw new MessagingError("invalid", `${where} { share } takes percent from 0 to 100, in steps of 0.01`);
  }

  #stepping(options: AdvanceOptions | RollbackOptions): Stepping {
    const { patienceMs = DEFAULT_PATIENCE_MS, emptyForMs = DEFAULT_EMPTY_FOR_MS, signal, onProgress } = options;
    const patience: Patience = {
      forMs: patienceMs,
      until: this.#clock.monotonic() + patienceMs,
      signal,
      onProgress: (progress) => observe(onProgress, progress),
    };
    return new Stepping({
      plan: this.#plan,
      changes: this.#changes,
      clock: this.#clock,
      patience,
      emptyForMs,
      rate: options.rate,
      by: options.by,
      broker: this.#broker,
      report: () => this.report(),
    });
  }
}

function statusOf(name: string, read: Read): MigrationStatus {
  const { state, stored } = read;
  const { pending } = state;
  return {
    name,
    revision: stored.revision,
    step: state.step,
    share: shareOf(state),
    pending:
      pending === null
        ? undefined
        : {
            step: pending.step,
            share: pending.share,
            since: pending.since,
            by: pending.by,
            waitingFor: waitingFor(read),
          },
    accepted: state.accepted,
    instances: stored.instances.map(({ instance, acting, report, remainingMs }) => ({
      instance,
      upToDate: acting >= stored.revision,
      problem: reportOf(report).problem,
      remainingMs,
    })),
    history: state.history,
  };
}

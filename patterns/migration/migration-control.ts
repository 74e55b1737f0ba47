import { checkBrokerOptions } from "../../core/broker-options.ts";
import { checkOptions, clockOf } from "../../core/checks.ts";
import type { MigrationControl, MigrationControlOptions } from "./contract.ts";
import { Control } from "./control.ts";
import { Plan } from "./plan.ts";
import { Sides } from "./sides.ts";

/**
 * Drives a migration from a process of its own, such as the command line. Brokers are connected when they are first needed:
 * `status` and `compare` connect to none. Throws `invalid` for wrong options.
 */
export function migrationControl(options: MigrationControlOptions): MigrationControl {
  const where = "migrationControl";
  checkOptions(where, options, ["from", "to", "destinations", "state", "name", "broker"]);
  const { broker = {} } = options;
  checkBrokerOptions(broker);
  const plan = new Plan(where, options);
  const sides = new Sides(plan, broker);
  return new Control(
    plan,
    clockOf("migrationControl { broker.clock }", broker.clock),
    async (side, what) => {
      const { document } = await plan.state.read(plan.name);
      const accepted = document === undefined ? [] : (JSON.parse(document) as { accepted: string[] }).accepted;
      await sides.start(side, accepted);
      return sides.require(side, what);
    },
    async () => {
      await Promise.all(sides.started().map((side) => sides.stop(side)));
    },
  );
}

import { type Queue, queue, type Topic, topic } from "anybroker";
import { z } from "zod";

const Place = z.object({ x: z.number(), y: z.number() });
const Request = z.object({ rideId: z.string(), rider: z.string(), from: Place, to: Place });
const Matched = z.object({ rideId: z.string(), driver: z.string(), cents: z.int() });
const Receipt = z.object({ rideId: z.string(), rider: z.string(), cents: z.int() });

export type Place = z.infer<typeof Place>;
export type Request = z.infer<typeof Request>;
export type Matched = z.infer<typeof Matched>;
export type Receipt = z.infer<typeof Receipt>;

/** Everything that is sent, each on the broker that suits it. Runs have names of their own. */
export interface Rides {
  /** On `matching`: riders wait for an answer. */
  readonly requests: Queue<Request>;
  /** On `audit`: a log that is kept, and read again. */
  readonly matched: Topic<Matched>;
  /** On `receipts`: nobody waits for them, and none may be lost. */
  readonly receipts: Queue<Receipt>;
}

export function ridesIn(run: string): Rides {
  return {
    requests: queue(`ride-dispatch.${run}.requests`, { schema: Request }),
    matched: topic(`ride-dispatch.${run}.matched`, { schema: Matched, key: (ride) => ride.driver }),
    receipts: queue(`ride-dispatch.${run}.receipts`, { schema: Receipt }),
  };
}

const TOWN_KM = 12;

/** The request for ride number `number`: somewhere in town, and the same again in every run. */
export function request(number: number): Request {
  const at = (factor: number): number => (number * factor) % TOWN_KM;
  return {
    rideId: `ride-${String(number).padStart(5, "0")}`,
    rider: `rider-${number % 97}`,
    from: { x: at(7.3), y: at(3.1) },
    to: { x: at(1.7), y: at(9.7) },
  };
}

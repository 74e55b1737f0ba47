import { type BrokerMode, BrokerUnavailable } from "./contract.ts";

/** The ways to get one kind of broker. Each throws if it does not lead to a running broker. */
export interface BrokerSources<Record> {
  readonly name: string;
  /** The environment variable that may hold the URL of a broker to use. */
  readonly urlVariable: string;
  url(url: string): Promise<Record>;
  docker(): Promise<Record>;
  native(): Promise<Record>;
}

/** Reads the value of `BROKERS`; throws for a value that it does not know, since guessing would test something else than was asked. */
export function brokerMode(value: string | undefined): BrokerMode {
  if (value === undefined || value === "" || value === "auto") return "auto";
  if (value === "docker" || value === "native") return value;
  throw new Error(`BROKERS is ${JSON.stringify(value)}: use auto, docker or native`);
}

/**
 * Gets a broker by the first way that works: the URL if one is given (and then nothing else is tried), Docker, native.
 * Throws `BrokerUnavailable` with every reason if none does.
 */
export async function selectBroker<Record>(
  sources: BrokerSources<Record>,
  environment: NodeJS.ProcessEnv = process.env,
): Promise<Record> {
  const url = environment[sources.urlVariable];
  const mode = brokerMode(environment.BROKERS);
  const ways: [string, () => Promise<Record>][] = [];
  if (url) {
    ways.push([sources.urlVariable, () => sources.url(url)]);
  } else {
    if (mode !== "native") ways.push(["Docker", () => sources.docker()]);
    if (mode !== "docker") ways.push(["native", () => sources.native()]);
  }
  const reasons: string[] = [];
  for (const [way, start] of ways) {
    try {
      return await start();
    } catch (error) {
      reasons.push(`${way}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  throw new BrokerUnavailable(sources.name, reasons.join(" | "));
}

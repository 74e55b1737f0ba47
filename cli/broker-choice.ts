import type { Adapter } from "../core/adapter.ts";
import { fromUrl } from "../integrations/url/index.ts";
import { type BrokerChoice, type Configuration, isAdapter } from "./configuration.ts";
import { CommandError } from "./exit-codes.ts";
import { isUrl, maskUrl, type Secrets } from "./secrets.ts";

/** A broker that a command works on. */
export interface ChosenBroker {
  /** As it may be shown: its name, or its URL without secrets. */
  readonly label: string;
  /** Makes the adapter, which is not connected. An adapter is opened once. */
  adapter(): Promise<Adapter>;
}

/** Where a choice comes from. */
export interface BrokerSources {
  readonly configuration: Configuration;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly secrets: Secrets;
}

/**
 * The broker that was named, by a URL or as in the configuration; else the configuration's, else the environment's
 * `BROKER_URL`. `option` is what names it, for messages.
 */
export function chooseBroker(sources: BrokerSources, given: string | undefined, option = "--broker"): ChosenBroker {
  const { configuration, env, secrets } = sources;
  const { brokers = {} } = configuration;
  if (given !== undefined && !isUrl(given)) {
    const choice = Object.hasOwn(brokers, given) ? brokers[given] : undefined;
    if (choice !== undefined) return chosen(choice, given, secrets);
    const known = Object.keys(brokers).join(", ") || "none";
    const text = `${option} ${given} is no URL, and the configuration names no such broker (it names ${known})`;
    throw new CommandError("usage", text);
  }
  if (given !== undefined) return chosen(given, undefined, secrets);
  if (configuration.broker !== undefined) return chosen(configuration.broker, "broker", secrets);
  const { BROKER_URL = "" } = env;
  if (BROKER_URL !== "") return chosen(BROKER_URL, undefined, secrets);
  const text = `no broker was chosen: give ${option} amqp://localhost (or kafka:, sqs:), set BROKER_URL, or write anybroker.config.ts`;
  throw new CommandError("usage", text);
}

function chosen(choice: BrokerChoice, name: string | undefined, secrets: Secrets): ChosenBroker {
  if (typeof choice === "string") {
    secrets.addUrlsIn(choice);
    return { label: maskUrl(choice), adapter: () => fromUrl(choice) };
  }
  const label = name ?? "broker";
  return { label, adapter: async () => (isAdapter(choice) ? choice : choice()) };
}

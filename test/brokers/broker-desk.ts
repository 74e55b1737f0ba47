import { once } from "node:events";
import { createServer, get, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { BrokerUnavailable, type ProvidedBroker, type RunningBroker } from "./contract.ts";
import type { ElasticMQRecord } from "./elasticmq.ts";
import type { FauxqsRecord } from "./fauxqs.ts";
import type { KafkaRecord } from "./kafka.ts";
import type { PostgresRecord } from "./postgres.ts";
import type { RabbitMQRecord } from "./rabbitmq.ts";
import { recordBroker } from "./run-report.ts";
import type { ValkeyRecord } from "./valkey.ts";

const PACKAGE = "package";

/** The record of each broker that a suite may ask for, by the broker's name. */
export interface BrokerRecords {
  readonly rabbitmq: RabbitMQRecord;
  readonly kafka: KafkaRecord;
  readonly elasticmq: ElasticMQRecord;
  readonly fauxqs: FauxqsRecord;
  readonly postgres: PostgresRecord;
  readonly valkey: ValkeyRecord;
}

/** How each of them is started. */
export type BrokerStarts = {
  readonly [Name in keyof BrokerRecords]: () => Promise<RunningBroker & { readonly record: BrokerRecords[Name] }>;
};

/** The package as its build makes it, for all tests of a run. */
export interface PackageBuild {
  /** The folder that its compiled files are in. */
  readonly folder: string;
  remove(): void;
}

/** Where the test processes of a run ask for brokers, and for the built package, on loopback. */
export interface BrokerDesk {
  readonly url: string;
  /** Ends every broker that was started, and removes what was built. */
  close(): Promise<void>;
}

/**
 * Opens the desk. A broker is started when it is asked for the first time, so that a run of a few files starts only what
 * they need; the package is built likewise. Whoever asks again gets the same answer.
 */
export async function openBrokerDesk(
  starts: Partial<BrokerStarts>,
  build: () => Promise<PackageBuild> = () => Promise.reject(new Error("nothing is built here")),
): Promise<BrokerDesk> {
  const running: RunningBroker[] = [];
  const builds: PackageBuild[] = [];
  const answers = new Map<string, Promise<unknown>>();
  const built = async (): Promise<string> => {
    const made = await build();
    builds.push(made);
    return made.folder;
  };
  const answerTo = (name: string): Promise<unknown> => {
    if (name === PACKAGE) return built();
    const start = Object.entries(starts).find(([known]) => known === name)?.[1];
    return start ? provided(name, start, running) : unknown(name);
  };
  const server = createServer((request, response) => {
    const name = request.url?.slice(1) ?? "";
    const answer = answers.get(name) ?? answerTo(name);
    answers.set(name, answer);
    answer.then(
      (value) => response.end(JSON.stringify(value)),
      (error: unknown) => response.writeHead(500).end(String(error)),
    );
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    close: async () => {
      server.close();
      server.closeAllConnections();
      await Promise.allSettled(answers.values());
      await Promise.all(running.map((broker) => broker.stop()));
      for (const { remove } of builds) remove();
    },
  };
}

/** Asks for a broker; resolves when it runs, or when it is known that there is none. */
export async function askBrokerDesk<Name extends keyof BrokerRecords>(
  url: string,
  name: Name,
): Promise<ProvidedBroker<BrokerRecords[Name]>> {
  return (await ask(url, name, "started")) as ProvidedBroker<BrokerRecords[Name]>;
}

/** Asks for the built package; resolves with the folder of its compiled files, which nobody may change. */
export async function askForPackage(url: string): Promise<string> {
  return (await ask(url, PACKAGE, "built")) as string;
}

async function ask(url: string, name: string, made: string): Promise<unknown> {
  // Not fetch, which gives up after five minutes.
  const [response] = (await once(get(`${url}/${name}`), "response")) as [IncomingMessage];
  const chunks = (await response.toArray()) as Buffer[];
  const text = Buffer.concat(chunks).toString();
  if (response.statusCode !== 200) throw new Error(`${name} could not be ${made}: ${text}`);
  return JSON.parse(text);
}

async function provided(
  name: string,
  start: () => Promise<RunningBroker & { readonly record: unknown }>,
  running: RunningBroker[],
): Promise<ProvidedBroker<unknown>> {
  try {
    const broker = await start();
    running.push(broker);
    recordBroker({ name, status: "running", how: broker.how, version: broker.version });
    return { status: "running", record: broker.record };
  } catch (error) {
    // Anything else is a fault of the set-up itself, and fails the suite.
    if (!(error instanceof BrokerUnavailable)) throw error;
    console.error(`NOT RUN: ${error.message}`);
    recordBroker({ name, status: "not-run", reason: error.reasons });
    return { status: "not-run", reason: error.message };
  }
}

async function unknown(name: string): Promise<never> {
  throw new Error(`there is no broker of the name ${JSON.stringify(name)}`);
}

import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type ContainerOptions, containerControls, lastLogLines, startContainer } from "../container.ts";
import type { BrokerControls } from "../contract.ts";
import { awaitSQS, SQS_READY_MS } from "../sqs/await-sqs.ts";
import type { FauxqsInDocker, StartedFauxqs } from "./record.ts";
import { makeStorage, STORAGE_FILE } from "./storage.ts";
import { FAUXQS_VERSION } from "./version.ts";

/** The image that the suites run against. */
const FAUXQS_IMAGE = `kibertoad/fauxqs:${FAUXQS_VERSION}`;

const PORT = 4566;

/** Starts fauxqs in a container. */
export async function startInDocker(durable: boolean): Promise<StartedFauxqs> {
  const { id, host, hostPorts, guard } = await startContainer({
    image: FAUXQS_IMAGE,
    ports: [PORT],
    ...(durable ? await durableOptions() : { environment: () => VARIABLES }),
  });
  const url = `http://${host}:${hostPorts[0]}`;
  try {
    await awaitSQS(url, SQS_READY_MS);
    const record: FauxqsInDocker = { how: "docker", url, version: FAUXQS_VERSION, durable, containerId: id };
    return { record, guard };
  } catch (cause) {
    const log = await lastLogLines(id).catch(() => "");
    await guard.release();
    throw new Error(`fauxqs did not start in its container: ${String(cause)}\n${log}`, { cause });
  }
}

export function dockerControls(record: FauxqsInDocker, ready: () => Promise<unknown>): BrokerControls {
  // It has written all it confirmed, and does nothing more when asked to stop.
  return containerControls(record.containerId, ready, 1);
}

const VARIABLES = { FAUXQS_LOGGER: "false" };

/** The image keeps data only in a volume. */
async function durableOptions(): Promise<Pick<ContainerOptions, "environment" | "files" | "volume">> {
  const folder = await mkdtemp(join(tmpdir(), "anybroker-fauxqs-"));
  try {
    const content = await readFile(await makeStorage(folder));
    return {
      volume: "/data",
      files: [{ path: `/data/${STORAGE_FILE}`, content }],
      environment: () => ({ ...VARIABLES, FAUXQS_DATA_DIR: "/data", FAUXQS_PERSISTENCE: "true" }),
    };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

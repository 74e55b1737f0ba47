import { type ContainerRuntimeClient, getContainerRuntimeClient } from "testcontainers";

/** The label that holds the id of the run which made a container. */
export const RUN_LABEL = "anybroker.test-run";

/** The client of the container engine; rejects, quickly and without a word on the console, if there is none. */
export async function containerEngine(): Promise<ContainerRuntimeClient> {
  try {
    return await getContainerRuntimeClient();
  } catch (cause) {
    throw new Error("no Docker engine can be reached", { cause });
  }
}

/** Removes the containers of a run with their volumes. */
export async function removeContainers(runId: string): Promise<void> {
  const { dockerode } = (await containerEngine()).container;
  const found = await dockerode.listContainers({ all: true, filters: { label: [`${RUN_LABEL}=${runId}`] } });
  await Promise.all(found.map(({ Id }) => dockerode.getContainer(Id).remove({ force: true, v: true })));
}

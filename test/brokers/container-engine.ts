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

/** The volume that the containers of a run share, if they were given one. */
export function volumeName(runId: string): string {
  return `anybroker-test-${runId}`;
}

/** Removes the containers of a run with their volumes. */
export async function removeContainers(runId: string): Promise<void> {
  const { dockerode } = (await containerEngine()).container;
  const found = await dockerode.listContainers({ all: true, filters: { label: [`${RUN_LABEL}=${runId}`] } });
  await Promise.all(found.map(({ Id }) => dockerode.getContainer(Id).remove({ force: true, v: true })));
  // The engine takes only nameless ones with the container.
  const named = await dockerode.listVolumes({ filters: { name: [volumeName(runId)] } });
  await Promise.all(named.Volumes.map(({ Name }) => dockerode.getVolume(Name).remove({ force: true })));
}

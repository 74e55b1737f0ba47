import type { RunningRabbitMQ, VirtualHost } from "../../brokers/rabbitmq.ts";

/** The queues and exchanges of a virtual host. */
export async function standingOnRabbitMQ(
  rabbitmqctl: NonNullable<RunningRabbitMQ["rabbitmqctl"]>,
  host: VirtualHost,
): Promise<readonly string[]> {
  const name = decodeURIComponent(new URL(host.url).pathname.slice(1));
  const standing: string[] = [];
  for (const kind of ["queues", "exchanges"]) {
    const printed = await rabbitmqctl("-q", "-p", name, `list_${kind}`, "name", "--no-table-headers");
    const names = printed.split("\n").filter((line) => line.trim() !== "");
    standing.push(...names.map((one) => `${kind}: ${one.trim()}`));
  }
  return standing;
}

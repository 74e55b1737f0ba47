import type { RunningRabbitMQ, VirtualHost } from "../../brokers/rabbitmq.ts";

/** The queues and exchanges of a virtual host. */
export async function existingOnRabbitMQ(
  rabbitmqctl: NonNullable<RunningRabbitMQ["rabbitmqctl"]>,
  host: VirtualHost,
): Promise<readonly string[]> {
  const name = decodeURIComponent(new URL(host.url).pathname.slice(1));
  const existing: string[] = [];
  for (const kind of ["queues", "exchanges"]) {
    const printed = await rabbitmqctl("-q", "-p", name, `list_${kind}`, "name", "--no-table-headers");
    const names = printed.split("\n").filter((line) => line.trim() !== "");
    existing.push(...names.map((one) => `${kind}: ${one.trim()}`));
  }
  return existing;
}

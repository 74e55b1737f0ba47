/** Where the programs of a RabbitMQ are that can be started as they are. */
export interface RabbitMQInstallation {
  readonly server: string;
  readonly rabbitmqctl: string;
  readonly epmd: string;
  /** Folders that have to be on the PATH of all of them. */
  readonly path: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
}

export async function findRabbitMQ(): Promise<RabbitMQInstallation> {
  throw new Error("not yet");
}

import { existsSync, readdirSync, realpathSync } from "node:fs";
import { chmod, readFile, writeFile } from "node:fs/promises";
import { basename, delimiter, dirname, join } from "node:path";
import { debianPackages, libraryFolders } from "../debian-packages.ts";
import { findProgram } from "../find-program.ts";

/** Where the programs of a RabbitMQ are that can be started as they are. */
export interface RabbitMQInstallation {
  readonly server: string;
  readonly rabbitmqctl: string;
  readonly epmd: string;
  /** Folders that have to be on the PATH of all of them. */
  readonly path: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
}

/** The RabbitMQ on the PATH, or else Debian's packages unpacked into the cache. Installs nothing. */
export async function findRabbitMQ(): Promise<RabbitMQInstallation> {
  return onPath() ?? (await unpacked());
}

function onPath(): RabbitMQInstallation | undefined {
  const server = findProgram("rabbitmq-server");
  const epmd = findProgram("epmd");
  if (!server || !epmd) return undefined;
  // Debian's wrapper insists on another user; the script that it wraps lies beside it.
  const real = realpathSync(server);
  const scripts = dirname(basename(real) === "rabbitmq-server" ? server : real);
  const rabbitmqctl = join(scripts, "rabbitmqctl");
  if (!existsSync(join(scripts, "rabbitmq-server")) || !existsSync(rabbitmqctl)) return undefined;
  return { server: join(scripts, "rabbitmq-server"), rabbitmqctl, epmd, path: [], environment: {} };
}

async function unpacked(): Promise<RabbitMQInstallation> {
  const root = await debianPackages({ name: "rabbitmq-server", families: /^erlang-/, adapt: rewriteErlangPaths });
  const erlang = join(root, "usr/lib/erlang");
  const servers = join(root, "usr/lib/rabbitmq/lib");
  const [version] = readdirSync(servers);
  const scripts = join(servers, version ?? "", "sbin");
  return {
    server: join(scripts, "rabbitmq-server"),
    rabbitmqctl: join(scripts, "rabbitmqctl"),
    epmd: join(erlang, "bin/epmd"),
    path: [join(erlang, "bin")],
    environment: { LD_LIBRARY_PATH: libraryFolders(root).join(delimiter) },
  };
}

/** The launchers of Erlang hold the path of their installation. */
async function rewriteErlangPaths(unpackedIn: string, root: string): Promise<void> {
  const erlang = join(unpackedIn, "usr/lib/erlang");
  for (const launcher of ["bin/erl", "bin/start"]) {
    const file = join(erlang, launcher);
    if (!existsSync(file)) continue;
    const text = await readFile(file, "utf8");
    await writeFile(file, text.replaceAll("/usr/lib/erlang", join(root, "usr/lib/erlang")));
    await chmod(file, 0o755);
  }
}

// `npm run brokers:up` and `brokers:down`: docker-compose.yml by whichever Compose this machine has.
import { spawnSync } from "node:child_process";

const commands = [["docker", "compose"], ["docker-compose"]] as const;
const [action] = process.argv.slice(2);
const found = commands.find(([program, first]) => {
  const args = first ? [first, "version"] : ["version"];
  return spawnSync(program, args, { stdio: "ignore" }).status === 0;
});

if (action !== "up" && action !== "down") {
  console.error("usage: compose.ts up|down");
  process.exitCode = 2;
} else if (!found) {
  console.error("neither `docker compose` nor `docker-compose` works here: install Docker Compose");
  process.exitCode = 1;
} else {
  const [program, ...first] = found;
  // Compose v1 has no --wait: it returns as soon as the containers are started.
  const up = program === "docker" ? ["up", "--detach", "--wait"] : ["up", "--detach"];
  const args = action === "up" ? up : ["down", "--volumes"];
  // A project name of our own, since Compose would take the folder's, and v1 cannot read one from the file.
  const project = ["--project-name", "anybroker"];
  process.exitCode = spawnSync(program, [...first, ...project, ...args], { stdio: "inherit" }).status ?? 1;
}

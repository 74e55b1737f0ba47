import { randomInt } from "node:crypto";
import { createServer } from "node:net";

/**
 * A port that nothing listens on, below every system's ephemeral range: a broker that is down for a while must not find
 * its port taken as the source port of an outgoing connection, nor a client that reconnects connect to itself.
 */
export async function freePort(): Promise<number> {
  for (let attempt = 0; attempt < 100; attempt++) {
    const port = randomInt(15_000, 32_000);
    if ((await canListen(port, "127.0.0.1")) && (await canListen(port, "0.0.0.0"))) return port;
  }
  throw new Error("no free port between 15000 and 32000 in 100 attempts");
}

function canListen(port: number, host: string): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen({ port, host, exclusive: true }, () => server.close(() => resolve(true)));
  });
}

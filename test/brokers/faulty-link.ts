import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { Transform } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";

/**
 * A TCP proxy on loopback that misbehaves on demand. Put it between a client and a broker: it works the same with
 * every broker, wherever that runs.
 */
export interface FaultyLink {
  readonly host: string;
  readonly port: number;
  /** How many connections are open now. */
  readonly connections: number;
  /** The same URL, leading through the link. */
  through(url: string): string;
  /** Resets every open connection at once. New ones are taken, unless refused. */
  cut(): void;
  /** Resets every open connection, and every new one until `restore`. */
  refuse(): void;
  /**
   * Half-open: bytes no longer pass, in either direction, and nobody is told. Connections of later on are taken and
   * get no answer. What had been sent meanwhile arrives after `restore`.
   */
  silence(): void;
  /** Every chunk of bytes waits this many milliseconds, in each direction. Order is kept. */
  slow(delayMs: number): void;
  /** Back to a good link, for open and new connections. */
  restore(): void;
  /** Resets every connection and stops listening. A second call does nothing. */
  close(): Promise<void>;
}

type Weather =
  | { readonly kind: "good" }
  | { readonly kind: "refusing" }
  | { readonly kind: "silent"; readonly over: Promise<void>; readonly end: () => void }
  | { readonly kind: "slow"; readonly delayMs: number };

export interface FaultyLinkOptions {
  /** Where it listens. Default: a port that is free. */
  readonly port?: number;
}

/** Starts a link to the target: a URL with host and port, or a port of this machine. */
export async function faultyLink(target: string | number, options: FaultyLinkOptions = {}): Promise<FaultyLink> {
  const { host, port } = endpoint(target);
  const open = new Set<Socket>();
  let weather: Weather = { kind: "good" };

  const change = (next: Weather): void => {
    const previous = weather;
    weather = next;
    if (previous.kind === "silent") previous.end();
  };
  const cut = (): void => {
    for (const socket of open) socket.resetAndDestroy();
  };
  /** Passes the bytes on as the weather permits at the moment when each chunk is its turn. */
  const passage = (): Transform =>
    new Transform({
      transform(chunk: Buffer, _encoding, done) {
        void (async () => {
          while (weather.kind === "silent") await weather.over;
          if (weather.kind === "slow") await sleep(weather.delayMs);
          done(null, chunk);
        })();
      },
    });

  const server = createServer({ noDelay: true, allowHalfOpen: true }, (near) => {
    if (weather.kind === "refusing") {
      near.resetAndDestroy();
      return;
    }
    const far = connect({ host, port, noDelay: true, allowHalfOpen: true });
    join(near, far, passage);
    for (const socket of [near, far]) {
      open.add(socket);
      socket.once("close", () => open.delete(socket));
    }
  });
  server.listen(options.port ?? 0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address() as AddressInfo;
  let closed: Promise<void> | undefined;

  return {
    host: address.address,
    port: address.port,
    get connections() {
      return Math.ceil(open.size / 2);
    },
    through: (url) => {
      const changed = new URL(url);
      changed.hostname = address.address;
      changed.port = String(address.port);
      return changed.href;
    },
    cut,
    refuse: () => {
      change({ kind: "refusing" });
      cut();
    },
    silence: () => {
      if (weather.kind === "silent") return;
      const { promise, resolve } = Promise.withResolvers<void>();
      change({ kind: "silent", over: promise, end: resolve });
    },
    slow: (delayMs) => change({ kind: "slow", delayMs }),
    restore: () => change({ kind: "good" }),
    close: () => {
      closed ??= new Promise((resolve) => {
        server.close(() => resolve());
        cut();
        change({ kind: "good" });
      });
      return closed;
    },
  };
}

/** Joins two sockets in both directions; when one breaks, the other is reset, as a network would do it. */
function join(near: Socket, far: Socket, passage: () => Transform): void {
  for (const [from, to] of [
    [near, far],
    [far, near],
  ] as const) {
    from.pipe(passage()).pipe(to);
    from.once("error", () => to.resetAndDestroy());
    from.once("close", () => {
      if (from.errored || !from.readableEnded) to.resetAndDestroy();
    });
  }
}

function endpoint(target: string | number): { host: string; port: number } {
  if (typeof target === "number") return { host: "127.0.0.1", port: target };
  const { hostname, port, protocol } = new URL(target);
  const given = Number(port) || { "amqp:": 5672, "amqps:": 5671, "http:": 80, "https:": 443 }[protocol];
  if (!given) throw new Error(`a link to ${protocol}//${hostname} needs a port in the URL`);
  return { host: hostname.replace(/^\[|\]$/g, ""), port: given };
}

// Runs as a process of its own: fauxqs on loopback, at the port given, with its data in the folder given, if any.
import { Server } from "node:net";
import { startFauxqs } from "fauxqs";

const [port, dataDir] = process.argv.slice(2);

// It would listen on every interface, and has no option to say otherwise.
Server.prototype.listen = new Proxy(Server.prototype.listen, {
  apply: (listen, server, [options, ...rest]) =>
    Reflect.apply(listen, server, [{ ...options, host: "127.0.0.1" }, ...rest]),
});

await startFauxqs({ port: Number(port), logger: false, ...(dataDir ? { dataDir } : {}) });

import { subscribe, unsubscribe } from "node:diagnostics_channel";
import type { Socket } from "node:net";

/** The sockets that this process has opened from a moment on. */
export interface Sockets extends Disposable {
  /** How many, in all. */
  readonly made: number;
  /** How many of them stand. */
  readonly open: number;
}

/** Begins to count. */
export function countSockets(): Sockets {
  const open = new Set<Socket>();
  let made = 0;
  const opened = (message: unknown): void => {
    const { socket } = message as { readonly socket: Socket };
    made++;
    open.add(socket);
    socket.once("close", () => open.delete(socket));
  };
  subscribe("net.client.socket", opened);
  return {
    get made() {
      return made;
    },
    get open() {
      return open.size;
    },
    [Symbol.dispose]: () => void unsubscribe("net.client.socket", opened),
  };
}

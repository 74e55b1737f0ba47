import { createServer, type IncomingMessage, request, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { buffer } from "node:stream/consumers";
import { onTestFinished } from "vitest";

/** What is said in place of the server. */
export interface Refusal {
  readonly code: string;
  readonly status?: number;
}

/** Stands before a server of SQS, and refuses what it is told to, as AWS does when a right or a token is missing. */
export class RefusingProxy {
  readonly #target: URL;
  readonly #server = createServer((incoming, outgoing) => void this.#serve(incoming, outgoing));
  readonly #refused = new Map<string, number>();
  #refusal: { readonly actions: readonly string[] | "all"; readonly refusal: Refusal } | undefined;

  private constructor(target: string) {
    this.#target = new URL(target);
  }

  /** One before the server at a URL; it ends with the test. */
  static async before(target: string): Promise<RefusingProxy> {
    const proxy = new RefusingProxy(target);
    await new Promise<void>((resolve) => proxy.#server.listen(0, "127.0.0.1", resolve));
    onTestFinished(async () => {
      proxy.#server.closeAllConnections();
      await new Promise((resolve) => proxy.#server.close(resolve));
    });
    return proxy;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Refuses these actions from now on, and no others. */
  refuse(actions: readonly string[] | "all", refusal: Refusal): void {
    this.#refusal = { actions, refusal };
  }

  /** Refuses nothing any more. */
  allow(): void {
    this.#refusal = undefined;
  }

  /** How often an action was refused. */
  refused(action: string): number {
    return this.#refused.get(action) ?? 0;
  }

  async #serve(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const action = String(incoming.headers["x-amz-target"]).replace("AmazonSQS.", "");
    const body = await buffer(incoming);
    const { actions = [], refusal } = this.#refusal ?? {};
    if (refusal !== undefined && (actions === "all" || actions.includes(action))) {
      this.#refused.set(action, this.refused(action) + 1);
      const said = JSON.stringify({ __type: `com.amazon.coral.service#${refusal.code}`, message: "as in a test" });
      outgoing.writeHead(refusal.status ?? 400, { "content-type": "application/x-amz-json-1.0" }).end(said);
      return;
    }
    const { hostname, port } = this.#target;
    const { method, url: path, headers } = incoming;
    const passed = request({ hostname, port, method, path, headers: { ...headers, host: this.#target.host } });
    passed.on("response", (response) => {
      outgoing.writeHead(response.statusCode ?? 500, response.headers);
      response.pipe(outgoing);
    });
    passed.on("error", () => outgoing.destroy());
    passed.end(body);
  }
}

import { ListTopicsCommand } from "@aws-sdk/client-sns";
import { GetQueueUrlCommand } from "@aws-sdk/client-sqs";
import { type Address, describeAddress, type TopicAddress } from "../../core/address.ts";
import { agreeing } from "../../core/counted.ts";
import { DECLARE_IT, isMessagingError, MessagingError } from "../../core/errors.ts";
import { AnswerShapeError, type Clients } from "./connection.ts";
import { asMessagingError, isMissing } from "./errors.ts";
import { awsName, FIFO, kindsOf } from "./names.ts";

/** Enough for a million topics or subscriptions: ten times AWS's default quota of topics. A page has 1,000 queues. */
const MAX_PAGES = 10_000;
/** AWS's tokens have some hundred characters. */
const MAX_TOKEN_LENGTH = 10_000;

/**
 * Reads the pages of a listing one after another; `fetchPage` gets the token of a page, the first time none. Rejects
 * with an {@link AnswerShapeError} for a listing without end: a repeated token, or more than 10,000 pages.
 */
export async function* pagesOf<Page extends { readonly NextToken?: string | undefined }>(
  what: string,
  fetchPage: (token: { readonly NextToken?: string }) => Promise<Page>,
): AsyncGenerator<Page> {
  const tokens = new Set<string>();
  let page = await fetchPage({});
  yield page;
  for (let { NextToken } = page; NextToken; { NextToken } = page) {
    const wrong = `the answer with ${what} is not from SQS or SNS: `;
    if (NextToken.length > MAX_TOKEN_LENGTH || tokens.has(NextToken)) {
      throw new AnswerShapeError(`${wrong}its pages repeat or have no end`);
    }
    if (tokens.size >= MAX_PAGES) throw new AnswerShapeError(`${wrong}it has more than ${MAX_PAGES} pages`);
    tokens.add(NextToken);
    page = await fetchPage({ NextToken });
    yield page;
  }
}

/** A queue or topic on AWS. */
export interface AwsResource {
  readonly kind: "queue" | "topic";
  /** The URL of a queue, the ARN of a topic. */
  readonly locator: string;
  readonly fifo: boolean;
}

/** Finds queues and topics by name, and remembers them. */
export class Registry {
  readonly #clients: Clients;
  readonly #prefix: string;
  readonly #known = new Map<string, AwsResource>();
  /** Whether each is FIFO. Kept when the resource is gone. */
  readonly #fifo = new Map<string, boolean>();
  readonly #lookups = new Map<string, Promise<AwsResource>>();
  /** The listing of topics that is in progress; concurrent calls share it. */
  #listing: Promise<ReadonlyMap<string, string>> | undefined;

  constructor(clients: Clients, prefix: string) {
    this.#clients = clients;
    this.#prefix = prefix;
  }

  name(address: Address): string {
    return awsName(address, this.#prefix);
  }

  /** What is known without a request. */
  known(address: Address): AwsResource | undefined {
    return this.#known.get(keyOf(address, this.name(address)));
  }

  learn(address: Address, resource: AwsResource): void {
    const key = keyOf(address, this.name(address));
    this.#known.set(key, resource);
    this.#fifo.set(key, resource.fifo);
  }

  forget(address: Address): void {
    this.#known.delete(keyOf(address, this.name(address)));
  }

  /**
   * Finds a queue or topic. Rejects with `not-found` if there is none, and with `conflict` if only the other kind than
   * before exists, or both and none was found before: publishers and consumers must not use different queues.
   */
  find(address: Address): Promise<AwsResource> {
    const key = keyOf(address, this.name(address));
    const known = this.#known.get(key);
    if (known !== undefined) return Promise.resolve(known);
    let lookup = this.#lookups.get(key);
    if (lookup === undefined) {
      lookup = this.#lookUp(address).finally(() => this.#lookups.delete(key));
      this.#lookups.set(key, lookup);
    }
    return lookup;
  }

  async #lookUp(address: Address): Promise<AwsResource> {
    const name = this.name(address);
    const resources = address.kind === "topic" ? await this.topics(address) : await this.#queues(address, name);
    const before = this.#fifo.get(keyOf(address, name));
    const resource = resources.find(({ fifo }) => fifo === before) ?? resources[0];
    if (resources.length > 1 && before === undefined) {
      throw new MessagingError(
        "conflict",
        `${describeAddress(address)} ${agreeing(address, "exists", "exist")} twice, as "${name}" and "${name}${FIFO}"; delete the unused one, or declare it in this process`,
      );
    }
    if (resource === undefined) throw this.notFound(address);
    if (before !== undefined && before !== resource.fifo) throw otherKind(address, name, resource);
    this.learn(address, resource);
    return resource;
  }

  notFound(address: Address): MessagingError {
    const name = this.name(address);
    const names = kindsOf(address).includes(true) ? `neither as "${name}" nor as "${name}${FIFO}"` : `as "${name}"`;
    return new MessagingError(
      "not-found",
      `${describeAddress(address)} ${agreeing(address, "does", "do")} not exist on ${address.kind === "topic" ? "SNS" : "SQS"}, ${names}; ${DECLARE_IT}, or check region, endpoint and account`,
    );
  }

  async #queues(address: Address, name: string): Promise<readonly AwsResource[]> {
    const resources: AwsResource[] = [];
    let refused: unknown;
    for (const fifo of kindsOf(address)) {
      try {
        const url = await this.queueUrl(address, fifo ? name + FIFO : name);
        if (url !== undefined) resources.push({ kind: "queue", locator: url, fifo });
      } catch (error) {
        // A minimal policy allows one of the two kinds; the other one is then not ours.
        if (!isMessagingError(error) || error.code !== "unauthorized") throw error;
        refused = error;
      }
    }
    if (resources.length === 0 && refused !== undefined) throw refused;
    return resources;
  }

  /** The URL of a queue by its full name; undefined if there is none. */
  async queueUrl(address: Address, name: string): Promise<string | undefined> {
    try {
      const { QueueUrl } = await this.#clients.control.sqs.send(new GetQueueUrlCommand({ QueueName: name }));
      return QueueUrl;
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw asMessagingError(`looking for ${describeAddress(address)}`, error);
    }
  }

  /** The topics of an address: the standard one, the FIFO one, both or none. */
  async topics(address: TopicAddress): Promise<readonly AwsResource[]> {
    const name = this.name(address);
    this.#listing ??= this.#listTopics().finally(() => {
      this.#listing = undefined;
    });
    try {
      const arns = await this.#listing;
      return [false, true].flatMap((fifo) => {
        const locator = arns.get(fifo ? name + FIFO : name);
        return locator === undefined ? [] : [{ kind: "topic", locator, fifo }];
      });
    } catch (error) {
      throw asMessagingError(`looking for ${describeAddress(address)}`, error);
    }
  }

  /** The ARNs of all topics by name: SNS has no request for a single one. */
  async #listTopics(): Promise<ReadonlyMap<string, string>> {
    const arns = new Map<string, string>();
    const { sns } = this.#clients.control;
    for await (const { Topics = [] } of pagesOf("topics", (token) => sns.send(new ListTopicsCommand(token)))) {
      for (const { TopicArn = "" } of Topics) arns.set(TopicArn.slice(TopicArn.lastIndexOf(":") + 1), TopicArn);
    }
    return arns;
  }
}

function otherKind(address: Address, name: string, { kind, fifo }: AwsResource): MessagingError {
  const [now, before] = fifo ? [`${name}${FIFO}`, name] : [name, `${name}${FIFO}`];
  const next = `delete "${now}" and create "${before}" again, or restart all processes that use it`;
  return new MessagingError(
    "conflict",
    `${describeAddress(address)} was the ${kind} "${before}" when this process found it, and now only "${now}" exists; ${next}`,
  );
}

function keyOf(address: Address, name: string): string {
  return `${address.kind === "topic" ? "topic" : "queue"} ${name}`;
}

import type { Adapter } from "../../core/adapter.ts";
import { checkOptions } from "../../core/checks.ts";
import { notLoaded } from "./not-loaded.ts";
import type { UrlOptions } from "./options.ts";
import type { Parameters } from "./parameters.ts";
import { readQuery } from "./query.ts";
import { type Refuse, refuseAs } from "./refuse.ts";
import type { UrlParts } from "./url-parts.ts";

/** How the URLs of one broker are written and read. */
export interface BrokerUrlDefinition<Options extends object> {
  /** What its options are called among those of `fromUrl`. */
  readonly name: keyof UrlOptions;
  /** The schemes that it is known by; the first one is shown. */
  readonly schemes: readonly string[];
  /** What its URLs look like, for people. */
  readonly form: string;
  /** What has to be installed, as npm takes it. */
  readonly packages: readonly string[];
  /** Where each of the adapter's options is said. */
  readonly parameters: Parameters<Options>;
  /** The options in what stands before the query, and in the query. Throws a refusal that quotes no value. */
  read(parts: UrlParts, query: Partial<Options>, refuse: Refuse): Partial<Options>;
  /** Imports the adapter, and with it its client. */
  load(): Promise<(options: Options) => Adapter>;
}

/** The same, whatever the adapter's options are. */
export interface BrokerUrl extends Pick<BrokerUrlDefinition<object>, "name" | "schemes" | "form" | "packages"> {
  readonly parameters: Parameters<Readonly<Record<string, unknown>>>;
  /** The options for the adapter: the program's own, and for the rest the URL's. Throws `invalid`. */
  options(parts: UrlParts, own: object): object;
  /** The adapter. Rejects with `unsupported` if its client cannot be loaded, with `invalid` for wrong options. */
  adapter(options: object): Promise<Adapter>;
}

export function brokerUrl<Options extends object>(definition: BrokerUrlDefinition<Options>): BrokerUrl {
  const { name, schemes, form, packages, parameters } = definition;
  const where = `fromUrl("${schemes[0]}:…")`;
  return {
    name,
    schemes,
    form,
    packages,
    parameters,
    options(parts, own) {
      checkOptions(`fromUrl() { ${name} }`, own, Object.keys(parameters));
      const refuse = refuseAs(where);
      const query = readQuery(parts.query, parameters, refuse) as Partial<Options>;
      const given = Object.entries(own).filter(([, value]) => value !== undefined);
      return { ...definition.read(parts, query, refuse), ...Object.fromEntries(given) };
    },
    async adapter(options) {
      const make = await definition.load().catch((cause: unknown) => {
        throw notLoaded(where, packages, cause);
      });
      return make(options as Options);
    },
  };
}

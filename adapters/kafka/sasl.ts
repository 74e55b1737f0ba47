import { checkOptions } from "../../core/checks.ts";
import { MessagingError } from "../../core/errors.ts";

/** How to log in to Kafka: by a password, with AWS's own mechanism, or with a token that is fetched when it is needed. */
export type KafkaSasl =
  | {
      readonly mechanism: "plain" | "scram-sha-256" | "scram-sha-512";
      readonly username: string;
      readonly password: string;
    }
  | {
      readonly mechanism: "aws";
      readonly authorizationIdentity: string;
      readonly accessKeyId: string;
      readonly secretAccessKey: string;
      readonly sessionToken?: string;
    }
  | {
      readonly mechanism: "oauthbearer";
      /** Asked at each login. Where it rejects the login fails, with nothing of its error, which may hold the token. */
      readonly oauthBearerProvider: () => Promise<{ readonly value: string }>;
    };

const PASSWORD = ["username", "password"];
const AWS = ["authorizationIdentity", "accessKeyId", "secretAccessKey"];
const MECHANISMS: Readonly<Record<KafkaSasl["mechanism"], readonly string[]>> = {
  plain: PASSWORD,
  "scram-sha-256": PASSWORD,
  "scram-sha-512": PASSWORD,
  aws: AWS,
  oauthbearer: ["oauthBearerProvider"],
};

/** A checked copy. Throws `invalid` for what is missing or unknown. */
export function resolveSasl(sasl: KafkaSasl | undefined): KafkaSasl | undefined {
  if (sasl === undefined) return undefined;
  // Of an object Node would make a name, which may throw.
  if (typeof sasl !== "object" || typeof sasl?.mechanism !== "string" || !Object.hasOwn(MECHANISMS, sasl.mechanism)) {
    throw invalid(`takes an object with one of the mechanisms ${Object.keys(MECHANISMS).join(", ")} as sasl`);
  }
  const { mechanism } = sasl;
  const needed = MECHANISMS[mechanism];
  checkOptions("kafka() { sasl }", sasl, ["mechanism", ...needed, ...(mechanism === "aws" ? ["sessionToken"] : [])]);
  for (const name of needed) {
    const value = (sasl as Readonly<Record<string, unknown>>)[name];
    const fits = mechanism === "oauthbearer" ? typeof value === "function" : typeof value === "string" && value !== "";
    if (!fits) throw invalid(`needs ${needed.join(" and ")} for the mechanism ${mechanism}; ${name} is missing`);
  }
  return { ...sasl };
}

function invalid(problem: string): MessagingError {
  return new MessagingError("invalid", `kafka() ${problem}`);
}

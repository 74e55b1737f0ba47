import type { SASLOptions } from "kafkajs";
import type { AuthenticationProvider } from "kafkajs/src/broker/saslAuthenticator/oauthBearer.js";
import { internals } from "./internals.ts";

/**
 * Copies the credentials for a kafkajs connection, which stores state in them. For OAUTHBEARER it also checks the
 * server's answer: kafkajs accepts any answer, but a challenge means refusal. `asks` reports when the token provider is
 * called and when it has answered.
 */
export function credentials(
  sasl: SASLOptions,
  asks: (isAsked: boolean) => void,
): SASLOptions & { readonly authenticationProvider?: AuthenticationProvider } {
  if (!("oauthBearerProvider" in sasl)) return { ...sasl };
  const oauthBearerProvider = async () => {
    asks(true);
    const token = await sasl.oauthBearerProvider();
    asks(false);
    return token;
  };
  const withoutLook = internals.createOAuthBearer({ ...sasl, oauthBearerProvider });
  const authenticationProvider: AuthenticationProvider = ({ saslAuthenticate, ...given }) =>
    withoutLook({
      ...given,
      saslAuthenticate: ({ request }) =>
        saslAuthenticate({ request, response: { decode: (answer) => answer, parse: refuseChallenge } }),
    });
  return { ...sasl, authenticationProvider };
}

/** kafkajs keeps the length prefix of the answer. */
function refuseChallenge(answer: Buffer): void {
  if (answer.length > 4) throw new Error("the server refused the token");
}

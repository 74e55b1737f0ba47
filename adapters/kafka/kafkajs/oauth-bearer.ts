import type { SASLOptions } from "kafkajs";
import type { AuthenticationProvider } from "kafkajs/src/broker/saslAuthenticator/oauthBearer.js";
import { internals } from "./internals.ts";

/**
 * The credentials as a connection of kafkajs takes them; a copy, since it keeps things there. For OAUTHBEARER with a look at
 * what the server says: kafkajs takes a token as accepted if there is any answer, but a server refuses one by a challenge.
 * `asks` is told when the provider of the token is asked, and when it has answered.
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

/** kafkajs puts the length before what the server said. */
function refuseChallenge(answer: Buffer): void {
  if (answer.length > 4) throw new Error("the server refused the token");
}

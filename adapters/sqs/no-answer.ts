import { AnswerShapeError } from "./answers.ts";

/** What is read of an error of the network, or of whatever else keeps an answer away. */
interface NetworkError {
  readonly name?: unknown;
  readonly code?: unknown;
  readonly hostname?: unknown;
  readonly address?: unknown;
  readonly port?: unknown;
  /** Of an attempt on several addresses of one host. */
  readonly errors?: unknown;
}

const ENDPOINT = "the endpoint (endpoint, snsEndpoint, AWS_ENDPOINT_URL_…)";
const TLS = /^(EPROTO|CERT_|ERR_TLS|ERR_SSL|UNABLE_TO_|DEPTH_ZERO_SELF_SIGNED|SELF_SIGNED)/;

/** Why AWS gave no answer, where it was asked, and what to do about it. */
export function whyUnanswered(error: unknown): string {
  const [reason, place] = reasonOf(error);
  const at = place === undefined ? "" : ` of ${place}`;
  if (error instanceof AnswerShapeError) {
    return `${error.message}; check ${ENDPOINT}, and what stands in between`;
  }
  switch (reason) {
    case "ENOTFOUND":
    case "EAI_AGAIN":
      return `the name${at} is not found (${reason}); check the region, ${ENDPOINT}, and the DNS of this machine`;
    case "ECONNREFUSED":
      return `${place ?? "the endpoint"} refuses connections (${reason}); check ${ENDPOINT}, and that the server runs`;
    case "ENETUNREACH":
    case "EHOSTUNREACH":
      return `there is no way to ${place ?? "the endpoint"} (${reason}); check the network, and ${ENDPOINT}`;
    case "ECONNRESET":
    case "EPIPE":
      return `the connection broke (${reason}); ask again, and check the network if it lasts`;
    case "TimeoutError":
    case "ETIMEDOUT":
      return `no answer in time (${reason}); check the network, ${ENDPOINT}, and connectTimeoutMs and requestTimeoutMs`;
    default:
      if (TLS.test(reason)) {
        return `no TLS connection could be made (${reason}); check http or https in ${ENDPOINT}, and the server's certificate`;
      }
      return `no answer (${reason}); see the cause`;
  }
}

/** The code or name of an error, and the host and port that it happened with. */
function reasonOf(error: unknown): readonly [reason: string, place: string | undefined] {
  const { name, code, hostname, address, port, errors } = (error ?? {}) as NetworkError;
  const [first] = Array.isArray(errors) ? errors : [];
  if (first !== undefined && first !== error && address === undefined) return reasonOf(first);
  const host = hostname ?? address;
  const place = host === undefined ? undefined : `${String(host)}${port === undefined ? "" : `:${String(port)}`}`;
  return [String(code ?? (name || "unknown error")), place];
}

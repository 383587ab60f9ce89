// What fetch failed with, in words that say what to do. Knows Node's codes; browsers tell nothing.

const WORDS = {
  ECONNREFUSED: "nothing listens there: is adamd running, and is this its address and port?",
  ENOTFOUND: "there is no host of this name: check the URL, or DNS",
  EAI_AGAIN: "the host's name could not be looked up: check DNS, or the network",
  EHOSTUNREACH: "there is no way to this host: check the network",
  ENETUNREACH: "there is no way to this network: check the network",
  UND_ERR_CONNECT_TIMEOUT: "the host does not answer: check the address, or a firewall",
  ETIMEDOUT: "the host does not answer: check the address, or a firewall",
  ECONNRESET: "the connection was reset before the whole reply came",
  EPIPE: "the connection was closed while the request was sent, as it is where a body is over the " +
    "server's --max-body",
  UND_ERR_SOCKET: "the connection was closed before the whole reply came",
  UND_ERR_RES_CONTENT_LENGTH_MISMATCH: "the connection ended within the reply",
  HPE_INVALID_EOF_STATE: "the connection ended within the reply",
  UND_ERR_HEADERS_TIMEOUT: "fetch waited 300 s for the reply, its own limit",
  UND_ERR_BODY_TIMEOUT: "fetch waited 300 s for more of the reply, its own limit",
};
const NOT_SENT = new Set([
  "ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "EHOSTUNREACH", "ENETUNREACH",
  "UND_ERR_CONNECT_TIMEOUT",
]);

/** The outermost error that has a code, or else the innermost; of several addresses that were
 * tried, the first one's. */
function root(error) {
  let last = error;
  for (let at = error; at; at = at.cause ?? at.errors?.[0]) {
    if (typeof at.code === "string") {
      return at;
    }
    last = at;
  }
  return last;
}

/** `sent`: the server may have the request. `protocol`: it answers, but not as HTTP has it. */
export function explain(error, base) {
  const cause = root(error);
  const code = typeof cause.code === "string" ? cause.code : null;
  if (code?.startsWith("HPE_") && code !== "HPE_INVALID_EOF_STATE") {
    return {
      text: `what answers there is not HTTP (${cause.message}): is this adamd's port?`,
      sent: true,
      protocol: true,
    };
  }
  if (code) {
    return { text: `${WORDS[code] ?? cause.message} (${code})`, sent: !NOT_SENT.has(code) };
  }
  if (cause.message === "terminated") {
    return { text: "the connection was closed before the whole reply came", sent: true };
  }
  if (cause.message === "bad port") {
    return { text: "fetch never asks on this port: let adamd listen on another", sent: false };
  }
  let text = cause.message;
  const page = globalThis.location?.origin;
  if (page && page !== new URL(base).origin) {
    text += `: adamd was not reached, or the browser let no reply through: adamd sends no CORS ` +
      `headers, so that a page of ${page} needs a proxy at its own origin`;
  } else if (error instanceof TypeError) {
    text += ": adamd was not reached, or the connection was cut";
  }
  return { text, sent: true };
}

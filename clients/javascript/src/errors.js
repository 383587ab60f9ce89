// What can go wrong. Knows no HTTP beyond status codes.

export class AdamdError extends Error {
  get name() {
    return this.constructor.name;
  }
}

export class ConnectionError extends AdamdError {
  constructor(message, { cause, attempts = 1, idempotencyKey = null } = {}) {
    super(message, { cause });
    this.attempts = attempts;
    this.idempotencyKey = idempotencyKey;
  }
}

export class ProtocolError extends AdamdError {}

export class FormatError extends ProtocolError {}

// A member of a problem, by its name here and its name there.
const MEMBERS = {
  param: "param", index: "index", expectedShape: "expected_shape", gotShape: "got_shape",
  limitBytes: "limit_bytes", position: "position", header: "header", step: "step",
  worker: "worker", have: "have", quorum: "quorum", basedOn: "based_on",
  maxStaleness: "max_staleness",
};

export class RequestError extends AdamdError {
  constructor(what, { status, problem, text = "", etag = null, retryAfter = null }) {
    const { type = "about:blank", title = "", detail = "" } = problem ?? {};
    const code = String(type).replace("urn:adamd:problem:", "");
    super(`${what}: ${status} ${problem ? code : "without a problem document"}: ` +
      (problem ? detail || title || "no detail came with it" : foreign(status, text)));
    this.status = status;
    this.type = String(type);
    this.code = code;
    this.title = String(title);
    this.detail = String(detail);
    this.members = problem ?? {};
    for (const [here, there] of Object.entries(MEMBERS)) {
      this[here] = this.members[there];
    }
    this.etag = etag ?? this.members.etag ?? null;
    this.retryAfter = retryAfter;
  }
}

export class BadRequest extends RequestError {}
export class Forbidden extends RequestError {}
export class NotFound extends RequestError {}
export class Conflict extends RequestError {}
export class PreconditionFailed extends RequestError {}
export class TooLarge extends RequestError {}
export class Unprocessable extends RequestError {}
export class Unavailable extends RequestError {}
export class OutOfSpace extends RequestError {}

const BY_STATUS = {
  400: BadRequest, 403: Forbidden, 404: NotFound, 409: Conflict, 412: PreconditionFailed,
  413: TooLarge, 422: Unprocessable, 503: Unavailable, 507: OutOfSpace,
};

/** The first words of a page that adamd did not send, and what to look at. */
function foreign(status, text) {
  const plain = text.replace(/<(script|style)[\s\S]*?<\/\1>|<[^>]*>/gi, " ").replace(/\s+/g, " ");
  const said = plain.trim().slice(0, 120);
  const whose = status >= 300 && status < 400
    ? "adamd redirects nobody; give the client the URL that this leads to"
    : "it is not from adamd, or it was malformed; look at a proxy in between, and at the URL";
  return (said ? `'${said}': ` : "") + whose;
}

/** The error of a reply that is no success. `what` is "METHOD url". */
export function fromReply(what, { status, text, etag, retryAfter }) {
  let problem = null;
  try {
    problem = JSON.parse(text);
  } catch { /* a proxy's page */ }
  if (typeof problem !== "object" || Array.isArray(problem)) {
    problem = null;
  }
  const Kind = BY_STATUS[status] ?? RequestError;
  return new Kind(what, { status, problem, text, etag, retryAfter });
}

// One request out, one reply in, and again where none came. The only module that knows fetch.

import { bodyOf } from "./body.js";
import { AdamdError, ConnectionError, ProtocolError, fromReply } from "./errors.js";
import { explain } from "./explain.js";
import { Backoff, Try, sleep, waitAsked } from "./repeat.js";

const FIRST_BUFFER = 1 << 16;

/** Seconds; a date, which adamd does not send, is none. */
function seconds(text) {
  return /^[0-9]{1,9}$/.test(text ?? "") ? Number(text) : null;
}

/** How many bytes the body has, where that can be known: not of one that was packed on its way,
 * nor where another origin may have kept that from us. */
function lengthOf(response) {
  const packed = response.headers.get("Content-Encoding");
  const text = response.headers.get("Content-Length");
  return packed || response.type === "cors" || !/^[0-9]{1,15}$/.test(text ?? "")
    ? null : Number(text);
}

function buffer(what, size) {
  try {
    return new Uint8Array(size);
  } catch {
    throw new ProtocolError(`${what}: a reply of ${size} bytes, more than fit in one array here`);
  }
}

export class Transport {
  constructor(base, options) {
    this.base = base;
    this.options = options;
  }

  /** Sends one request and reads its reply, which may take `wait` ms longer to come. One that
   * reads, or has an Idempotency-Key, is sent again where no whole reply came and after 503 with
   * Retry-After, unless that is an answer. Throws RequestError for a status of 300 and above but
   * 304. */
  async request(request) {
    const { method, headers, signal } = request;
    const key = headers["Idempotency-Key"] ?? null;
    const ends = Date.now() + (request.deadline ?? this.options.deadline);
    const backoff = new Backoff();
    const most = method === "GET" || method === "HEAD" || key !== null ? this.options.retries : 0;
    for (let attempts = 1; ; attempts++) {
      try {
        return await this.#once(request, ends);
      } catch (error) {
        if (error instanceof ConnectionError) {
          Object.assign(error, { attempts, idempotencyKey: key });
        }
        const atLeast = request.answers503 && error.status === 503 ? null : waitAsked(error);
        const wait = atLeast + backoff.next();
        if (attempts > most || atLeast === null || Date.now() + wait >= ends) {
          throw error;
        }
        await sleep(wait, signal);
      }
    }
  }

  async #once(request, ends) {
    const { response, what, attempt } = await this.#send(request, ends);
    try {
      const length = request.method === "HEAD" || response.status === 304
        ? 0 : lengthOf(response);
      const body = await this.#read(response, what, attempt, length);
      attempt.done();
      const reply = { status: response.status, headers: response.headers, body };
      if (response.status >= 300 && response.status !== 304) {
        throw this.#refused(what, reply);
      }
      return reply;
    } catch (error) {
      attempt.drop();
      throw this.#failure(error, request, what, attempt);
    }
  }

  /** Sends one GET, once, and gives its reply's headers and its parts as they come. */
  async stream(request, type) {
    const { response, what, attempt } = await this.#send(request, Infinity);
    try {
      if (response.status !== 200) {
        const body = await this.#read(response, what, attempt, lengthOf(response));
        throw this.#refused(what, { status: response.status, headers: response.headers, body });
      }
      checkType(what, response.headers, type);
    } catch (error) {
      attempt.drop();
      throw this.#failure(error, request, what, attempt);
    }
    return { headers: response.headers, pieces: this.#pieces(response, request, what, attempt) };
  }

  async * #pieces(response, request, what, attempt) {
    const reader = response.body.getReader();
    try {
      for (let got = await reader.read(); !got.done; got = await reader.read()) {
        attempt.touch();
        yield got.value;
      }
    } catch (error) {
      throw this.#failure(error, request, what, attempt);
    } finally {
      attempt.drop();
    }
  }

  async #send(request, ends) {
    const { method, path, headers, body, signal, wait = 0 } = request;
    signal?.throwIfAborted();
    const timeout = (request.timeout ?? this.options.timeout) + wait;
    const what = `${method} ${this.base}${path}`;
    const attempt = new Try({ signal, timeout, ends });
    try {
      const made = body ? bodyOf(body) : { headers: {} };
      const response = await this.options.fetch(this.base + path, {
        method,
        ...made,
        headers: { "Accept-Encoding": "identity", ...headers, ...made.headers },
        signal: attempt.signal,
        redirect: "manual",
        cache: "no-store",
      });
      attempt.touch();
      return { response, what, attempt };
    } catch (error) {
      attempt.drop();
      throw this.#failure(error, request, what, attempt);
    }
  }

  async #read(response, what, attempt, length) {
    const { maxReply } = this.options;
    if (length !== null && length > maxReply) {
      throw new ProtocolError(`${what}: a reply of ${length} bytes, expected at most ${maxReply}`);
    }
    let body = buffer(what, length ?? (response.body ? FIRST_BUFFER : 0));
    let at = 0;
    const reader = response.body?.getReader();
    for (let got = await reader?.read(); got && !got.done; got = await reader.read()) {
      attempt.touch();
      const next = at + got.value.length;
      if (next > maxReply) {
        throw new ProtocolError(`${what}: the reply is over the limit of ${maxReply} bytes`);
      }
      if (next > body.length) {
        const larger = buffer(what, Math.max(next, 2 * body.length));
        larger.set(body.subarray(0, at));
        body = larger;
      }
      body.set(got.value, at);
      at = next;
    }
    if (length !== null && at < length) {
      throw new ConnectionError(`${what}: the connection ended after ${at} of ${length} bytes ` +
        "of the reply");
    }
    return body.subarray(0, at);
  }

  #refused(what, { status, headers, body }) {
    return fromReply(what, {
      status: status || 302, // a browser's word for a redirection that was not followed is 0
      text: new TextDecoder().decode(body),
      etag: headers.get("ETag"),
      retryAfter: seconds(headers.get("Retry-After")),
    });
  }

  /** What to throw for what was caught. */
  #failure(error, { method, signal, headers }, what, attempt) {
    if (signal?.aborted) {
      return signal.reason;
    }
    if (error instanceof AdamdError) {
      return error;
    }
    const { text, sent, protocol } = attempt.late
      ? { text: attempt.late, sent: true } : explain(error, this.base);
    if (protocol) {
      return new ProtocolError(`${what}: ${text}`, { cause: error });
    }
    let advice = "";
    if (sent && headers["Idempotency-Key"]) {
      advice = "; the step may have been taken: the same gradients with the same idempotencyKey " +
        "are safe to send again";
    } else if (sent && method !== "GET" && method !== "HEAD") {
      advice = "; the server may have acted on the request: look before you send it again";
    }
    return new ConnectionError(`${what}: ${text}${advice}`, { cause: error });
  }
}

/** The media type of a reply, which must be `wanted`. */
export function checkType(what, headers, wanted) {
  const type = (headers.get("Content-Type") ?? "").split(";")[0].trim().toLowerCase();
  if (type !== wanted) {
    throw new ProtocolError(`${what}: a reply of type '${type}', expected ${wanted}: is this ` +
      "adamd's address?");
  }
}

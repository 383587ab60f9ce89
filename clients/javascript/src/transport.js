// One request out, one reply in, and again where none came. The only module that knows fetch.

import { AdamdError, ConnectionError, ProtocolError, RequestError, fromReply } from "./errors.js";
import { explain } from "./explain.js";
import { concat } from "./safetensors.js";

const FIRST_WAIT = 100;
const LONGEST_WAIT = 5000;
const LONGEST_RETRY_AFTER = 60_000; // ms; a server that is away longer is given up
const LONGEST_TIMER = 2 ** 31 - 1;
const PIECE = 1 << 20;
const SMALL = 1 << 16;

const isNode = typeof process === "object" && process.release?.name === "node" &&
  typeof Deno === "undefined" && typeof Bun === "undefined";

/** Rejects with the signal's reason when it is aborted. */
export function sleep(ms, signal) {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, Math.min(ms, LONGEST_TIMER));
    signal?.addEventListener("abort", stop, { once: true });
  });
}

/** Waits before repeats: full jitter, so that workers that lost their server together do not come
 * back together. */
export class Backoff {
  #limit = FIRST_WAIT;

  next() {
    const wait = Math.random() * this.#limit;
    this.#limit = Math.min(this.#limit * 2, LONGEST_WAIT);
    return wait;
  }

  reset() {
    this.#limit = FIRST_WAIT;
  }
}

/** The milliseconds to wait at least before the request is sent again; null: it is not. */
export function waitAsked(error) {
  if (error instanceof ConnectionError) {
    return 0;
  }
  const after = error instanceof RequestError && error.status === 503 ? error.retryAfter : null;
  return after !== null && after * 1000 <= LONGEST_RETRY_AFTER ? after * 1000 : null;
}

/** Seconds; a date, which adamd does not send, is none. */
function seconds(text) {
  return /^[0-9]{1,9}$/.test(text ?? "") ? Number(text) : null;
}

/** Cuts what is large and joins what is small, so that a chunk of a stream is about a piece. */
function* chunks(parts) {
  let small = [];
  let size = 0;
  for (const part of parts) {
    if (part.length < SMALL) {
      small.push(part);
      size += part.length;
    }
    if (size && (part.length >= SMALL || size >= PIECE)) {
      yield concat(small, size);
      small = [];
      size = 0;
    }
    for (let at = 0; part.length >= SMALL && at < part.length; at += PIECE) {
      yield part.subarray(at, at + PIECE);
    }
  }
  if (size) {
    yield concat(small, size);
  }
}

/** A body for fetch. Node streams the parts as they are, and can say their length beside a stream;
 * browsers cannot, and gather them in a Blob. What is small is faster in one array. */
function bodyOf({ parts, length }) {
  if (length < SMALL) {
    return { body: concat(parts, length), headers: {} };
  }
  if (!isNode) {
    return { body: new Blob(parts), headers: {} };
  }
  const source = chunks(parts);
  const body = new ReadableStream({
    pull(controller) {
      const { value, done } = source.next();
      if (done) {
        controller.close();
      } else {
        controller.enqueue(value);
      }
    },
  }, { highWaterMark: 0 });
  return { body, duplex: "half", headers: { "Content-Length": String(length) } };
}

/** One try: its connection, the caller's signal, and the clock, which starts anew with every part
 * of the reply. */
class Try {
  #controller = new AbortController();
  #timer;
  #forward;

  constructor({ signal, timeout, ends }) {
    this.caller = signal;
    this.timeout = timeout;
    this.ends = ends;
    this.#forward = () => this.#controller.abort(signal.reason);
    signal?.addEventListener("abort", this.#forward, { once: true });
    this.touch();
  }

  get signal() {
    return this.#controller.signal;
  }

  /** Something came. */
  touch() {
    clearTimeout(this.#timer);
    const left = this.ends - Date.now();
    const ms = Math.min(this.timeout, left);
    if (ms === Infinity) {
      return;
    }
    const text = left <= this.timeout
      ? "the call's deadline is over"
      : `nothing came for ${this.timeout} ms: the server is slow or hangs; a larger timeout may help`;
    this.#timer = setTimeout(() => {
      this.late = text;
      this.#controller.abort(new Error(text));
    }, Math.min(Math.max(ms, 0), LONGEST_TIMER));
  }

  /** Over: nothing is aborted any more. */
  done() {
    clearTimeout(this.#timer);
    this.caller?.removeEventListener("abort", this.#forward);
  }

  /** Lets go of the connection too. */
  drop() {
    this.done();
    this.#controller.abort();
  }
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
    let body = buffer(what, length ?? (response.body ? SMALL : 0));
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

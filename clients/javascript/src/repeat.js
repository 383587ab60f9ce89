// When a request is sent again: the clock of a try, and the waits between tries.

import { ConnectionError, RequestError } from "./errors.js";

const FIRST_WAIT = 100;
const LONGEST_WAIT = 5000;
const LONGEST_RETRY_AFTER = 60_000; // ms; a server that is away longer is given up
const LONGEST_TIMER = 2 ** 31 - 1;

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

/** One try: its connection, the caller's signal, and the clock, which starts anew with every part
 * of the reply. */
export class Try {
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
      : `nothing came for ${this.timeout} ms: the server is slow or hangs; ` +
        "a larger timeout may help";
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

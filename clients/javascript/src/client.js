// The client: one server, and the optimizers that it has.

import { Unavailable } from "./errors.js";
import { Optimizer } from "./optimizer.js";
import { query } from "./settings.js";
import { Transport } from "./transport.js";
import { Wire } from "./wire.js";

const DEFAULTS = {
  timeout: 120_000,
  deadline: Infinity,
  retries: 8,
  maxReply: 8 * 2 ** 30,
};

/** Scheme, host, port and path; in a page, a path alone is one of its own server. */
function baseOf(url) {
  let parts;
  try {
    parts = new URL(url, globalThis.location?.href);
  } catch {
    throw new TypeError(`'${url}' is not a URL like 'http://127.0.0.1:2326'`);
  }
  if (!["http:", "https:"].includes(parts.protocol)) {
    throw new TypeError(`'${url}' is not a URL like 'http://127.0.0.1:2326'`);
  }
  if (parts.search || parts.hash || parts.username) {
    throw new TypeError(`'${url}': expected scheme, host, port and path alone`);
  }
  return parts.origin + parts.pathname.replace(/\/+$/, "");
}

function checked(options) {
  for (const [name, value] of Object.entries(options)) {
    if (name !== "fetch" && !Object.hasOwn(DEFAULTS, name)) {
      const known = [...Object.keys(DEFAULTS), "fetch"];
      throw new TypeError(`there is no option '${name}', expected one of ${known.join(", ")}`);
    }
    if (name !== "fetch" && !(typeof value === "number" && value >= 0)) {
      throw new TypeError(`${name} is ${String(value)}, expected a number of 0 or more`);
    }
  }
  return options;
}

export class Client {
  #wire;

  constructor(url = "http://127.0.0.1:2326", options = {}) {
    // Not fetch itself, which some browsers want called on the window.
    const fetch = (...sent) => globalThis.fetch(...sent);
    this.url = baseOf(url);
    this.#wire = new Wire(new Transport(this.url, { ...DEFAULTS, fetch, ...checked(options) }));
  }

  optimizer(name) {
    return new Optimizer(this.#wire, name);
  }

  async list({ prefix, limit = 1000, ...call } = {}) {
    const found = [];
    for (let after; after !== null;) {
      const path = "/v1/optimizers" + query({ prefix: prefix || undefined, limit, after });
      const page = await this.#wire.json("GET", path, call);
      found.push(...page.optimizers);
      after = page.next ?? null;
    }
    return found;
  }

  server(call) {
    return this.#wire.json("GET", "/", call);
  }

  async livez(call) {
    await this.#wire.send("GET", "/livez", call);
    return true;
  }

  async readyz(call) {
    try {
      await this.#wire.send("GET", "/readyz", call, { answers503: true });
      return true;
    } catch (error) {
      if (error instanceof Unavailable) {
        return false;
      }
      throw error;
    }
  }
}

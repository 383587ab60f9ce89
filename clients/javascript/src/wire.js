// Requests with JSON or tensors in them, and replies with either. Knows no paths.

import { FormatError, ProtocolError } from "./errors.js";
import { decode, encodeParts } from "./safetensors.js";
import { json } from "./settings.js";
import { checkType } from "./transport.js";

const JSON_TYPE = "application/json";
const SAFETENSORS = "application/vnd.safetensors";

export class Wire {
  constructor(transport) {
    this.transport = transport;
  }

  /** `call` has the caller's signal, timeout and deadline. A body is one of `value` (JSON),
   * `tensors` with `metadata`, or `bytes` of a safetensors file. */
  send(method, path, call = {}, sent = {}) {
    const { signal, timeout, deadline } = call;
    const { value, tensors, metadata, bytes, headers, accept, wait, answers503 } = sent;
    const lines = { Accept: accept ?? JSON_TYPE, ...headers };
    let body;
    if (value !== undefined) {
      const text = new TextEncoder().encode(json(value));
      body = { parts: [text], length: text.length };
      lines["Content-Type"] = JSON_TYPE;
    } else if (tensors || bytes) {
      body = bytes ? { parts: [bytes], length: bytes.length } : encodeParts(tensors, metadata);
      lines["Content-Type"] = SAFETENSORS;
    }
    return this.transport.request(
      { method, path, headers: lines, body, wait, answers503, signal, timeout, deadline });
  }

  /** The reply's JSON. */
  async json(method, path, call, sent) {
    const { body } = await this.send(method, path, call, sent);
    try {
      return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(body));
    } catch (error) {
      throw new ProtocolError(`${this.#what(method, path)}: not JSON: ${error.message}: is this ` +
        "adamd's address?");
    }
  }

  /** The reply with its tensors and metadata; 304 has none. */
  async tensors(method, path, call, sent) {
    const reply = await this.send(method, path, call, { ...sent, accept: SAFETENSORS });
    if (reply.status === 304) {
      return { reply, tensors: null, metadata: {} };
    }
    checkType(this.#what(method, path), reply.headers, SAFETENSORS);
    try {
      return { reply, ...decode(reply.body) };
    } catch (error) {
      throw this.#asProtocol(method, path, error);
    }
  }

  /** The reply's bytes, of a safetensors file. */
  async bytes(method, path, call) {
    const reply = await this.send(method, path, call, { accept: SAFETENSORS });
    checkType(this.#what(method, path), reply.headers, SAFETENSORS);
    return reply.body;
  }

  #asProtocol(method, path, error) {
    return error instanceof FormatError
      ? new FormatError(`${this.#what(method, path)}: ${error.message}`) : error;
  }

  #what(method, path) {
    return `${method} ${this.transport.base}${path}`;
  }
}

/** The ETag of a reply, and the step in it. */
export function versionOf(reply, name) {
  const etag = reply.headers.get("ETag");
  const found = /^(?:W\/)?"e[0-9]+-s([0-9]+)"$/.exec(etag ?? "");
  if (!found) {
    throw new ProtocolError(`a reply about '${name}' has the ETag ${etag}, expected "e1-s1"`);
  }
  return { etag, step: Number(found[1]) };
}

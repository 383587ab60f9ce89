// The handle on one optimizer: arguments into requests, replies into tensors.

import { ConnectionError } from "./errors.js";
import { parse, withNumbers } from "./events.js";
import { Backoff, sleep, waitAsked } from "./repeat.js";
import {
  finite, forJson, forMetadata, isDots, json, newGroup, query, randomKey, segment, visible,
  wholeNumber, wireDtype,
} from "./settings.js";
import { results } from "./step.js";
import { Tensor } from "./tensor.js";
import { versionOf } from "./wire.js";

const MOMENTS = ["exp_avg", "exp_avg_sq", "max_exp_avg_sq"];

async function headersOf({ idempotencyKey, worker, weight, basedOn, ifMatch, minimal }) {
  const headers = {
    "Idempotency-Key": idempotencyKey === undefined
      ? await randomKey() : visible("idempotencyKey", idempotencyKey),
  };
  if (worker !== undefined) {
    headers["Adam-Worker"] = visible("worker", worker);
  }
  if (weight !== undefined) {
    headers["Adam-Weight"] = finite("weight", weight);
  }
  if (basedOn !== undefined) {
    headers["Adam-Based-On"] = wholeNumber("basedOn", basedOn);
  }
  if (ifMatch !== undefined) {
    headers["If-Match"] = ifMatch;
  }
  if (minimal) {
    headers.Prefer = "return=minimal";
  }
  return headers;
}

export class Optimizer {
  #wire;
  #path;

  constructor(wire, name) {
    this.#wire = wire;
    this.name = name;
    this.#path = `/v1/optimizers/${segment(name)}`;
  }

  create(params, options = {}, call) {
    const spec = forJson(options);
    if (spec.param_groups) {
      spec.param_groups = spec.param_groups.map(newGroup);
    }
    const metadata = { optimizer: json(spec) };
    return this.#wire.json("PUT", this.#path, call, { tensors: params, metadata });
  }

  summary(call) {
    return this.#json("GET", "", call);
  }

  async etag(call) {
    return versionOf(await this.#wire.send("HEAD", this.#path, call), this.name).etag;
  }

  async delete(call) {
    await this.#wire.send("DELETE", this.#path, call);
  }

  async step(grads, options = {}) {
    const headers = await headersOf(options);
    const metadata = forMetadata(options.settings ?? {});
    if (options.paramGroups) {
      metadata.param_groups = json(options.paramGroups);
    }
    const path = `${this.#path}/step${query({ dtype: wireDtype(options.dtype) })}`;
    const sent = { tensors: grads, metadata, headers };
    if (options.minimal) {
      const reply = await this.#wire.send(
        "POST", path, options, { ...sent, accept: "application/vnd.safetensors" });
      return results(versionOf(reply, this.name), reply);
    }
    const { reply, tensors, metadata: said } =
      await this.#wire.tensors("POST", path, options, sent);
    return results(versionOf(reply, this.name), reply, tensors, said);
  }

  async params({ dtype, wait, ifNoneMatch, ...call } = {}) {
    const path = `${this.#path}/params${query({ dtype: wireDtype(dtype), wait })}`;
    const headers = ifNoneMatch === undefined ? {} : { "If-None-Match": ifNoneMatch };
    const { reply, tensors } =
      await this.#wire.tensors("GET", path, call, { headers, wait: (wait ?? 0) * 1000 });
    return tensors && { ...versionOf(reply, this.name), params: tensors };
  }

  async param(name, { dtype, ...call } = {}) {
    if (isDots(name)) { // which has no path of its own
      return (await this.params({ dtype, ...call })).params[name];
    }
    const path = `${this.#path}/params/${segment(name)}${query({ dtype: wireDtype(dtype) })}`;
    const { tensors } = await this.#wire.tensors("GET", path, call);
    return tensors[name];
  }

  async putParams(params, call) {
    await this.#wire.send("PUT", `${this.#path}/params`, call, { tensors: params });
  }

  paramGroups({ data, ...call } = {}) {
    return this.#json("GET", `/param_groups${query({ data })}`, call);
  }

  async addParamGroup(params, options = {}, call) {
    const metadata = { param_group: json(options) };
    const path = `${this.#path}/param_groups`;
    await this.#wire.send("POST", path, call, { tensors: params, metadata });
  }

  patchParamGroup(index, changes, call) {
    const path = `/param_groups/${wholeNumber("index", index)}`;
    return this.#json("PATCH", path, call, { value: changes });
  }

  configure(settings, call) {
    return this.#json("PATCH", "", call, { value: forJson(settings) });
  }

  async state(name, { data, ...call } = {}) {
    const state = await this.#json("GET", `/state/${segment(name)}${query({ data })}`, call);
    for (const moment of MOMENTS.filter((each) => state[each]?.data !== undefined)) {
      const flat = Tensor.from(state[moment].data, state.dtype, moment).data;
      state[moment].data = new Tensor(flat, state.shape);
    }
    return state;
  }

  stateDict(call) {
    return this.#wire.bytes("GET", `${this.#path}/state_dict`, call);
  }

  async loadStateDict(bytes, { load, ...call }) {
    const path = `${this.#path}/state_dict${query({ load })}`;
    await this.#wire.send("PUT", path, call, { bytes });
  }

  async digest(call) {
    return (await this.#json("GET", "/digest", call)).digest;
  }

  async history({ last, ...call } = {}) {
    return (await this.#json("GET", `/history${query({ last })}`, call)).history.map(withNumbers);
  }

  async changes({ last, ...call } = {}) {
    return (await this.#json("GET", `/changes${query({ last })}`, call)).changes;
  }

  workers(call) {
    return this.#json("GET", "/workers", call);
  }

  async removeWorker(worker, call) {
    await this.#wire.send("DELETE", `${this.#path}/workers/${segment(worker)}`, call);
  }

  round(call) {
    return this.#json("GET", "/round", call);
  }

  async dropRound(call) {
    await this.#wire.send("DELETE", `${this.#path}/round`, call);
  }

  snapshot(call) {
    return this.#json("POST", "/snapshot", call);
  }

  rollback(step, call) {
    return this.#json("POST", "/rollback", call, { value: { step } });
  }

  fork(name, { step, ...call } = {}) {
    return this.#json("POST", "/fork", call, { value: { name, step } });
  }

  async events({ lastEventId, ...call } = {}) {
    const first = await this.#open(lastEventId, call);
    // Where nothing has come yet, what comes after the version that the stream began at is missed.
    const last = lastEventId ?? versionOf(first, this.name).step;
    return this.#resumed(first, last, call);
  }

  async * #resumed(stream, last, call) {
    const { maxReply } = this.#wire.transport.options;
    const backoff = new Backoff();
    for (;;) {
      try {
        for await (const event of parse(stream.pieces, maxReply)) {
          backoff.reset();
          last = event.id ?? last;
          yield event;
          if (event.name === "removed") {
            return;
          }
        }
      } catch (error) {
        if (!(error instanceof ConnectionError)) {
          throw error;
        }
      }
      await sleep(backoff.next(), call.signal);
      stream = await this.#open(last, call);
    }
  }

  /** A stream of events, tried again as a request that reads is. */
  async #open(last, { signal, timeout }) {
    const { transport } = this.#wire;
    const headers = { Accept: "text/event-stream" };
    if (last !== undefined) {
      headers["Last-Event-ID"] = String(last);
    }
    const request = { method: "GET", path: `${this.#path}/events`, headers, signal, timeout };
    const backoff = new Backoff();
    for (let left = transport.options.retries; ; left--) {
      try {
        return await transport.stream(request, "text/event-stream");
      } catch (error) {
        const atLeast = waitAsked(error);
        if (left <= 0 || atLeast === null) {
          throw error;
        }
        await sleep(atLeast + backoff.next(), signal);
      }
    }
  }

  #json(method, rest, call, sent) {
    return this.#wire.json(method, this.#path + rest, call, sent);
  }
}

// Every call, against a real server.

import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { after, before } from "node:test";
import {
  Client, Conflict, NotFound, PreconditionFailed, Tensor, Unprocessable, decode,
} from "adamd";
import { serve, skip } from "./support.js";

let server;
let client;
let directory;

before(async () => {
  if (!skip) {
    directory = await mkdtemp(join(tmpdir(), "adamd-js-"));
    server = await serve("--data-dir", directory);
    client = new Client(server.url);
  }
});

after(async () => {
  await server?.stop();
  if (directory) {
    await rm(directory, { recursive: true });
  }
});

const PARAMS = { w: [[1, 2], [3, 4]], b: new Float64Array([0.5]) };
const GRADS = { w: [[1, -1], [1, -1]], b: new Float64Array([1]) };

test("create, step, read, overwrite, remove", { skip }, async () => {
  const opt = client.optimizer("basics");
  const made = await opt.create(PARAMS, {
    algorithm: "adamw", defaults: { lr: 0.1, weight_decay: 0 }, max_grad_norm: Infinity,
    param_groups: [{ params: ["b"] }, { params: /w$/u, lr: 0.01 }],
  });
  assert.deepEqual([made.algorithm, made.param_groups, made.numel], ["adamw", 2, 5]);
  await assert.rejects(opt.create(PARAMS), Conflict);
  const first = await opt.step(GRADS);
  assert.deepEqual(first.params.w.shape, [2, 2]);
  assert.ok(first.params.w.data instanceof Float32Array);
  assert.ok(first.params.b.data instanceof Float64Array);
  assert.equal(first.params.w.data.buffer, first.params.b.data.buffer, "views of one buffer");
  assert.ok(Math.abs(first.params.w.data[0] - 0.99) < 1e-6);
  await assert.rejects(opt.step(GRADS, { ifMatch: '"e0-s9"' }),
    (error) => error instanceof PreconditionFailed && error.etag === first.etag);
  const second = await opt.step(GRADS,
    { ifMatch: first.etag, minimal: true, paramGroups: [{ lr: 0.2 }, {}] });
  assert.deepEqual([second.step, second.params], [2, null]);
  const params = await opt.params();
  assert.deepEqual([params.step, params.etag], [2, await opt.etag()]);
  assert.deepEqual((await opt.param("b")).toArray(), params.params.b.toArray());
  const halves = await opt.params({ dtype: "bfloat16" });
  assert.deepEqual(halves.params.w.data, params.params.w.to("bfloat16").data, "as the server does");
  const f16 = await opt.param("b", { dtype: "float16" });
  assert.deepEqual(f16.data, params.params.b.to("float16").data);
  await opt.putParams(PARAMS);
  assert.deepEqual((await opt.param("w")).toArray(), PARAMS.w);
  assert.deepEqual((await opt.changes()).map(({ what }) => what), ["param_groups[0].lr", "params"]);
  assert.equal((await opt.history({ last: 1 }))[0].step, 2);
  await opt.delete();
  await assert.rejects(opt.summary(), NotFound);
});

test("groups, settings and state", { skip }, async () => {
  const opt = client.optimizer("groups");
  await opt.create({ w: [1] }, { schedule: { name: "StepLR", step_size: 2 } });
  await opt.addParamGroup({ "layer/1 é": new Tensor(new Uint16Array([0x3f80]), [1], "bfloat16") },
    { lr: 0.5, schedule: null });
  const groups = await opt.paramGroups({ data: "all" });
  assert.deepEqual(groups[1].params[0],
    { name: "layer/1 é", shape: [1], dtype: "float32", data: [1] });
  assert.equal((await opt.patchParamGroup(1, { betas: [0.5, 0.9] })).betas[0], 0.5);
  assert.equal((await opt.configure({ max_grad_norm: 1, norm_type: Infinity })).norm_type, "inf");
  await opt.step({ "layer/1 é": [2], w: [3] });
  const state = await opt.state("layer/1 é");
  assert.deepEqual([state.step, state.exp_avg.data.shape], [1, [1]]);
  assert.ok(state.exp_avg.data.data instanceof Float32Array);
  assert.equal((await opt.state("w", { data: "none" })).exp_avg.data, undefined);
  const error = await opt.step({ w: [NaN] }, { worker: "a" }).catch((caught) => caught);
  assert.ok(error instanceof Unprocessable);
  assert.deepEqual([error.code, error.param, error.index, error.worker],
    ["non-finite", "w", 0, "a"]);
  const skipped = await opt.step({ w: [Infinity] }, { settings: { nonfinite: "skip" } });
  assert.equal(skipped.stats.skipped, true);
  const shape = await opt.step({ w: [[1, 2]] }).catch((caught) => caught);
  assert.deepEqual([shape.code, shape.expectedShape, shape.gotShape],
    ["shape-mismatch", [1], [1, 2]]);
});

test("a parameter whose name is no path", { skip }, async () => {
  const opt = client.optimizer("dots");
  await opt.create({ "..": [1, 2], ".": new Float64Array([3]) });
  assert.deepEqual((await opt.param("..")).toArray(), [1, 2]);
  assert.equal((await opt.param(".", { dtype: "bfloat16" })).dtype, "bfloat16");
  await assert.rejects(opt.state(".."), /cannot stand in a URL/);
});

test("state_dict and digest, there and back", { skip }, async () => {
  const [one, two] = [client.optimizer("one"), client.optimizer("two")];
  await one.create(PARAMS);
  await two.create(PARAMS);
  await one.step(GRADS);
  const state = await one.stateDict();
  assert.ok("exp_avg/w" in decode(state).tensors);
  await two.loadStateDict(state, { load: "everything" });
  assert.equal(await two.digest(), await one.digest());
  assert.match(await one.digest(), /^sha256:[0-9a-f]{64}$/);
  await assert.rejects(two.loadStateDict(state, { load: undefined }), /load/);
});

test("snapshot, rollback, fork", { skip }, async () => {
  const opt = client.optimizer("durable");
  await opt.create(PARAMS);
  await opt.step(GRADS);
  const digest = await opt.digest();
  assert.equal((await opt.snapshot()).step, 1);
  await opt.step(GRADS);
  assert.equal((await opt.fork("durable-2", { step: 1 })).name, "durable-2");
  assert.equal((await client.optimizer("durable-2").summary()).step, 1);
  assert.equal((await opt.fork("durable-3")).step, 2);
  assert.equal((await opt.rollback(1)).step, 1);
  assert.equal(await opt.digest(), digest);
  await assert.rejects(opt.rollback(77), { code: "no-such-step" });
  assert.deepEqual((await client.list({ prefix: "durable", limit: 1 })).map(({ name }) => name),
    ["durable", "durable-2", "durable-3"]);
});

test("workers and rounds", { skip }, async () => {
  const opt = client.optimizer("team");
  await opt.create({ w: [1] }, { aggregation: { mode: "buffered", size: 2 } });
  const held = await opt.step({ w: [1] }, { worker: "a", weight: 3, basedOn: 0 });
  assert.deepEqual([held.pending, held.step], [1, 0]);
  const key = { worker: "a", idempotencyKey: "a-1" };
  assert.equal((await opt.round()).gradients, 1);
  await opt.dropRound();
  await opt.configure({ aggregation: { mode: "sync", workers: 2 } });
  const both = await Promise.all(["a", "b"].map((worker) =>
    opt.step({ w: [1] }, { ...key, worker, idempotencyKey: `${worker}-1` })));
  assert.deepEqual(both.map(({ step }) => step), [1, 1]);
  const again = await opt.step({ w: [1] }, key);
  assert.deepEqual([again.replayed, again.step], [true, 1]);
  assert.equal((await opt.summary()).step, 1);
  await assert.rejects(opt.step({ w: [2] }, key), { code: "key-reused" });
  const late = await opt.step({ w: [1] }, { worker: "a", basedOn: 0 }).catch((caught) => caught);
  assert.deepEqual([late.code, late.step, late.header], ["round-closed", 1, "Adam-Based-On"]);
  assert.deepEqual((await opt.workers()).workers.map(({ name }) => name), ["a", "b"]);
  await opt.removeWorker("b");
  await assert.rejects(opt.removeWorker("b"), { code: "no-such-worker" });
});

test("waiting for parameters", { skip }, async () => {
  const opt = client.optimizer("wait");
  await opt.create({ w: [1] });
  const etag = await opt.etag();
  assert.equal(await opt.params({ ifNoneMatch: etag }), null);
  const next = opt.params({ ifNoneMatch: etag, wait: 30 });
  await opt.step({ w: [1] });
  assert.equal((await next).step, 1);
  const abort = new AbortController();
  const never = opt.params({ wait: 300, signal: abort.signal });
  abort.abort();
  await assert.rejects(never, { name: "AbortError" });
});

test("the server and its end", { skip }, async () => {
  assert.equal((await client.server()).name, "adamd");
  assert.ok(await client.livez() && await client.readyz());
  const other = await serve();
  const opt = new Client(other.url, { retries: 1 }).optimizer("x");
  await opt.create({ w: new Float32Array(1 << 20) });
  const result = await opt.step({ w: new Float32Array(1 << 20).fill(1) });
  assert.equal(result.params.w.size, 1 << 20);
  other.kill();
  await assert.rejects(opt.step({ w: new Float32Array(1 << 20) }), { name: "ConnectionError" });
});

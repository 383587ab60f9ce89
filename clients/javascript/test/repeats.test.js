// What is sent again, with which key, and what is not; broken replies. Against replies played back.

import assert from "node:assert/strict";
import test from "node:test";
import {
  Client, Conflict, ConnectionError, OutOfSpace, PreconditionFailed, ProtocolError, RequestError,
  TooLarge, Unavailable, encode,
} from "adamd";
import { header, play, problem, reply, withoutWaits } from "./support.js";

const GRADS = { w: [1, 1] };
const SAID = {
  step: "1", grad_norm: "1", param_norm: "Infinity", update_norm: "1", clip_coef: "1",
  skipped: "false", converted: "0", newer: "?",
  param_groups: '[{"grad_norm": "NaN", "newer": 1}]',
};
const stepped = ({ lines = [], said = SAID, status = "200 OK", length } = {}) =>
  reply(status, encode(GRADS, said),
    { type: "application/vnd.safetensors", lines: ['ETag: "e1-s9"', ...lines], length });

async function playing(t, replies, closing) {
  withoutWaits(t);
  const server = await play(replies, closing);
  t.after(server.stop);
  return server;
}

const keys = (server) => server.requests.map((request) => header(request, "Idempotency-Key"));

test("wherever a reply breaks, the same step is sent again", async (t) => {
  const whole = stepped();
  const head = whole.indexOf("\r\n\r\n");
  const places = [0, 5, 12, 30, head, head + 2, head + 4, head + 40, whole.length - 1];
  for (const cut of places) {
    const server = await playing(t, [whole.subarray(0, cut), whole], [0]);
    const result = await new Client(server.url).optimizer("x").step(GRADS);
    assert.deepEqual(result.params.w.toArray(), [1, 1]);
    assert.equal(result.stats.param_norm, Infinity);
    assert.ok(Number.isNaN(result.stats.param_groups[0].grad_norm));
    const [first, second] = keys(server);
    assert.match(first, /^[0-9a-f]{32}$/, `cut after ${cut}`);
    assert.equal(first, second);
    assert.equal(...server.requests.map((request) => request.split("\r\n\r\n")[1]));
  }
});

test("large bodies are sent in pieces with their length, and again as a whole", async (t) => {
  const grads = { s: [1, 2, 3], w: new Float32Array(700_000).fill(2), v: new Float64Array(9) };
  const server = await playing(t, ["", stepped()]);
  await new Client(server.url).optimizer("x").step(grads, { idempotencyKey: "k" });
  const file = Buffer.from(encode(grads)).toString("latin1");
  for (const request of server.requests) {
    assert.equal(header(request, "Content-Length"), String(file.length));
    assert.ok(request.endsWith(file), "the bytes of the body");
    assert.equal(header(request, "Transfer-Encoding"), undefined);
  }
});

test("nothing came in time", async (t) => {
  const server = await playing(t, [stepped({ length: 9999 }), null, stepped()]);
  const client = new Client(server.url, { timeout: 300 });
  assert.equal((await client.optimizer("x").step(GRADS)).step, 1);
  assert.equal(server.requests.length, 3);
});

test("503 with Retry-After, and what is not repeated", async (t) => {
  const busy = (...lines) => problem("503 Service Unavailable",
    { type: "urn:adamd:problem:busy", status: 503, detail: "busy" }, lines);
  const server = await playing(t, [busy("Retry-After: 1"), stepped()]);
  const began = Date.now();
  await new Client(server.url).optimizer("x").step(GRADS);
  assert.ok(Date.now() - began >= 990);
  for (const [answer, Kind] of [
    [busy(), Unavailable],
    [busy("Retry-After: 3600"), Unavailable],
    [busy("Retry-After: Wed, 21 Oct 2015 07:28:00 GMT"), Unavailable],
    [problem("409 Conflict", {}), Conflict],
    [problem("412 Precondition Failed", {}), PreconditionFailed],
    [problem("413 Content Too Large", {}), TooLarge],
    [problem("429 Too Many Requests", {}, ["Retry-After: 0"]), RequestError],
    [problem("507 Insufficient Storage", {}), OutOfSpace],
    [reply("502 Bad Gateway", "<h1>no</h1>", { type: "text/html" }), RequestError],
    [reply("302 Found", "", { lines: ["Location: /"] }), RequestError],
    [reply("200 OK", "hi", { type: "text/html" }), ProtocolError],
    [Buffer.from("SSH-2.0-OpenSSH\r\n"), ProtocolError],
  ]) {
    const other = await playing(t, [answer, stepped()]);
    await assert.rejects(new Client(other.url).optimizer("x").step(GRADS), Kind);
    assert.equal(other.requests.length, 1);
  }
});

test("the end of patience: retries, the deadline, the signal", async (t) => {
  for (const retries of [0, 3]) {
    const server = await playing(t, []);
    const sent = new Client(server.url, { retries }).optimizer("x").step(GRADS);
    await assert.rejects(sent, (error) => error instanceof ConnectionError &&
      error.attempts === retries + 1 && error.idempotencyKey === keys(server)[0] &&
      /the same gradients with the same idempotencyKey/.test(error.message));
    assert.equal(server.requests.length, retries + 1);
  }
  const server = await playing(t, [null, null, null]);
  const opt = new Client(server.url).optimizer("x");
  const began = Date.now();
  await assert.rejects(opt.step(GRADS, { deadline: 200 }), /deadline is over/);
  await assert.rejects(opt.step(GRADS, { signal: AbortSignal.timeout(100) }),
    { name: "TimeoutError" });
  await assert.rejects(opt.summary({ signal: AbortSignal.abort("enough") }), (e) => e === "enough");
  assert.ok(Date.now() - began < 5000);
  const gone = await playing(t, [problem("503 x", {}, ["Retry-After: 50"])]);
  const waiting = new Client(gone.url).optimizer("x")
    .step(GRADS, { signal: AbortSignal.timeout(50) });
  await assert.rejects(waiting, { name: "TimeoutError" });
});

test("what only reads is repeated, what writes without a key is not", async (t) => {
  const server = await playing(t, ["", reply("200 OK", "[]"), "", "", "", "", "", "", "", ""]);
  const opt = new Client(server.url).optimizer("x");
  assert.deepEqual(await opt.paramGroups(), []);
  const writes = [
    () => opt.create(GRADS), () => opt.putParams(GRADS), () => opt.configure({ clip_value: 1 }),
    () => opt.addParamGroup(GRADS), () => opt.dropRound(), () => opt.rollback(1),
    () => opt.removeWorker("w"), () => opt.delete(),
  ];
  for (const write of writes) {
    await assert.rejects(write(), /may have acted on the request/);
  }
  assert.equal(server.requests.length, 2 + writes.length);
  assert.ok(keys(server).every((key) => key === undefined));
});

test("not reached, and no such host", async (t) => {
  const server = await playing(t, []);
  server.stop();
  const far = (url) => new Client(url, { retries: 1 }).optimizer("x").summary();
  await assert.rejects(far(server.url), /nothing listens there.*ECONNREFUSED/);
  await assert.rejects(far("http://adamd.invalid"), /there is no host|could not be looked up/);
  await assert.rejects(far("http://127.0.0.1:1"), /never asks on this port/);
});

test("the headers and settings of a step", async (t) => {
  const server = await playing(t, [stepped()]);
  const opt = new Client(`${server.url}/adam/`).optimizer("a b");
  await opt.step(GRADS, {
    idempotencyKey: "k-1", worker: "w", weight: 0.1, basedOn: 2 ** 53, ifMatch: '"e1-s1"',
    paramGroups: [{ lr: 0.5 }, {}], dtype: "bfloat16",
    settings: { grad_scale: 65536, nonfinite: "skip", max_grad_norm: Infinity, norm_type: Infinity,
      clip_value: null, error_if_nonfinite: undefined },
  });
  const [request] = server.requests;
  assert.match(request, /^POST \/adam\/v1\/optimizers\/a%20b\/step\?dtype=bf16 HTTP/);
  for (const [name, value] of Object.entries({
    "Idempotency-Key": "k-1", "Adam-Worker": "w", "Adam-Weight": "0.1",
    "Adam-Based-On": "9007199254740992", "If-Match": '"e1-s1"',
    "Content-Type": "application/vnd.safetensors", Accept: "application/vnd.safetensors",
  })) {
    assert.equal(header(request, name), value);
  }
  const metadata = JSON.stringify({ grad_scale: "65536", nonfinite: "skip", max_grad_norm: "null",
    norm_type: "inf", clip_value: "null", param_groups: '[{"lr":0.5},{}]' });
  assert.ok(request.includes(`{"__metadata__":${metadata},"w":`));
  for (const wrong of [{ worker: "é" }, { basedOn: 1.5 }, { weight: "1" }, { dtype: "int8" },
    { settings: { grad_scale: NaN } }]) {
    await assert.rejects(opt.step(GRADS, wrong), /expected/);
  }
});

test("held, minimal and replayed steps", async (t) => {
  const server = await playing(t, [
    stepped({ status: "202 Accepted", said: { ...SAID, pending: "3" } }),
    reply("202 Accepted", "", { lines: ['ETag: "e1-s4"'] }),
    Buffer.from('HTTP/1.1 204 No Content\r\nETag: "e1-s5"\r\n\r\n'),
    stepped({ lines: ["Idempotent-Replayed: true"] }),
    stepped({ said: { step: "1" } }),
  ]);
  const opt = new Client(server.url).optimizer("x");
  assert.equal((await opt.step(GRADS)).pending, 3);
  const held = await opt.step(GRADS, { minimal: true });
  assert.deepEqual([held.pending, held.step, held.params], [1, 4, null]);
  const taken = await opt.step(GRADS, { minimal: true });
  assert.deepEqual([taken.pending, taken.step, taken.etag], [0, 5, '"e1-s5"']);
  assert.equal(header(server.requests[2], "Prefer"), "return=minimal");
  const again = await opt.step(GRADS);
  assert.deepEqual([again.replayed, again.step, again.etag], [true, 1, '"e1-s9"']);
  await assert.rejects(opt.step(GRADS), /has grad_norm 'undefined'/);
});

test("problems, with all their members, and what is none", async (t) => {
  const members = {
    type: "urn:adamd:problem:brand-new", title: "T", status: 422, detail: "D", param: "w", index: 3,
    expected_shape: [2], got_shape: [3], limit_bytes: 5, position: 6, header: "H", step: 7,
    worker: "a", have: 1, quorum: 2, based_on: 4, max_staleness: 8, etag: '"e1-s1"', newer: [1],
  };
  const server = await playing(t, [
    problem("422 x", members),
    reply("404 x", "<html><title>gone</title><script>x()</script><p>Not here</html>"),
    reply("500 x", "[]"),
    reply("507 x", ""),
  ]);
  const opt = new Client(server.url).optimizer("x");
  const caught = async () => opt.step(GRADS).then(assert.fail, (error) => error);
  const error = await caught();
  assert.equal(error.name, "Unprocessable");
  assert.match(error.message, /POST http.*: 422 brand-new: D$/);
  assert.deepEqual(error.members, members);
  const { code, title, param, index, expectedShape, gotShape, limitBytes, position, step, worker,
    have, quorum, basedOn, maxStaleness, etag } = error;
  assert.deepEqual(
    [code, title, param, index, expectedShape, gotShape, limitBytes, position, error.header, step,
      worker, have, quorum, basedOn, maxStaleness, etag],
    ["brand-new", "T", "w", 3, [2], [3], 5, 6, "H", 7, "a", 1, 2, 4, 8, '"e1-s1"']);
  assert.match((await caught()).message,
    /404 without a problem document: 'gone Not here': .*proxy/);
  assert.match((await caught()).message, /500 without/);
  const last = await caught();
  assert.deepEqual([last.code, last.type, last.members], ["about:blank", "about:blank", {}]);
});

test("304, the limit of a reply, and a wait that is not too slow", async (t) => {
  const small = { maxReply: 50 };
  const kept =
    Buffer.from('HTTP/1.1 304 Not Modified\r\nETag: "e1-s1"\r\nContent-Length: 70\r\n\r\n');
  const server = await playing(t, [kept, reply("200 OK", "[]", { length: 51 })]);
  const opt = new Client(server.url, small).optimizer("x");
  assert.equal(await opt.params({ ifNoneMatch: '"e1-s1"', wait: 30 }), null);
  assert.match(server.requests[0], /^GET .*\/params\?wait=30 /);
  await assert.rejects(opt.summary(), /a reply of 51 bytes, expected at most 50/);
  const chunk = `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3c\r\n${"x".repeat(60)}\r\n`;
  const open = await playing(t, [chunk]);
  await assert.rejects(new Client(open.url, small).server(), /over the limit of 50 bytes/);
});

test("livez and readyz", async (t) => {
  const busy = problem("503 x", { detail: "recovering" }, ["Retry-After: 1"]);
  const server = await playing(t, [reply("200 OK", "{}"), busy, reply("200 OK", "{}")]);
  const client = new Client(server.url);
  assert.equal(await client.livez(), true);
  assert.equal(await client.readyz(), false);
  assert.equal(await client.readyz(), true);
});

test("URLs and options that cannot be", () => {
  for (const url of ["x", "ftp://h", "http://h/?a=1", "http://u@h"]) {
    assert.throws(() => new Client(url), TypeError);
  }
  assert.throws(() => new Client(undefined, { retry: 1 }), /there is no option 'retry'/);
  assert.throws(() => new Client(undefined, { retries: -1 }), /expected a number/);
  assert.throws(() => new Client().optimizer(".."), /cannot stand in a URL/);
});

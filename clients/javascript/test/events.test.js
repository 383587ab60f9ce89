// Streams of events: cut anywhere, resumed, refused. Against replies played back, and a server.

import assert from "node:assert/strict";
import test from "node:test";
import { Client, NotFound, ProtocolError } from "adamd";
import { header, play, problem, reply, serve, skip, withoutWaits } from "./support.js";

const HEAD = 'HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nETag: "e1-s3"\r\n' +
  "Transfer-Encoding: chunked\r\n\r\n";
const END = "0\r\n\r\n";
const REMOVED = "event: removed\ndata: {}\n\n";

function chunks(text, size = 1000) {
  const bytes = Buffer.from(text);
  let out = "";
  for (let at = 0; at < bytes.length; at += size) {
    const piece = bytes.subarray(at, at + size);
    out += `${piece.length.toString(16)}\r\n${piece.toString("latin1")}\r\n`;
  }
  return Buffer.from(out, "latin1").toString("latin1");
}

async function playing(t, replies, closing = []) {
  withoutWaits(t);
  const server = await play(replies.map((text) => Buffer.from(text, "latin1")), closing);
  t.after(server.stop);
  return { server, opt: new Client(server.url, { maxReply: 500 }).optimizer("x") };
}

async function all(events) {
  const found = [];
  for await (const event of events) {
    found.push(event);
  }
  return found;
}

test("events in pieces of any size", async (t) => {
  const record = { grad_norm: "NaN", worker: "é", param_groups: [{ clip_coef: "Infinity" }] };
  const data = JSON.stringify(record);
  const text = `: hello\n\nretry: 3000\n\nid: 4\nevent: step\ndata: ${data}\n\n: heartbeat\n\n` +
    `event: gap\r\ndata:{\r\ndata: }\r\n\r\n${REMOVED}`;
  for (const size of [1, 2, 17, 1000]) {
    const { opt } = await playing(t, [HEAD + chunks(text, size) + END]);
    const [step, gap, removed] = await all(await opt.events());
    assert.deepEqual([step.name, step.id, step.data.worker], ["step", 4, "é"]);
    assert.ok(Number.isNaN(step.data.grad_norm));
    assert.equal(step.data.param_groups[0].clip_coef, Infinity);
    assert.deepEqual(gap, { name: "gap", id: null, data: {} });
    assert.equal(removed.name, "removed");
  }
});

test("a stream that breaks or ends goes on where it was", async (t) => {
  const step = (id) => `id: ${id}\nevent: step\ndata: {}\n\n`;
  const { server, opt } = await playing(t, [
    HEAD, // breaks before the first event
    HEAD + chunks(step(4) + "id: 5\nevent: st"), // within one
    problem("503 x", {}, ["Retry-After: 0"]).toString(),
    HEAD + chunks(step(5)) + END, // ends
    "",
    HEAD + chunks(step(6) + REMOVED) + END,
  ], [0, 1]);
  const seen = await all(await opt.events());
  assert.deepEqual(seen.map(({ id }) => id), [4, 5, 6, null]);
  assert.deepEqual(server.requests.map((request) => header(request, "Last-Event-ID")),
    [undefined, "3", "4", "4", "5", "5"]);
  assert.equal(header(server.requests[0], "Accept"), "text/event-stream");
});

test("refused, and what is no event", async (t) => {
  const gone = problem("404 x", { type: "urn:adamd:problem:no-such-optimizer" }).toString();
  const { opt } = await playing(t, [
    gone, reply("200 OK", "hi").toString(), HEAD + END, gone,
    HEAD + chunks("data: {\n\n"), HEAD + chunks(`data: ${"x".repeat(600)}`),
  ]);
  await assert.rejects(opt.events(), NotFound);
  await assert.rejects(opt.events(), /expected text\/event-stream/);
  await assert.rejects(all(await opt.events({ lastEventId: 1 })), NotFound);
  await assert.rejects(all(await opt.events()), /cannot be read/);
  await assert.rejects(all(await opt.events()), ProtocolError);
});

test("events of a real server, left and aborted", { skip }, async (t) => {
  const server = await serve();
  t.after(server.kill);
  const opt = new Client(server.url).optimizer("live");
  await opt.create({ w: [0] });
  const events = await opt.events();
  for (let i = 0; i < 3; i++) {
    await opt.step({ w: [1] }, { worker: "me" });
  }
  const seen = [];
  for await (const event of events) {
    seen.push(event.data);
    if (event.id === 3) {
      break;
    }
  }
  assert.deepEqual(seen, await opt.history());
  const abort = new AbortController();
  const more = await opt.events({ lastEventId: 1, signal: abort.signal });
  assert.equal((await more.next()).value.id, 2);
  assert.equal((await more.next()).value.id, 3);
  const next = more.next();
  abort.abort(new Error("enough"));
  await assert.rejects(next, /enough/);
  const last = await opt.events();
  await opt.delete();
  assert.deepEqual((await all(last)).map(({ name }) => name), ["removed"]);
  await server.stop();
});

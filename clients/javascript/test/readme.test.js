// The README's example runs as it stands, and index.d.ts names what the package exports.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import test from "node:test";
import * as adamd from "adamd";
import { serve, skip } from "./support.js";

const read = (name) => readFile(new URL(`../${name}`, import.meta.url), "utf8");
const AsyncFunction = (async () => {}).constructor;

test("the example", { skip }, async (t) => {
  const server = await serve();
  t.after(server.kill);
  const [, example] = /```js\n([\s\S]*?)```/.exec(await read("README.md"));
  const code = example
    .replace('import { Client } from "adamd";', "")
    .replace("http://127.0.0.1:2326", server.url);
  assert.ok(code.includes(server.url));
  assert.ok(example.split("\n").length <= 12);
  const said = [];
  const gradients = (params, batch) => ({
    w: adamd.Tensor.from(params.w).toArray().map((row) => row.map((x) => x - batch)),
    b: adamd.Tensor.from(params.b),
  });
  const run = new AsyncFunction("Client", "batches", "computeGradients", "console", code);
  await run(adamd.Client, [1, 2, 3], gradients, { log: (...words) => said.push(words) });
  assert.ok(said[0][0] instanceof Float32Array);
  assert.equal(said[0][1][0].lr, 0.01);
  const { step, algorithm } = await new adamd.Client(server.url).optimizer("mlp").summary();
  assert.deepEqual([step, algorithm], [3, "adamw"]);
});

test("the types name what there is", async () => {
  const types = await read("index.d.ts");
  const named = [...types.matchAll(/^export (?:class|function) (\w+)/gm)].map(([, name]) => name);
  assert.deepEqual(named.sort(), Object.keys(adamd).sort());
  for (const Kind of [adamd.Client, adamd.Optimizer, adamd.Tensor]) {
    const body = new RegExp(`class ${Kind.name} {([\\s\\S]*?)^}`, "m").exec(types)[1];
    for (const name of Object.getOwnPropertyNames(Kind.prototype)) {
      assert.match(body, new RegExp(`\\b${name}\\b`), `${Kind.name}.${name}`);
    }
  }
});

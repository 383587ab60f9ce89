// The examples: the module in Node, and the page by way of its server, in an engine that has
// nothing of Node but what browsers have, too.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import test from "node:test";
import { fileURLToPath } from "node:url";
import { serve, skip } from "./support.js";

const path = (name) => fileURLToPath(new URL(name, import.meta.url));

async function run(...words) {
  const child = spawn(process.execPath, words, { stdio: ["ignore", "pipe", "inherit"] });
  let text = "";
  child.stdout.on("data", (piece) => (text += piece));
  const [status] = await once(child, "exit");
  assert.equal(status, 0, `${words.join(" ")} said ${text}`);
  return text;
}

async function page(t, adamd) {
  const words = [path("../examples/serve.mjs"), "--port", "0", "--adamd", adamd];
  const child = spawn(process.execPath, words, { stdio: ["ignore", "pipe", "inherit"] });
  t.after(() => child.kill());
  const [line] = await once(createInterface({ input: child.stdout }), "line");
  return line.split(" ")[0];
}

test("in Node", { skip }, async (t) => {
  const server = await serve();
  t.after(server.kill);
  const text = await run(path("../examples/node.mjs"), server.url);
  assert.ok(Number(/reads ([0-9.]+) %/.exec(text)[1]) > 90, text);
});

test("in the page", { skip }, async (t) => {
  const server = await serve();
  t.after(server.kill);
  const url = await page(t, server.url);
  const text = await run("--experimental-vm-modules", "--no-warnings", path("page.js"), url);
  assert.match(text, /reads 9[0-9.]+ % of the digits held out/);
});

test("the page's server", { skip }, async (t) => {
  const server = await serve();
  t.after(server.kill);
  const url = await page(t, server.url);
  const missing = await fetch(new URL("/adamd/none.js", url));
  assert.equal(missing.status, 404);
  assert.equal((await fetch(new URL("/package.json", url))).status, 404);
  assert.equal((await (await fetch(new URL("/v1/optimizers", url))).json()).next, null);
  await server.stop();
  assert.equal((await fetch(new URL("/v1/optimizers", url))).status, 502);
});

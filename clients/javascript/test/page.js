// Opens train.html, presses the button and prints what the page says in the end: node's engine with
// a browser's globals alone, and as much of a document as the page asks for. For examples.test.js.

import vm from "node:vm";

const url = process.argv[2];
const elements = new Map();

/** An element that takes whatever is done with it. */
function element() {
  const pen = new Proxy({}, { get: () => () => {}, set: () => true });
  return { append() {}, getContext: () => pen, width: 600, height: 200, textContent: "" };
}

const document = {
  createElement: element,
  getElementById(id) {
    return elements.get(id) ?? elements.set(id, element()).get(id);
  },
};
const location = { href: url, origin: new URL(url).origin };
const crypto = globalThis.crypto ?? (await import("node:crypto")).webcrypto; // none in Node 18
const context = vm.createContext({
  document, location, fetch: (what, options) => fetch(new URL(what, url), options),
  AbortController, AbortSignal, Blob, ReadableStream, TextDecoder, TextEncoder, URL,
  URLSearchParams, clearTimeout, crypto, setTimeout,
});

const html = await (await fetch(url)).text();
const [, map] = /<script type="importmap">(.*?)<\/script>/s.exec(html);
const [, script] = /<script type="module">(.*?)<\/script>/s.exec(html);
const { imports } = JSON.parse(map);
const modules = new Map();

function load(specifier, from) {
  const found = new URL(imports[specifier] ?? specifier, from).href;
  if (!modules.has(found)) {
    modules.set(found, fetch(found).then(async (reply) => {
      const type = reply.headers.get("Content-Type");
      if (!reply.ok || !type.startsWith("text/javascript")) {
        throw new Error(`${found}: ${reply.status} ${type}`);
      }
      return new vm.SourceTextModule(await reply.text(), { context, identifier: found });
    }));
  }
  return modules.get(found);
}

const main = new vm.SourceTextModule(script, { context, identifier: url });
await main.link((specifier, referrer) => load(specifier, referrer.identifier));
await main.evaluate();
await elements.get("start").onclick();
console.log(elements.get("said").textContent);

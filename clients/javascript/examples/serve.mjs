// Serves train.html, and hands everything else on to adamd: a page may only ask its own origin,
// since adamd sends no CORS headers.
//
//     node examples/serve.mjs [--port 8080] [--adamd http://127.0.0.1:2326]

import { createReadStream } from "node:fs";
import http from "node:http";
import { parseArgs } from "node:util";

const { values: options } = parseArgs({
  options: {
    port: { type: "string", default: "8080" },
    adamd: { type: "string", default: "http://127.0.0.1:2326" },
  },
});

const FILES = {
  "/": ["train.html", "text/html"],
  "/train.mjs": ["train.mjs", "text/javascript"],
  "/digits.csv": ["../../examples/digits/digits.csv", "text/csv"],
};
const SOURCE = /^\/adamd\/([a-z0-9]+\.js)$/;

function fileOf(path) {
  const source = SOURCE.exec(path);
  return source ? [`../src/${source[1]}`, "text/javascript"] : FILES[path];
}

function handOn(request, response) {
  const { method, url, headers } = request;
  const onward = http.request(new URL(options.adamd), { method, path: url, headers });
  onward.on("response", (reply) => {
    response.writeHead(reply.statusCode, reply.headers);
    reply.pipe(response);
    reply.on("error", () => response.destroy());
  });
  onward.on("error", (error) => {
    if (response.headersSent) {
      response.destroy(); // a reply that is cut must look cut
    } else {
      response.writeHead(502, { "Content-Type": "text/plain" }).end(`adamd: ${error.message}\n`);
    }
  });
  response.on("close", () => onward.destroy());
  request.pipe(onward);
}

const server = http.createServer((request, response) => {
  const [name, type] = fileOf(request.url) ?? [];
  if (!name) {
    handOn(request, response);
    return;
  }
  const file = createReadStream(new URL(name, import.meta.url));
  file.on("error", () => response.writeHead(404).end());
  file.on("open", () => {
    response.writeHead(200, { "Content-Type": `${type}; charset=utf-8` });
    file.pipe(response);
  });
});
server.listen(Number(options.port), "127.0.0.1", () => {
  console.log(`http://127.0.0.1:${server.address().port}/ for ${options.adamd}`);
});

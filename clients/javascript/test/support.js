// What the tests share: a real server, and one that plays back replies.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import net from "node:net";
import { createInterface } from "node:readline";

export const BINARY = process.env.ADAMD_BINARY;
export const skip = BINARY ? false : "ADAMD_BINARY does not name the server";

/** A real adamd on a free port. */
export async function serve(...options) {
  const child = spawn(BINARY, ["--port", "0", ...options], { stdio: ["ignore", "pipe", "ignore"] });
  const [line] = await once(createInterface({ input: child.stdout }), "line");
  assert.match(line, / listening on http:\/\//);
  const ended = once(child, "exit");
  return {
    url: line.split(" ").pop(),
    kill: () => child.kill("SIGKILL"),
    stop: async () => {
      child.kill("SIGTERM");
      const [status] = await ended;
      assert.equal(status, 0, "the server's status on SIGTERM");
    },
  };
}

/** A server that answers the i-th request with the bytes of replies[i]; those in `closing`, and
 * what is not there or "", are followed by the connection's end, null by silence. */
export async function play(replies, closing = []) {
  const requests = [];
  const sockets = new Set();
  const server = net.createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    let got = Buffer.alloc(0);
    socket.on("data", (piece) => {
      got = Buffer.concat([got, piece]);
      for (let end = wholeOf(got); end; end = wholeOf(got)) {
        const number = requests.push(got.subarray(0, end).toString("latin1")) - 1;
        got = got.subarray(end);
        const answer = number < replies.length ? replies[number] : "";
        if (answer === null) {
          continue;
        }
        socket.write(answer);
        if (!answer.length || closing.includes(number)) {
          socket.end();
        }
      }
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    requests,
    stop: () => {
      sockets.forEach((socket) => socket.destroy());
      server.close();
    },
  };
}

function wholeOf(bytes) {
  const head = bytes.indexOf("\r\n\r\n") + 4;
  if (head < 4) {
    return 0;
  }
  const length = /content-length: *([0-9]+)/i.exec(bytes.subarray(0, head).toString("latin1"));
  const end = head + Number(length?.[1] ?? 0);
  return bytes.length >= end ? end : 0;
}

/** One reply as bytes; `length` in place of its body's. */
export function reply(status, body = "", { type = "application/json", lines = [], length } = {}) {
  const bytes = Buffer.from(body);
  const head = [`HTTP/1.1 ${status}`, `Content-Type: ${type}`,
    `Content-Length: ${length ?? bytes.length}`, ...lines];
  return Buffer.concat([Buffer.from(`${head.join("\r\n")}\r\n\r\n`), bytes]);
}

export function problem(status, members, lines = []) {
  return reply(status, JSON.stringify(members), { type: "application/problem+json", lines });
}

export function header(request, name) {
  return new RegExp(`^${name}: (.*)\r$`, "im").exec(request.split("\r\n\r\n")[0] + "\r")?.[1];
}

/** Repeats at once. */
export function withoutWaits(t) {
  t.mock.method(Math, "random", () => 0);
}

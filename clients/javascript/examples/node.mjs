// Trains in Node: node examples/node.mjs [URL]

import { readFile } from "node:fs/promises";
import { Client } from "adamd";
import { load, train } from "./train.mjs";

const file = new URL("../../examples/digits/digits.csv", import.meta.url);
const digits = load(await readFile(file, "utf8"));
const client = new Client(process.argv[2]);
const name = `digits-${Date.now()}`;
const report = ({ step, loss }) =>
  step % 50 || console.log(`step ${step}: loss ${loss.toFixed(3)}`);
const { accuracy } = await train(client, name, digits, { onStep: report });
await client.optimizer(name).delete();
console.log(`reads ${(100 * accuracy).toFixed(1)} % of the digits that were held out`);

// A small network that learns to read digits: 64 pixels, one hidden layer, ten classes. The
// gradients are computed here, in plain JavaScript, the steps taken by adamd. The page and Node run
// this same module; it knows neither.

import { Tensor } from "adamd";

const PIXELS = 64;
const HIDDEN = 32;
const CLASSES = 10;
const HELD_OUT = 5; // every fifth row is for the test

/** The rows of digits.csv: 64 pixels of 0 to 16, and a label. */
export function load(text) {
  const rows = text.trim().split("\n").map((line) => {
    const numbers = line.split(",").map(Number);
    const pixels = Float32Array.from(numbers.slice(0, PIXELS), (n) => n / 16);
    return { pixels, label: numbers[PIXELS] };
  });
  return {
    training: rows.filter((_, i) => i % HELD_OUT !== HELD_OUT - 1),
    heldOut: rows.filter((_, i) => i % HELD_OUT === HELD_OUT - 1),
  };
}

function initial() {
  const weight = (out, inputs) => {
    const bound = Math.sqrt(6 / inputs);
    const draw = () => (Math.random() * 2 - 1) * bound;
    return new Tensor(Float32Array.from({ length: out * inputs }, draw), [out, inputs]);
  };
  return {
    "hidden.weight": weight(HIDDEN, PIXELS),
    "hidden.bias": new Float32Array(HIDDEN),
    "output.weight": weight(CLASSES, HIDDEN),
    "output.bias": new Float32Array(CLASSES),
  };
}

/** weight x + bias */
function linear(weight, bias, x) {
  return Float32Array.from(bias, (sum, row) => {
    for (let i = 0; i < x.length; i++) {
      sum += weight[row * x.length + i] * x[i];
    }
    return sum;
  });
}

function forward(params, pixels) {
  const { "hidden.weight": w1, "hidden.bias": b1, "output.weight": w2, "output.bias": b2 } = params;
  const hidden = linear(w1.data, b1.data, pixels).map((x) => Math.max(x, 0));
  return { hidden, scores: linear(w2.data, b2.data, hidden) };
}

/** The digit that the network takes it for. */
export function read(params, pixels) {
  const { scores } = forward(params, pixels);
  return scores.indexOf(Math.max(...scores));
}

export function accuracy(params, rows) {
  return rows.filter(({ pixels, label }) => read(params, pixels) === label).length / rows.length;
}

/** Adds `scale` times the outer product of `left` and `right`, and `left` to the bias. */
function addOuter(grads, layer, left, right, scale) {
  const weight = grads[`${layer}.weight`].data;
  left.forEach((x, row) => {
    grads[`${layer}.bias`].data[row] += scale * x;
    for (let i = 0; i < right.length; i++) {
      weight[row * right.length + i] += scale * x * right[i];
    }
  });
}

/** Mean softmax cross-entropy of some rows, and its gradients. */
function gradients(params, rows) {
  const grads = Object.fromEntries(Object.entries(params).map(([name, { size, shape }]) =>
    [name, new Tensor(new Float32Array(size), shape)]));
  let loss = 0;
  for (const { pixels, label } of rows) {
    const { hidden, scores } = forward(params, pixels);
    const top = Math.max(...scores);
    const odds = scores.map((x) => Math.exp(x - top));
    const sum = odds.reduce((a, b) => a + b);
    loss -= Math.log(odds[label] / sum) / rows.length;
    const output = odds.map((x, i) => x / sum - (i === label ? 1 : 0));
    const back = hidden.map((x, i) => x && output.reduce((all, g, c) =>
      all + g * params["output.weight"].data[c * HIDDEN + i], 0));
    addOuter(grads, "output", output, hidden, 1 / rows.length);
    addOuter(grads, "hidden", back, pixels, 1 / rows.length);
  }
  return { loss, grads };
}

/** Trains for so many steps; `onStep` is told of each. Gives the parameters and how many of the
 * digits that were held out they read. */
export async function train(client, name, { training, heldOut }, options = {}) {
  const { steps = 300, onStep, signal } = options;
  const draw = () => training[Math.floor(Math.random() * training.length)];
  const opt = client.optimizer(name);
  await opt.create(initial(), { defaults: { lr: 0.01 } }, { signal });
  let { params } = await opt.params({ signal });
  for (let step = 1; step <= steps; step++) {
    const { loss, grads } = gradients(params, Array.from({ length: 32 }, draw));
    ({ params } = await opt.step(grads, { signal }));
    await onStep?.({ step, loss, params });
  }
  return { params, accuracy: accuracy(params, heldOut) };
}

// Compiled, never run: what the types must allow, and what they must not.

import { Client, Conflict, Params, Tensor, Tensors, decode } from "adamd";

export async function use(client: Client, signal: AbortSignal): Promise<void> {
  const opt = client.optimizer("x");
  await opt.create(new Map([["w", new Float32Array(3)]]), {
    algorithm: "adamw",
    defaults: { lr: 0.1, betas: [0.9, 0.99] },
    param_groups: [{ params: ["w"] }, { params: /bias$/, schedule: null }],
    aggregation: { mode: "sync", workers: 4 },
    norm_type: Infinity,
  });
  const full = await opt.step({ w: [[1, 2]], s: 1 }, { settings: { nonfinite: "skip" }, signal });
  const w: Tensor = full.params.w;
  const norm: number = full.stats.grad_norm;
  const minimal = await opt.step({ w }, { minimal: true, timeout: norm });
  // @ts-expect-error: null after a minimal step
  minimal.params.w;
  const now: Params = await opt.params({ wait: 30 });
  const next: Params | null = await opt.params({ ifNoneMatch: now.etag });
  // @ts-expect-error: may be null
  next.step;
  const tensors: Tensors = decode(await opt.stateDict()).tensors;
  await opt.putParams(tensors);
  for await (const { name, id } of await opt.events({ lastEventId: 1 })) {
    if (name === "step" && id === 3) break;
  }
  try {
    await opt.rollback(1);
  } catch (error) {
    if (error instanceof Conflict) {
      const shape: number[] | undefined = error.expectedShape;
      console.log(error.code, shape);
    }
  }
  // @ts-expect-error: no such type
  await opt.param("w", { dtype: "int8" });
  // @ts-expect-error: no such option
  await opt.step({ w }, { based_on: 1 });
  // @ts-expect-error: not to be made by hand
  new (await import("adamd")).Optimizer();
}

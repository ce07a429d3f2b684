/** Memory of tensor functions: trees of tensors, long computations that can pause between their steps, and a look at what they make on the way. */
import type { Tensor, TensorContainer } from '@tensorflow/tfjs-core';
import { clone, keep, tensor_util, tidy } from '@tensorflow/tfjs-core';
import { nextTask } from '../event-loop.js';

/** `tidy` for a result that is a tree of tensors (plain objects and arrays); tfjs types it for mutable containers only. */
export function tidyTree<T>(body: () => T): T {
  return tidy(body as () => TensorContainer) as T;
}

/**
 * A computation in steps: each `yield` names the tensors made so far that later steps need, and the return value is a tree of tensors. What a step
 * makes beside those is freed when it ends, and what a step no longer names is freed by whoever runs the steps: a step disposes of nothing.
 */
export type Steps<T> = Generator<readonly Tensor[], T, void>;

/** Runs all steps at once. Within a `tidy`, as any tensor function. */
export function runSteps<T>(steps: Steps<T>): T {
  return tidyTree(() => {
    let alive: readonly Tensor[] = [];
    while (true) {
      const step = runStep(steps, alive);
      if (step.done === true) return step.value;
      alive = step.value;
    }
  });
}

/**
 * The same, and the same bits, with a turn of the event loop before every step, so that timers, input and aborts wait for one step at most.
 * Not within a `tidy`. Nothing is left behind on a throw.
 *
 * @throws the signal's reason, before the next step.
 */
export async function runStepsInTurns<T>(steps: Steps<T>, signal?: AbortSignal): Promise<T> {
  let alive: readonly Tensor[] = [];
  try {
    while (true) {
      await nextTask();
      signal?.throwIfAborted();
      const step = runStep(steps, alive);
      if (step.done === true) return step.value;
      alive = step.value;
    }
  } catch (error) {
    for (const x of alive) x.dispose();
    throw error;
  }
}

function runStep<T>(steps: Steps<T>, alive: readonly Tensor[]): IteratorResult<readonly Tensor[], T> {
  const step = tidyTree(() => steps.next());
  const kept = new Set(tensor_util.getTensorsInContainer(step.value as unknown as TensorContainer));
  for (const x of alive) if (!kept.has(x)) x.dispose();
  return step;
}

/**
 * Receives every named intermediate. The tensor lives only during the call: a listener that wants more takes `keep(clone(x))`.
 * With `attentions: true` it also receives attention probabilities [B, H, rows, columns], which takes the composed path.
 */
export interface Trace {
  (name: string, x: Tensor): void;
  readonly attentions?: boolean;
}

/** A listener that keeps a copy of what `wanted` accepts; the caller disposes `tensors`' values. */
export function collectTrace(options: { attentions?: boolean; wanted?: (name: string) => boolean } = {}): {
  readonly trace: Trace;
  readonly tensors: Map<string, Tensor>;
} {
  const tensors = new Map<string, Tensor>();
  const listen = (name: string, x: Tensor): void => {
    if (options.wanted?.(name) === false) return;
    tensors.get(name)?.dispose();
    tensors.set(name, keep(clone(x)));
  };
  return { trace: Object.assign(listen, { attentions: options.attentions ?? false }), tensors };
}

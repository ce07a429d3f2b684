import assert from 'node:assert/strict';
import * as tf from '@tensorflow/tfjs-core';
import { registerSimdBackend, type SimdBackend } from '../src/index.js';

/** A backend of an application, which computes nothing. */
class OtherBackend extends tf.KernelBackend {
  override dispose(): void {}
}

/** Priorities that tfjs's own packages register with. */
const OTHERS = { webgl: 2, wasm: 2, webgpu: 3, tensorflow: 3 } as const;

const choose = async (): Promise<string> => {
  await tf.ready();
  return tf.getBackend();
};

/** Forgets which backend runs, as in a program that has just begun. */
const forget = (...names: readonly string[]) => {
  for (const name of names) if (tf.engine().registryFactory[name] !== undefined) tf.removeBackend(name);
};

describe('simd: which backend a program gets that names none', () => {
  for (const [kind, priority] of Object.entries(OTHERS)) {
    const name = `fake-${kind}`; // kernels of the real one would set it up as theirs
    for (const first of [name, 'simd']) {
      it(`${name}, which the application has registered, ${first === name ? 'before' : 'after'} simd`, async () => {
        const factories = { ...tf.engine().registryFactory };
        forget(...Object.keys(factories));
        const register = () => tf.registerBackend(name, () => new OtherBackend(), priority);
        try {
          if (first === name) register();
          registerSimdBackend({ threads: 1 });
          if (first !== name) register();
          assert.equal(await choose(), name);
          forget(name);
          assert.equal(await choose(), 'simd', 'without it');
        } finally {
          forget(name, 'simd');
          for (const [other, { factory, priority }] of Object.entries(factories))
            if (other !== name && other !== 'simd') tf.registerBackend(other, factory, priority);
        }
      });
    }
  }

  it('simd rather than cpu', async () => {
    const factories = { ...tf.engine().registryFactory };
    forget(...Object.keys(factories));
    try {
      tf.registerBackend('cpu', () => new OtherBackend(), 1);
      registerSimdBackend({ threads: 1 });
      assert.equal(await choose(), 'simd');
    } finally {
      forget('cpu', 'simd');
      for (const [name, { factory, priority }] of Object.entries(factories))
        if (name !== 'simd') tf.registerBackend(name, factory, priority);
    }
  });
});

/** A web worker that counts itself and comes up at once. */
class FakeWorker {
  static made = 0;
  onmessage: (() => void) | undefined;
  constructor() {
    FakeWorker.made++;
  }
  postMessage(): void {
    queueMicrotask(() => this.onmessage?.());
  }
  terminate(): void {}
}

describe('simd: workers in Electron', () => {
  /** Web workers made for a backend of three threads in a process of this type. */
  async function webWorkers(type: string | undefined): Promise<number> {
    const [scope, own] = [globalThis as { Worker?: unknown }, process as { type?: string | undefined }];
    const { Worker } = scope;
    const versions = Object.getOwnPropertyDescriptor(process, 'versions')!;
    Object.defineProperty(process, 'versions', {
      value: { ...process.versions, electron: '40.0.0' },
      configurable: true,
    });
    scope.Worker = FakeWorker;
    if (type !== undefined) own.type = type;
    FakeWorker.made = 0;
    try {
      registerSimdBackend({ name: 'simd-electron', threads: 3 });
      assert.ok(await tf.setBackend('simd-electron'));
      assert.equal((tf.backend() as SimdBackend).pool.threads, 3);
      return FakeWorker.made;
    } finally {
      tf.removeBackend('simd-electron');
      Object.defineProperty(process, 'versions', versions);
      delete own.type;
      if (Worker === undefined) delete scope.Worker;
      else scope.Worker = Worker;
    }
  }

  it('its pages and web workers, which see Node, use web workers; its main process uses Node’s', async () => {
    assert.deepEqual(
      [
        await webWorkers('renderer'),
        await webWorkers('worker'),
        await webWorkers('browser'),
        await webWorkers(undefined),
      ],
      [2, 2, 0, 0],
    );
  });
});

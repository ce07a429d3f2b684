import assert from 'node:assert/strict';
import * as tf from '@tensorflow/tfjs-core';
import { BackendError } from '../src/errors.js';
import { registerSimdBackend, type SimdBackend, uploadWeight } from '../src/index.js';
import { wave } from './support.js';

const GIB = 2 ** 30;
const HALF = 2 * GIB;

/** Where signed 32-bit addresses would turn negative: the two binaries that differ most. */
const BACKENDS = [
  { name: 'simd-high', threads: 2 },
  { name: 'simd-high-plain-unshared', relaxed: false, shared: false },
] as const;

const run = (name: string, inputs: tf.NamedTensorMap, attrs = {}) =>
  tf.engine().runKernel(name, inputs, attrs) as tf.Tensor;

/** Linear layers of every format, for one row, a few and many; and what is read back of their weights. */
function linearLayers(): tf.Tensor[] {
  const data = Float32Array.from({ length: 300 * 1003 }, (_, i) => Math.sin(i * 0.7));
  return (['f32', 'bf16', 'f16', 'int8', 'int8-fast'] as const).flatMap((format) => {
    const weight = uploadWeight({ format, data, shape: [300, 1003] });
    const layers = [1, 4, 70].map((rows) =>
      run('GitLinear', { x: wave([rows, 300], 0.3), weight, bias: wave([1003], 0.2) }, { activation: 'gelu' }),
    );
    return [...layers, tf.slice(weight, [100, 500], [150, 503])];
  });
}

function fused(): tf.Tensor[] {
  const [q, text, image] = [wave([4, 3, 40, 16], 0.7), wave([4, 3, 40, 16], 0.2), wave([2, 3, 51, 16], 0.4)];
  const all = { q, key: text, value: text, imageKey: image, imageValue: image, mask: wave([40, 40], 0.1) };
  const row = wave([4, 3, 1, 16], 0.9);
  const norm = { x: wave([900, 97], 0.2), residual: wave([900, 97], 0.5), gamma: wave([97], 1), beta: wave([97], 2) };
  return [
    run('GitAttention', all),
    run('GitAttention', { q: row, key: text, value: text, imageKey: image, imageValue: image }),
    run('GitLayerNorm', norm, { epsilon: 1e-5 }),
  ];
}

function plain(): tf.Tensor[] {
  const [a, b] = [wave([3, 40, 70], 0.3), wave([3, 70, 90], 0.2)];
  const [square, volume] = [wave([500, 333], 0.9), wave([31, 17, 29], 0.1)];
  const image = wave([1, 33, 33, 3], 0.2) as tf.Tensor4D;
  const { values, indices } = tf.topk(square, 5);
  return [
    ...[
      tf.matMul(a, b),
      tf.matMul(tf.transpose(a, [0, 2, 1]), b, true),
      tf.matMul(a, tf.transpose(b, [0, 2, 1]), false, true),
    ],
    ...[tf.conv2d(image, wave([4, 4, 3, 8], 0.4) as tf.Tensor4D, 4, 'valid'), tf.softmax(square)],
    ...[tf.exp(wave([200_000], 0.1)), tf.erf(square), tf.add(square, wave([333], 0.3)), tf.mul(square, square)],
    ...[
      tf.sum(square, 1),
      tf.sum(square, 0),
      tf.mean(square),
      tf.max(square, 1),
      tf.min(square, 0),
      tf.argMax(square, 1),
    ],
    ...[
      tf.cumsum(square, 1),
      values,
      indices,
      tf.any(tf.greater(square, 0.99), 1),
      tf.where(tf.greater(square, 0), square, 0),
    ],
    ...[tf.transpose(volume, [2, 0, 1]), tf.slice(volume, [3, 2, 1], [20, 11, 23]), tf.concat([square, square], 1)],
    ...[
      tf.pad(square, [
        [2, 3],
        [1, 4],
      ]),
      tf.tile(square, [2, 2]),
      tf.reverse(volume, [0, 2]),
      tf.gather(square, [4, 400, 7]),
    ],
    ...[
      tf.cast(square, 'int32'),
      tf.oneHot(tf.range(0, 50, 1, 'int32'), 60),
      tf.fill([70_000], 3),
      tf.cast(square, 'bool'),
    ],
  ];
}

/** The bytes of everything, and the lowest address that a result had. */
async function everything(): Promise<{ bytes: Uint8Array[]; lowest: number }> {
  const tensors = tf.tidy(() => [...linearLayers(), ...fused(), ...plain()]);
  const lowest = Math.min(
    ...tensors.map((tensor) =>
      (tf.backend() as SimdBackend).call('test', () => (tf.backend() as SimdBackend).addressOf(tensor)),
    ),
  );
  const bytes = await Promise.all(tensors.map(async (tensor) => new Uint8Array((await tensor.data()).slice().buffer)));
  tf.dispose(tensors);
  return { bytes, lowest };
}

/** Takes all memory below 2 GiB, and gives back what was taken. It is never touched, so that it costs addresses only. */
function takeLowerHalf({ heap }: SimdBackend): () => void {
  const large = HALF - heap.stats().size;
  const taken = [{ address: heap.alloc(large), bytes: large }];
  for (const bytes of [2 ** 20, 40_000, 32_768, 4096, 1024, 512, 256, 128, 64]) {
    while (taken.at(-1)!.bytes !== bytes || taken.at(-1)!.address < HALF) {
      taken.push({ address: heap.alloc(bytes), bytes });
    }
  }
  return () => {
    for (const { address, bytes } of taken) heap.free(address, bytes);
  };
}

for (const options of BACKENDS) {
  describe(`${options.name}: memory up to 4 GiB`, () => {
    before(async () => {
      registerSimdBackend(options);
      assert.ok(await tf.setBackend(options.name));
    });
    after(() => tf.removeBackend(options.name));

    it('the same bits above 2 GiB as below', async () => {
      const backend = tf.backend() as SimdBackend;
      const { used } = backend.heap.stats();
      const giveBack = takeLowerHalf(backend); // before anything else: slabs of small blocks stay where they are
      const above = await everything();
      giveBack();
      assert.ok(above.lowest >= HALF, `a result at ${above.lowest}`);
      registerSimdBackend({ ...options, name: `${options.name}-below` });
      assert.ok(await tf.setBackend(`${options.name}-below`));
      const below = await everything();
      tf.removeBackend(`${options.name}-below`);
      await tf.setBackend(options.name);
      assert.ok(below.lowest < HALF);
      const differing = below.bytes.flatMap((bytes, i) => (Buffer.compare(bytes, above.bytes[i]!) === 0 ? [] : [i]));
      assert.deepEqual(differing, []);
      assert.equal(backend.heap.stats().used, used);
      console.log(
        `    ${below.bytes.length} results on ${options.name}, lowest at ${(above.lowest / GIB).toFixed(2)} GiB`,
      );
    });

    it('is refused beyond, by name, and goes on as before', async () => {
      const { heap } = tf.backend() as SimdBackend;
      const [before, tensors] = [heap.stats().used, tf.memory().numTensors];
      const keep = tf.range(0, 1000);
      const large: tf.Tensor[] = [];
      const fill = () => {
        for (;;)
          large.push(
            tf
              .engine()
              .makeTensorFromDataId(
                (tf.backend() as SimdBackend).output([2 ** 26], 'float32').dataId,
                [2 ** 26],
                'float32',
                tf.backend(),
              ),
          );
      };
      assert.throws(fill, (error: Error) => error instanceof BackendError && error.code === 'memory-limit');
      const { size } = heap.stats();
      assert.ok(size > 3.7 * GIB && large.length >= 14, `${size} bytes, ${large.length} tensors of 256 MiB`);
      assert.throws(() => tf.tidy(() => tf.add(large[0]!, large[1]!)), /memory-limit: .* cannot grow: 256 MiB wanted/);
      assert.equal(tf.memory().numTensors, tensors + 1 + large.length);
      // What is left still works, and so does what is given back.
      const total = tf.sum(keep);
      assert.equal((await total.data())[0], 499_500);
      tf.dispose(large.splice(0, 2));
      const again = tf.zeros([2 ** 26]);
      const last = tf.slice(again, 2 ** 26 - 1, 1);
      assert.equal((await last.data())[0], 0);
      tf.dispose([large, again, keep, total, last]);
      assert.equal(heap.stats().used, before, 'all is given back');
    });
  });
}

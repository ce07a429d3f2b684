import * as tf from '@tensorflow/tfjs-core';
import { registerSimdBackend, uploadWeight } from '../src/index.ts';
registerSimdBackend({ name: 'simd', threads: 1 });
await tf.setBackend('simd');
const [m,k,n]=[197,768,768];
const data = Float32Array.from({ length: k * n }, (_, i) => ((i * 7919) % 1999) / 2e4 - 0.05);
const x = tf.randomUniform([m,k],-1,1,'float32',7), weight = uploadWeight({ format: 'int8-fast', data, shape: [k, n] }), bias = tf.zeros([n]);
for (let i=0;i<300;i++) tf.dispose(tf.engine().runKernel('GitLinear', { x, weight, bias } as any, { activation: 'none' }) as any);

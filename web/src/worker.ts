/** The model's worker: the library's, with the engines that the page offers besides. */
import { serveModel } from '../../src/platform/browser.js';

/** What the page asks for beside the model's methods. */
export type EngineRequest = { readonly page: 'engine'; readonly backend: 'simd' | 'webgpu' | 'webgl' };
export type EngineReply =
  | { readonly page: 'engine'; readonly backend: string; readonly threads: number }
  | { readonly page: 'engine'; readonly error: string };

addEventListener('message', async ({ data }: MessageEvent<EngineRequest>) => {
  if (data?.page !== 'engine') return;
  const { backend } = data;
  try {
    let threads = 1;
    if (backend === 'webgpu') {
      if (!('gpu' in navigator)) throw new Error('This browser has no WebGPU here.');
      await import('@tensorflow/tfjs-backend-webgpu');
    } else if (backend === 'webgl') await import('@tensorflow/tfjs-backend-webgl');
    else {
      const { availableThreads, registerSimdBackend } = await import('tfjs-backend-simd');
      registerSimdBackend();
      threads = crossOriginIsolated ? Math.min(availableThreads(), 8) : 1;
    }
    postMessage({ page: 'engine', backend, threads } satisfies EngineReply);
  } catch (error) {
    postMessage({ page: 'engine', error: (error as Error).message } satisfies EngineReply);
  }
});

serveModel(undefined, () => import('../../src/training/index.js'));

import commonjs from '@rollup/plugin-commonjs';
import resolve from '@rollup/plugin-node-resolve';

// biome-ignore lint/style/noDefaultExport: Rollup wants it
export default {
  input: ['page.js', 'worker.js'],
  output: { dir: 'dist', format: 'es', entryFileNames: '[name].js' },
  plugins: [resolve({ browser: true }), commonjs()],
};

import { defineConfig } from 'vite';

// biome-ignore lint/style/noDefaultExport: Vite wants it
export default defineConfig({ base: './', worker: { format: 'es' } });

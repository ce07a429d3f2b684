// biome-ignore lint/style/noDefaultExport: webpack wants it
export default {
  mode: 'production',
  entry: './page.js',
  output: { filename: 'page.js', path: new URL('dist', import.meta.url).pathname },
  performance: { hints: false },
};

/** The part of jasmine-core 5 that this suite uses: the core file itself, which bundles; the package's own entry point reads files of its own. */
declare module 'jasmine-core/lib/jasmine-core/jasmine.js' {
  export interface SpecResult {
    readonly fullName: string;
    readonly status: 'passed' | 'failed' | 'pending' | 'excluded';
    readonly failedExpectations: readonly { readonly message: string }[];
  }

  export interface JasmineEnv {
    configure(options: { readonly random: boolean; readonly forbidDuplicateNames: boolean }): void;
    addReporter(reporter: { specDone(result: SpecResult): void; suiteDone(result: SpecResult): void }): void;
    execute(): Promise<unknown>;
  }

  interface Jasmine {
    DEFAULT_TIMEOUT_INTERVAL: number;
    getEnv(options?: { readonly suppressLoadErrors: boolean }): JasmineEnv;
  }

  const jasmineRequire: {
    core(require: unknown): Jasmine;
    interface(jasmine: Jasmine, env: JasmineEnv): Readonly<Record<string, unknown>>;
  };
  // biome-ignore lint/style/noDefaultExport: it is how a CommonJS module is typed
  export default jasmineRequire;
}

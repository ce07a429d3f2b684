/** Hash of everything that the binaries depend on. */
export function sourceHash(): string;
/** Compiles `entry` of assembly/, `index.ts` where it is left out; the bytes of the module. */
export function compile(flags: readonly string[], entry?: string): Promise<Uint8Array<ArrayBuffer>>;
/** What this machine can do at best (assembly/probe.ts), for tests and benches: not part of what is shipped. */
export function compileProbe(relaxed: boolean): Promise<Uint8Array<ArrayBuffer>>;

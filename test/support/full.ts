/** Every case is wanted (`npm run test:full`), not only enough of them for each guarantee to be tested. */
export const FULL = process.env['IMAGE2TEXT_FULL'] === '1';

/** A test of `npm run test:full` only. */
export function itInFull(title: string, body: Mocha.AsyncFunc | Mocha.Func): void {
  if (FULL) it(title, body as Mocha.Func);
}

/** Every case is wanted (`npm run test:full`), not only enough of them for each guarantee to be tested. */
export const FULL = process.env['IMAGE2TEXT_FULL'] === '1';

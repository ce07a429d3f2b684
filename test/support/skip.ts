/** What must be there: tools that `.ci/run` has installed or built. Without them tests fail there instead of skipping. */
const REQUIRED = (process.env['IMAGE2TEXT_REQUIRE'] ?? '').split(/[\s,]+/);

/**
 * Skips the tests of `context` for want of `tool` (`chromium`, `ffmpeg`, `build`, …) and says how to get it.
 *
 * @throws where IMAGE2TEXT_REQUIRE names the tool.
 */
export function skipWithout(context: Mocha.Context, tool: string, how: string): never {
  if (REQUIRED.includes(tool)) throw new Error(`${tool} is required here, and missing: ${how}`);
  console.log(`    skipped: no ${tool} (${how})`);
  return context.skip();
}

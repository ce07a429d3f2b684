#!/usr/bin/env node
import { run } from './run.js';

// A reader of the log that has gone is no reason to stop serving.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {});
process.exitCode = await run(process.argv.slice(2));

#!/usr/bin/env node
import { explainError } from './context.js';
import { commandLine } from './inputs.js';
import { run } from './program.js';
import { plain } from './terminal.js';

process.on('uncaughtException', (error) => {
  const { code, lines } = explainError(error);
  for (const line of lines) process.stderr.write(`image2text: ${plain(line)}\n`);
  process.exit(code);
});
process.exitCode = await run(commandLine());

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { validate as lint } from 'dockerfile-utils';
import { Job } from 'kubernetes-models/batch/v1/Job';
import { parse } from 'yaml';
import { ROOT } from '../../../test/support/fixtures.js';

const page = readFileSync(`${ROOT}docs/scale.md`, 'utf8');
const block = (language: string): string => new RegExp(`\`\`\`${language}\n([\\s\\S]*?)\`\`\``).exec(page)![1]!;
/** The command that a manifest runs, with every variable as the scheduler sets it. */
const SHARD = /--shard "?(?:\$\(\((\w+) \+ 1\)\)|\$(\w+))\/100"?/;

describe('docs/scale.md', () => {
  it("has a manifest that Kubernetes' published schema allows", () => {
    const manifest = parse(block('yaml')) as { spec: Record<string, unknown> };
    new Job(manifest as never).validate();
    const wrong = { ...manifest, spec: { ...manifest.spec, completions: 'all' } };
    assert.throws(() => new Job(wrong as never).validate(), /completions must be integer/); // so it does look
    assert.equal(manifest.spec['completionMode'], 'Indexed');
    assert.equal(manifest.spec['completions'], 100);
    assert.equal(SHARD.exec(block('yaml'))![1], 'JOB_COMPLETION_INDEX'); // counts from 0
  });

  it('has a script for Slurm and a job for AWS Batch of as many parts as they say', () => {
    execFileSync('bash', ['-n'], { input: block('bash') });
    assert.match(block('bash'), /^#SBATCH --array=1-100$/m);
    assert.equal(SHARD.exec(block('bash'))![2], 'SLURM_ARRAY_TASK_ID'); // counts from 1 here
    const job = JSON.parse(block('json')) as {
      arrayProperties: { size: number };
      containerOverrides: { command: string[] };
    };
    assert.equal(job.arrayProperties.size, 100);
    const [shell, flag, script] = job.containerOverrides.command;
    execFileSync(shell!, ['-n', flag!, script!]);
    assert.equal(SHARD.exec(script!)![1], 'AWS_BATCH_JOB_ARRAY_INDEX'); // counts from 0
  });

  it('says what the rates of docs/performance.md come to', () => {
    const performance = readFileSync(`${ROOT}docs/performance.md`, 'utf8');
    for (const [ours, theirs] of [
      ['greedy', 'caption, greedy, 20 tokens'],
      ['four beams', 'caption, four beams, 20 tokens'],
    ]) {
      const cells = performance
        .split('\n')
        .find((line) => line.startsWith(`| ${theirs} `))!
        .split('|')
        .slice(3, 6);
      const hours = cells.map((cell) => Math.round((Number.parseInt(cell, 10) * 1e7) / 3.6e6 / 10) * 10);
      const row = page.split('\n').find((line) => line.startsWith(`| ${ours} |`));
      assert.equal(row, `| ${ours} | ${hours.map((one) => `${one} core hours`).join(' | ')} |`);
    }
  });
});

describe('the Dockerfile', () => {
  it('has no fault that a linter finds', () => {
    const dockerfile = readFileSync(`${ROOT}packages/server/Dockerfile`, 'utf8');
    assert.deepEqual(
      lint(dockerfile).map(({ message, range }) => `${range.start.line + 1}: ${message}`),
      [],
    );
    assert.notDeepEqual(lint(dockerfile.replace('WORKDIR /app', 'WORKDIRR /app')), []); // so it does look
  });

  it('installs the versions that are tested', () => {
    const { devDependencies } = JSON.parse(readFileSync(`${ROOT}packages/server/package.json`, 'utf8')) as {
      devDependencies: Record<string, string>;
    };
    const dockerfile = readFileSync(`${ROOT}packages/server/Dockerfile`, 'utf8');
    for (const name of ['bullmq', 'ioredis', '@aws-sdk/client-s3'])
      assert.ok(dockerfile.includes(`${name}@${devDependencies[name]}`), name);
  });
});

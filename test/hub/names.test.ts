import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join, resolve, sep } from 'node:path';
import fc from 'fast-check';
import { HubError } from '../../src/errors.js';
import { repoPaths } from '../../src/hub/cache.js';
import {
  endpointFrom,
  expandPath,
  hubCache,
  hubHome,
  isOffline,
  limitsFrom,
  tokenFrom,
} from '../../src/hub/environment.js';
import {
  checkEndpoint,
  checkEtag,
  checkFileName,
  checkRepoId,
  checkRevision,
  closestName,
  parseHubAddress,
  publicUrl,
  resolveUrl,
} from '../../src/hub/names.js';
import { withFolder } from '../support/folder.js';
import { hubErrorOf, TOKEN } from './support.js';

const accepts = (check: (value: unknown) => unknown, value: unknown): boolean => {
  try {
    check(value);
    return true;
  } catch (error) {
    assert.ok(error instanceof HubError, String(error));
    return false;
  }
};

describe('hub: names', () => {
  it('takes what the Hub has', () => {
    for (const repo of ['gpt2', 'microsoft/git-base', 'a/b', 'A_1/b.c-d_e', 'a/_b', `a/${'b'.repeat(96)}`])
      checkRepoId(repo);
    for (const revision of ['main', 'v1.0', 'refs/pr/1', 'feature/x_y-z', 'a'.repeat(40), 'größe'])
      checkRevision(revision);
    for (const file of ['config.json', 'a/b/c.bin', '.gitattributes', 'ü.txt', 'a b.txt', '-x', 'console.txt'])
      checkFileName(file);
    for (const etag of ['"abc"', 'W/"abc"', 'abc', `"${'0'.repeat(64)}"`]) checkEtag(etag, 'f');
  });

  it('refuses what could lead elsewhere', () => {
    for (const repo of [
      5,
      null,
      'a/b/',
      '/',
      'a/.b',
      'a--b/c',
      'a/b.git',
      'a/b-',
      'ä/b',
      `a/${'b'.repeat(97)}`,
      'a/b%2e',
    ]) {
      assert.ok(!accepts(checkRepoId, repo), String(repo));
    }
    for (const revision of [
      '/a',
      'a/',
      'a//b',
      '.a',
      'a/.b',
      'a.lock',
      'a@{1}',
      '-a',
      'a\u0000',
      'a%2f',
      'a\\b',
      'nul',
      'a~1',
    ]) {
      assert.ok(!accepts(checkRevision, revision), revision);
    }
    for (const file of [
      '.',
      '..',
      './a',
      'a/.',
      'a//b',
      'a/',
      'NUL',
      'com1.txt',
      'a.',
      'a ',
      'a:b',
      'a\nb',
      '\ud800',
      'a'.repeat(256),
    ]) {
      assert.ok(!accepts(checkFileName, file), file);
    }
    for (const etag of ['', '"', '""', '"a/b"', '"a.b"', '..', 'a b', 'a'.repeat(129), null]) {
      assert.ok(!accepts((value) => checkEtag(value, 'f'), etag), String(etag));
    }
  });

  it('no accepted name makes a path outside its folder, or an address elsewhere (5,000 random names)', () => {
    const cache = resolve('/cache');
    const piece = fc.constantFrom(
      '..',
      '.',
      '/',
      '\\',
      'a',
      'b.c',
      ':',
      '%2e',
      '\u0000',
      '-',
      ' ',
      '~',
      'con',
      '?',
      '#',
      '@',
      '\n',
    );
    const name = fc.oneof(
      fc.array(piece, { maxLength: 6 }).map((parts) => parts.join('')),
      fc.string({ unit: 'binary', maxLength: 20 }),
    );
    let accepted = 0;
    fc.assert(
      fc.property(name, name, name, name, (repo, revision, file, etag) => {
        if (accepts(checkRepoId, repo)) {
          const paths = repoPaths(cache, repo);
          assert.ok(
            paths.root.startsWith(`${cache}${sep}models--`) && !paths.root.slice(cache.length + 1).includes(sep),
          );
          accepted++;
        }
        const paths = repoPaths(cache, 'o/n');
        const inside = (path: string) =>
          assert.ok(resolve(path) === path && path.startsWith(`${paths.root}${sep}`), path);
        if (accepts(checkRevision, revision)) inside(paths.ref(revision));
        if (accepts((value) => checkEtag(value, 'f'), etag)) inside(paths.partial(checkEtag(etag, 'f')));
        if (accepts(checkFileName, file)) inside(paths.file('a'.repeat(40), file));
        if (accepts(checkFileName, file) && accepts(checkRevision, revision)) {
          const url = new URL(resolveUrl('https://hub.test/base', 'o/n', revision, file));
          assert.equal(url.host + url.search + url.hash, 'hub.test');
          const prefix = `/base/o/n/resolve/${encodeURIComponent(revision)}/`;
          assert.equal(url.pathname.slice(0, prefix.length), prefix);
          assert.equal(decodeURIComponent(url.pathname.slice(prefix.length)), file);
        }
      }),
      { seed: 5, numRuns: 5_000 },
    );
    assert.ok(accepted > 50, `${accepted}`);
  });

  it('endpoints are http addresses without secrets, and messages show none', () => {
    assert.equal(checkEndpoint('https://mirror.test/hf/'), 'https://mirror.test/hf');
    for (const wrong of ['', 'x', 'ftp://a', 'file:///etc', 'https://u:p@a', 'https://a?x=secret', 'https://a/#b']) {
      assert.ok(!accepts((value) => checkEndpoint(value as string), wrong), wrong);
    }
    assert.equal(publicUrl('https://u:secret@a.b:1/p/q?X-Signature=secret#s'), 'https://a.b:1/p/q');
  });
});

describe('hub: addresses of models, and names that are mistyped', () => {
  it('understands the addresses that people copy', () => {
    const cases: [string, string, string | undefined][] = [
      ['https://huggingface.co/microsoft/git-base-coco', 'microsoft/git-base-coco', undefined],
      ['https://huggingface.co/microsoft/git-base-coco/', 'microsoft/git-base-coco', undefined],
      [
        'https://huggingface.co/microsoft/git-base-coco?library=transformers#usage',
        'microsoft/git-base-coco',
        undefined,
      ],
      ['https://huggingface.co/microsoft/git-base-coco/tree/main', 'microsoft/git-base-coco', 'main'],
      ['http://hf.co/microsoft/git-base-coco/blob/v1.0/config.json', 'microsoft/git-base-coco', 'v1.0'],
      ['huggingface.co/a/b/resolve/main/model.safetensors?download=true', 'a/b', 'main'],
      ['https://huggingface.co/a/b/tree/refs%2Fpr%2F7', 'a/b', 'refs/pr/7'],
      ['https://huggingface.co/a/b/tree/refs/pr/7', 'a/b', 'refs/pr/7'],
      ['https://huggingface.co/a/b/discussions/3', 'a/b', undefined],
      ['hf://a/b', 'a/b', undefined],
      ['hf://a/b@refs/pr/1', 'a/b', 'refs/pr/1'],
      ['https://mirror.test/hf/a/b/tree/x', 'a/b', 'x'],
    ];
    for (const [text, repo, revision] of cases) {
      assert.deepEqual(parseHubAddress(text, 'https://mirror.test/hf'), { repo, revision }, text);
    }
    for (const text of ['a/b', './folder', '/folder/huggingface.co/a/b', 'C:\\models\\git', 'git-base']) {
      assert.equal(parseHubAddress(text), undefined, text);
    }
    for (const text of [
      'https://example.com/a/b',
      'https://huggingface.co/',
      'https://huggingface.co/microsoft',
      'https://huggingface.co/datasets/a/b',
      'https://huggingface.co/a/..%2f..',
      'https://huggingface.co/a/b/tree/..%2fx',
      'https://huggingface.co/a/%E0%A4',
      'https://user:secret@example.com/a?token=secret',
      'file:///etc/passwd',
    ]) {
      assert.throws(
        () => parseHubAddress(text),
        (error) => error instanceof HubError && !error.message.includes('token'),
        text,
      );
    }
  });

  it('finds what was meant, and only what is near', () => {
    const names = [
      'microsoft/git-base',
      'microsoft/git-base-coco',
      'microsoft/git-large-coco',
      'microsoft/git-base-vqav2',
    ];
    const cases: Record<string, string | undefined> = {
      'microsoft/git-base-coc': 'microsoft/git-base-coco',
      'microsoft/git-bsae-coco': 'microsoft/git-base-coco',
      'mircosoft/git-base-coco': 'microsoft/git-base-coco',
      'git-base-coco': 'microsoft/git-base-coco',
      'Git-Base-COCO': 'microsoft/git-base-coco',
      'microsoft/git-base-vqa2': 'microsoft/git-base-vqav2',
      'microsoft/git-base': undefined,
      'facebook/opt-125m': undefined,
      '': undefined,
    };
    for (const [typed, meant] of Object.entries(cases)) assert.equal(closestName(typed, names), meant, typed);
  });
});

describe('hub: environment', () => {
  it('finds the cache as Python does', () => {
    assert.equal(hubCache({}), join(homedir(), '.cache/huggingface/hub'));
    assert.equal(hubCache({ XDG_CACHE_HOME: '/x' }), '/x/huggingface/hub');
    assert.equal(hubCache({ XDG_CACHE_HOME: '/x', HF_HOME: '/h' }), '/h/hub');
    assert.equal(hubCache({ HF_HOME: '/h', HUGGINGFACE_HUB_CACHE: '/g' }), '/g');
    assert.equal(hubCache({ HF_HUB_CACHE: '/c', HUGGINGFACE_HUB_CACHE: '/g' }), '/c');
    assert.equal(hubCache({ HF_HUB_CACHE: '~/c' }), join(homedir(), 'c'));
    assert.equal(hubHome({ HF_HOME: '' }), join(homedir(), '.cache/huggingface'));
  });

  it('expands paths as Python does', () => {
    const braced = (name: string) => ['$', '{', name, '}'].join('');
    const env = { HOME: '/home/me', SCRATCH: '/scratch', 'odd name': 'odd' };
    const cases: Record<string, string> = {
      '~': '/home/me',
      '~/x': '/home/me/x',
      '~other/x': resolve('~other/x'),
      '/a/~/x': '/a/~/x',
      $SCRATCH: '/scratch',
      '$SCRATCH/hub': '/scratch/hub',
      [`${braced('SCRATCH')}hub`]: '/scratchhub',
      '$SCRATCHhub/x': resolve('$SCRATCHhub/x'),
      [`/a/$NONE/${braced('NONE')}`]: `/a/$NONE/${braced('NONE')}`,
      [`/a/${braced('odd name')}/$`]: '/a/odd/$',
      '$HOME/$SCRATCH': '/home/me/scratch',
    };
    for (const [path, expected] of Object.entries(cases)) assert.equal(expandPath(path, env), expected, path);
    assert.equal(hubCache({ ...env, HF_HOME: '$SCRATCH/hf' }), '/scratch/hf/hub');
    assert.equal(hubCache({ ...env, HF_HUB_CACHE: `${braced('HOME')}/c` }), '/home/me/c');
    assert.equal(hubHome({ HOME: '/home/you' }), '/home/you/.cache/huggingface');
  });

  it('finds the token as Python does', () =>
    withFolder(async (home) => {
      writeFileSync(join(home, 'token'), `${TOKEN}\n`);
      writeFileSync(join(home, 'other'), 'hf_other');
      assert.equal(await tokenFrom({ HF_HOME: home }, undefined), TOKEN);
      assert.equal(await tokenFrom({ HF_HOME: home, HF_TOKEN_PATH: join(home, 'other') }, undefined), 'hf_other');
      assert.equal(await tokenFrom({ HF_HOME: home, HF_TOKEN: ' hf_env ' }, undefined), 'hf_env');
      assert.equal(await tokenFrom({ HF_HOME: home, HF_TOKEN: 'hf_env' }, 'hf_mine'), 'hf_mine');
      assert.equal(await tokenFrom({ HF_HOME: home, HF_TOKEN: 'hf_env' }, false), undefined);
      assert.equal(
        await tokenFrom({ HF_HOME: home, HF_TOKEN: 'x', HF_HUB_DISABLE_IMPLICIT_TOKEN: '1' }, undefined),
        undefined,
      );
      assert.equal(await tokenFrom({ HF_HOME: join(home, 'none') }, undefined), undefined);
      for (const wrong of [`${TOKEN}\r\nx-evil: 1`, `${TOKEN} x`, '']) await hubErrorOf(tokenFrom({}, wrong));
    }));

  it('reads switches, endpoint and limits', () => {
    for (const value of ['1', 'true', 'YES', 'on']) assert.ok(isOffline({ HF_HUB_OFFLINE: value }));
    for (const value of ['0', '', 'no', undefined]) assert.ok(!isOffline({ HF_HUB_OFFLINE: value }));
    assert.equal(endpointFrom({ HF_ENDPOINT: 'http://m.test/' }, undefined), 'http://m.test');
    assert.equal(endpointFrom({ HF_ENDPOINT: '' }, undefined), 'https://huggingface.co');
    const limits = limitsFrom({ HF_HUB_ETAG_TIMEOUT: '3', HF_HUB_DOWNLOAD_TIMEOUT: 'x' }, { retries: 1 });
    assert.deepEqual([limits.headersMs, limits.idleMs, limits.retries], [3000, 30_000, 1]);
  });
});

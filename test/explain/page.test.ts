import assert from 'node:assert/strict';
import { createContext, runInContext } from 'node:vm';
import { allViews, type PageData } from '../../src/explain/page.js';
import { PAGE_SCRIPT } from '../../src/explain/page-assets.js';
import { decodeImage } from '../../src/image/decode.js';
import { attentionOf, attentionSpread, heatMap, renderPage } from '../../src/index.js';
import { expectClose } from '../support/close.js';
import { madeUp } from './made-up.js';

const dataOf = (page: string): PageData => JSON.parse(/id="data">(.*?)<\/script>/s.exec(page)![1]!) as PageData;

/** The page's script in a scope without a document, where it only defines its functions. */
function scriptScope(): { fill(...args: unknown[]): Float32Array } {
  const scope = createContext({});
  runInContext(PAGE_SCRIPT, scope);
  return scope as { fill(...args: unknown[]): Float32Array };
}

describe('the page', () => {
  const explanation = madeUp({ width: 90, height: 60 });

  it('is one file of its own: no address in it but images in data URLs', () => {
    const page = renderPage(explanation);
    assert.deepEqual([...page.matchAll(/(?:https?:|file:|ftp:)?\/\/[a-z0-9]/gi)], []);
    assert.deepEqual([...page.matchAll(/<(?:link|iframe|object|embed|base)\b|@import|\bfetch\(|XMLHttp/gi)], []);
    for (const [, source] of page.matchAll(/\ssrc="([^"]*)"/g))
      assert.match(source!, /^data:image\/png;base64,[\w+/=]+$/);
    assert.match(page, /Content-Security-Policy" content="default-src 'none'; img-src data:;/);
  });

  it('is the same, byte for byte, for the same explanation', () => {
    assert.equal(renderPage(explanation), renderPage(madeUp({ width: 90, height: 60 })));
  });

  it('shows hostile text as text', () => {
    const hostile = ['</script><img/src=x&onerror=alert(1)>', '"onfocus="alert(2)\'\u0000'];
    const page = renderPage({ ...madeUp({ width: 20, height: 20 }, hostile), prompt: '<b>' }, { lang: '"><script>' });
    assert.equal([...page.matchAll(/<script/g)].length, 2);
    assert.equal([...page.matchAll(/<img/g)].length, 1);
    assert.equal([...page.matchAll(/<b>/g)].length, 2); // those of "How to read this"
    assert.ok(page.includes('&#60;b&#62;') && !page.includes('onfocus="') && !page.includes('\u0000'));
  });

  it('holds every attention map, each in 255ths of its largest patch, and its shares', () => {
    const { words } = dataOf(renderPage(explanation));
    for (const [n, word] of words.entries()) {
      const bytes = Buffer.from(word.patches, 'base64');
      for (const [v, view] of allViews(explanation).entries()) {
        const look = attentionOf(explanation.words[n]!, view, explanation);
        const [top, classToken, text, spread] = word.shares[v]!;
        const read = [...bytes.subarray(v * 4, v * 4 + 4)].map((byte) => (byte / 255) * top);
        expectClose(read, look.patches, 0.002 * top + 1e-5);
        expectClose([classToken, text, spread], [look.classToken, look.text, attentionSpread(look)], 1e-5);
      }
    }
  });

  it('draws as the overlays do', () => {
    const { fill } = scriptScope();
    const patches = Float32Array.from({ length: 2 * 5 * 7 }, (_, i) => ((i * 13) % 70) / 70);
    for (const smooth of [true, false]) {
      const got = fill(patches, 35, 5, 7, 61, 47, smooth);
      const area = { left: 0, top: 0, width: 61, height: 47 };
      const grid = { frames: 2, rows: 5, columns: 7 };
      const { values } = heatMap({ patches }, grid, 1, area, 61, 47, smooth ? 'smooth' : 'patches');
      expectClose(Float32Array.from(got), values, 1e-6);
    }
  });

  it('shows each word, its probability, the prompt and the image, and opens at the most focused word', async () => {
    const page = renderPage({ ...explanation, prompt: 'what is this?' });
    assert.match(page, /<span class="prompt">what is this\?<\/span> <button[^>]*aria-label="one, probability 50.0 %"/);
    assert.match(page, /data-text="end"[^>]*>end<\/button>/);
    assert.equal(dataOf(page).start, 1);
    const source = Buffer.from(/src="data:image\/png;base64,([^"]*)"/.exec(page)![1]!, 'base64');
    assert.deepEqual(await decodeImage(source), { ...explanation.images[0]!.image, warnings: [] });
    assert.match(page, /The dim part of the image was cut away/);
    const whole = { image: explanation.images[0]!.image, seen: { left: 0, top: 0, width: 90, height: 59.7 } };
    assert.doesNotMatch(renderPage({ ...explanation, images: [whole] }), /The dim part/);
  });

  it('names the file and the model, as text', () => {
    const page = renderPage(explanation, { file: '<i>me.jpg', model: 'microsoft/git-base-coco' });
    assert.ok(
      page.includes('<p class="source"><span>&#60;i&#62;me.jpg</span><span>microsoft/git-base-coco</span></p>'),
    );
    assert.match(page, /<title>one two · &#60;i&#62;me\.jpg<\/title>/);
    assert.doesNotMatch(renderPage(explanation), /class="source"/);
  });

  it('shrinks the image, and refuses a size that is none', async () => {
    const page = renderPage(explanation, { maxSide: 45 });
    const source = Buffer.from(/src="data:image\/png;base64,([^"]*)"/.exec(page)![1]!, 'base64');
    assert.deepEqual([(await decodeImage(source)).width, (await decodeImage(source)).height], [45, 30]);
    assert.throws(() => renderPage(explanation, { maxSide: 0.5 }), { path: 'maxSide', code: 'out-of-range' });
  });

  it('stays small: a caption of 20 words by the base model over a large photograph', () => {
    const noise = Uint8Array.from({ length: 2000 * 1500 * 3 }, (_, i) => Math.imul(i, 0x9e3779b1) >>> 24);
    const token = {
      id: 0,
      logProb: -0.1,
      evidence: 1,
      decoder: new Float32Array(72 * 197).fill(1 / 250),
      toText: new Float32Array(72),
    };
    const look = { patches: new Float32Array(196).fill(1 / 200), classToken: 0.01, text: 0.01 };
    const word = {
      ...token,
      mean: look,
      rollout: look,
      text: 'word',
      spaceBefore: true,
      special: false,
      first: 0,
      count: 1,
      probability: 0.9,
    };
    const page = renderPage({
      ...{ text: 'word '.repeat(20).trim(), prompt: '', tokens: [], layers: 6, heads: 12 },
      grid: { frames: 1, rows: 14, columns: 14 },
      words: new Array(20).fill(word),
      images: [
        { image: { data: noise, width: 2000, height: 1500 }, seen: { left: 250, top: 0, width: 1500, height: 1500 } },
      ],
    });
    console.log(`      ${(page.length / 2 ** 20).toFixed(2)} MiB`);
    assert.ok(page.length < 3 * 2 ** 20);
  });
});

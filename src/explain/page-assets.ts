/** The page's style: one column on a telephone, image and panel side by side on a table, light and dark as the reader's system is. */
export const PAGE_STYLE = `
:root {
  color-scheme: light dark;
  --paper: #faf9f6; --card: #ffffff; --ink: #1d1b22; --soft: #6b6775; --line: #e4e1da; --accent: #b3261e; --track: #eceae4; --faint: #b9b5c0;
  --image: #d9552b; --token: #8b6fc0; --text: #9a97a3;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #131217; --card: #1c1b21; --ink: #f0eef4; --soft: #9d99a8; --line: #302e37; --accent: #ff9b6a; --track: #26242c; --faint: #56525f;
    --image: #f08a4b; --token: #a78bd8; --text: #6f6c79;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; padding: clamp(16px, 3vw, 44px); background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif;
}
main { max-width: 1180px; margin: 0 auto; display: grid; gap: clamp(20px, 3vw, 44px); grid-template-columns: minmax(0, 1fr) 348px; }
@media (max-width: 900px) { main { grid-template-columns: minmax(0, 1fr); } }
h1, h2 { font-size: 12px; font-weight: 600; letter-spacing: .08em; text-transform: uppercase; color: var(--soft); margin: 0 0 10px; }
button { font: inherit; color: inherit; background: none; border: 0; padding: 0; cursor: pointer; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }

.images { display: grid; gap: 8px; grid-template-columns: minmax(0, 1fr); justify-items: start; }
.images.video { grid-template-columns: repeat(auto-fit, minmax(min(100%, 210px), 1fr)); }
.image { position: relative; overflow: hidden; border-radius: 10px; background: #000; line-height: 0; }
.image .shot { display: block; width: 100%; height: 100%; position: relative; transition: filter .25s; }
.image .rest { position: absolute; inset: 0; background-size: 100% 100%; }
.image .veil { position: absolute; opacity: 0; transition: opacity .25s; }
.lit .veil { opacity: 1; }
.caption { font: 400 clamp(25px, 3.1vw, 36px)/1.5 Charter, "Bitstream Charter", "Iowan Old Style", Georgia, "DejaVu Serif", serif; margin: 20px 0 6px; overflow-wrap: anywhere; }
.source { color: var(--soft); font-size: 13px; margin: -6px 0 10px; overflow-wrap: anywhere; }
.source span + span::before { content: " · "; white-space: pre; }
.nowhere { color: var(--accent); font-size: 13px; line-height: 1.35; margin: -4px 0 12px; }
.prompt { color: var(--soft); }
.word { position: relative; padding: 1px 3px 3px; margin: 0 -3px; border-radius: 7px; max-width: 100%; transition: background .15s, color .15s; }
.word::before, .word::after { content: ""; position: absolute; left: 3px; bottom: 0; height: 3px; border-radius: 2px; }
.word::before { right: 3px; background: var(--track); }
.word::after { width: calc((100% - 6px) * var(--sure)); background: var(--faint); }
.word.active { background: var(--ink); color: var(--paper); }
.word.active::before { opacity: 0; }
.word.active::after { background: var(--accent); }
.word.special { font: 600 12px/1 system-ui, sans-serif; color: var(--soft); vertical-align: middle; padding: 6px 8px; letter-spacing: .04em; }
.word.special.active { color: var(--paper); }
.hint { color: var(--soft); font-size: 13px; margin: 0; max-width: 66ch; }

aside { display: grid; gap: 18px; align-content: start; grid-template-columns: minmax(0, 1fr); }
section { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 16px 18px; }
.said { display: flex; justify-content: space-between; gap: 12px; align-items: baseline; margin: 0 0 12px; }
.said b { font: 400 22px/1.3 Charter, "Bitstream Charter", "Iowan Old Style", Georgia, "DejaVu Serif", serif; overflow-wrap: anywhere; }
.said span { color: var(--soft); white-space: nowrap; font-variant-numeric: tabular-nums; }
.bar { display: flex; height: 10px; border-radius: 5px; overflow: hidden; gap: 2px; }
.bar i { flex: 0 0 0; min-width: 0; transition: flex-grow .26s; }
dl { display: grid; grid-template-columns: auto 1fr; gap: 3px 10px; margin: 12px 0 0; font-variant-numeric: tabular-nums; }
dt::before { content: ""; display: inline-block; width: 9px; height: 9px; border-radius: 3px; margin-right: 9px; background: var(--dot, transparent); }
dt.even::before { width: 0; height: 0; border-radius: 0; border: 5px solid transparent; border-top: 0; border-bottom-color: var(--soft); margin: 0 8px 1px -1px; }
dd { margin: 0; text-align: right; }
.scale { display: flex; align-items: center; gap: 10px; margin: 14px 0 12px; font-variant-numeric: tabular-nums; font-size: 13px; }
.ramp { position: relative; flex: 1; min-width: 0; line-height: 0; }
.ramp canvas { width: 100%; height: 12px; border-radius: 6px; border: 1px solid var(--line); }
.ramp i { position: absolute; top: 14px; left: 0; width: 0; height: 0; margin-left: -5px; border: 5px solid transparent; border-top: 0; border-bottom-color: var(--soft); transition: left .26s; }
.choice { display: flex; flex-wrap: wrap; gap: 6px 18px; border: 0; padding: 0; margin: 0 0 4px; font-size: 13px; color: var(--soft); }
.choice legend { position: absolute; clip-path: inset(50%); }
.choice label { display: inline-flex; gap: 6px; align-items: center; cursor: pointer; }
.choice input { margin: 0; accent-color: var(--accent); }

.views { display: grid; grid-template-columns: 1fr 1fr; gap: 8px; margin-bottom: 14px; }
.views button { border: 1px solid var(--line); border-radius: 8px; padding: 7px 10px; }
.views button[aria-pressed=true] { background: var(--ink); color: var(--paper); border-color: var(--ink); }
.heads { display: grid; gap: 3px; align-items: center; }
.heads button { min-width: 0; border-radius: 3px; }
.heads canvas { display: block; width: 100%; border-radius: 3px; background: #000; }
.heads button[aria-pressed=true] { outline: 2px solid var(--accent); outline-offset: 1px; }
.heads .layer { font-size: 12px; line-height: 1.2; color: var(--soft); padding: 4px 8px 4px 2px; font-variant-numeric: tabular-nums; text-align: right; }
.heads .layer[aria-pressed=true] { color: var(--ink); font-weight: 700; outline: 0; }
.heads .axis { font-size: 11px; padding: 0 8px 0 2px; }
.heads small { color: var(--soft); font-size: 11px; text-align: center; font-variant-numeric: tabular-nums; }
details { grid-column: 1 / -1; color: var(--soft); font-size: 14px; border-top: 1px solid var(--line); padding-top: 14px; }
details p { max-width: 78ch; margin: 10px 0 0; }
summary { cursor: pointer; }
@media (prefers-reduced-motion: reduce) { * { transition: none !important; } }
`;

/**
 * The page's script, plain JavaScript for any browser of the last years. `fill` is `heatMap` once more (a test compares the two); the rest
 * listens and paints. It asks nothing of the network: all it knows is in the page's `data` element.
 */
export const PAGE_SCRIPT = `'use strict';
/* Weights of one frame, from offset on, over width by height pixels: Catmull and Rom's bicubic, or plain patches. */
function fill(weights, offset, rows, columns, width, height, smooth) {
  const taps = (pixels, count) => Array.from({ length: pixels }, (_, pixel) => {
    const inside = ((pixel + 0.5) / pixels) * count;
    const place = smooth ? inside - 0.5 : Math.floor(inside);
    const first = Math.floor(place);
    const t = place - first;
    const parts = [((2 - t) * t - 1) * t / 2, ((3 * t - 5) * t * t + 2) / 2, ((4 - 3 * t) * t + 1) * t / 2, (t - 1) * t * t / 2];
    return parts.map((part, n) => [Math.min(count - 1, Math.max(0, first - 1 + n)), part]);
  });
  let most = 0;
  for (let i = offset; i < offset + rows * columns; i++) most = Math.max(most, weights[i]);
  const across = taps(width, columns);
  const values = new Float32Array(width * height);
  const line = new Float32Array(columns);
  taps(height, rows).forEach((down, y) => {
    for (let c = 0; c < columns; c++) {
      line[c] = 0;
      for (const [row, part] of down) line[c] += part * weights[offset + row * columns + c];
    }
    for (let x = 0; x < width; x++) {
      let sum = 0;
      for (const [column, part] of across[x]) sum += part * line[column];
      values[y * width + x] = Math.min(most, Math.max(0, sum));
    }
  });
  return values;
}

function start(data, find, all) {
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const [frames, rows, columns] = data.grid;
  const size = frames * rows * columns;
  const patches = data.words.map((word) => bytes(word.patches));
  const state = { pinned: data.start, hover: -1, view: 0, shared: false, smooth: true };
  const still = matchMedia('(prefers-reduced-motion: reduce)');
  const buttons = all('.word');
  const cells = all('[data-view]');
  const images = all('.image');
  const percent = (share) => share > 0 && share < 0.001 ? '< 0.1 %' : (100 * share).toFixed(share > 0 && share < 0.0995 ? 1 : 0) + ' %';
  let shown = new Float32Array(size); /* what is painted now, 0 to 1 */
  let running = 0;

  /* The weight that gets the last color. */
  const top = (word, view) =>
    state.shared ? Math.max(...data.scaled.map((w) => data.words[w].shares[view][0])) : data.words[word].shares[view][0];

  /* A word's patches in one view, 0 to 1. */
  function levels(word, view) {
    const out = new Float32Array(size);
    const factor = data.words[word].shares[view][0] / 255 / (top(word, view) || 1);
    for (let i = 0; i < size; i++) out[i] = patches[word][view * size + i] * factor;
    return out;
  }

  /* Pixels of [gray level, alpha] for each value. */
  function paint(canvas, values, frame, pixel) {
    const { width, height } = canvas;
    const context = canvas.getContext('2d');
    const image = context.createImageData(width, height);
    fill(values, frame * rows * columns, rows, columns, width, height, state.smooth).forEach((value, i) => {
      const [level, alpha] = pixel(Math.min(1, value));
      image.data.set([level, level, level, Math.round(255 * alpha)], i * 4);
    });
    context.putImageData(image, 0, 0);
  }

  const veil = (value) => [0, data.paint.veil * (1 - value)];
  const gray = (value) => [Math.round(255 * (1 - data.paint.veil * (1 - value))), 1];
  const paintImages = () =>
    images.forEach((image, frame) => paint(image.querySelector('.veil'), shown, frame, veil));

  /* The heat moves from one word to the next. */
  function moveTo(target) {
    const from = shown;
    const begin = performance.now();
    const turn = ++running;
    const step = (now) => {
      if (turn !== running) return;
      const time = still.matches ? 1 : Math.min(1, (now - begin) / 260);
      const eased = 1 - (1 - time) ** 3;
      shown = target.map((value, i) => from[i] + (value - from[i]) * eased);
      paintImages();
      if (time < 1) requestAnimationFrame(step);
    };
    still.matches ? step(begin) : requestAnimationFrame(step);
  }

  function paintCells(word) {
    cells.forEach((cell) => {
      const view = Number(cell.dataset.view);
      cell.setAttribute('aria-pressed', String(view === state.view));
      const canvas = cell.querySelector('canvas');
      if (!canvas) return;
      const context = canvas.getContext('2d');
      const values = levels(word, view);
      const one = document.createElement('canvas');
      one.width = canvas.width / data.across;
      one.height = canvas.height / Math.ceil(frames / data.across);
      for (let frame = 0; frame < frames; frame++) {
        paint(one, values, frame, (value) => [Math.round(255 * value), 1]);
        context.drawImage(one, (frame % data.across) * one.width, Math.floor(frame / data.across) * one.height);
      }
    });
  }

  function numbers(word) {
    const [peak, token, text, spread] = data.words[word].shares[state.view];
    const parts = { image: Math.max(0, 1 - token - text), token, text };
    for (const [name, share] of Object.entries(parts)) {
      find('#share-' + name).textContent = percent(share);
      find('#bar-' + name).style.flexGrow = share;
    }
    find('#said').textContent = buttons[word].dataset.text;
    find('#sure').textContent = buttons[word].dataset.sure;
    find('#peak').textContent = percent(peak);
    find('#top').textContent = percent(top(word, state.view));
    find('#nowhere').hidden = spread < data.evenSpread;
    const even = parts.image / size;
    find('#even').textContent = percent(even);
    find('#tick').style.left = 100 * Math.min(1, even / (top(word, state.view) || 1)) + '%';
  }

  function show() {
    const word = state.hover >= 0 ? state.hover : state.pinned;
    document.body.classList.toggle('lit', word >= 0);
    buttons.forEach((button, n) => {
      button.classList.toggle('active', n === word);
      button.setAttribute('aria-pressed', String(n === state.pinned));
    });
    if (word < 0) return;
    moveTo(levels(word, state.view));
    paintCells(word);
    numbers(word);
  }

  const change = (part) => { Object.assign(state, part); show(); };

  buttons.forEach((button, n) => {
    button.addEventListener('pointerenter', (event) => { if (event.pointerType !== 'touch') change({ hover: n }); });
    button.addEventListener('pointerleave', () => { if (state.hover === n) change({ hover: -1 }); });
    button.addEventListener('focus', () => change({ pinned: n }));
    button.addEventListener('click', () => change({ pinned: n }));
  });
  cells.forEach((cell) => cell.addEventListener('click', () => change({ view: Number(cell.dataset.view) })));
  all('input[name=scale]').forEach((box) => box.addEventListener('change', () => change({ shared: box.value === 'shared' })));
  all('input[name=filling]').forEach((box) => box.addEventListener('change', () => change({ smooth: box.value === 'smooth' })));
  addEventListener('keydown', (event) => {
    if (event.key === 'Escape') change({ pinned: -1, hover: -1 });
    if (event.altKey || event.ctrlKey || event.metaKey || event.target.tagName === 'INPUT') return;
    const focused = buttons.indexOf(document.activeElement);
    const isWord = focused >= 0;
    const from = isWord ? focused : state.pinned;
    const to = { ArrowRight: from + 1, ArrowLeft: from - 1, ...(isWord && { Home: 0, End: buttons.length - 1 }) }[event.key];
    if (buttons[to] === undefined) return;
    event.preventDefault();
    buttons[to].focus();
  });

  images.forEach((image) => {
    const rest = image.querySelector('.rest');
    if (rest) rest.style.cssText = 'background-image:url(' + image.querySelector('.shot').src + ');filter:grayscale(1) brightness(' + data.paint.unseen + ')';
  });

  const ramp = find('#ramp').getContext('2d');
  for (let step = 0; step < 256; step++) {
    const level = gray(step / 255)[0];
    ramp.fillStyle = 'rgb(' + [level, level, level].join() + ')';
    ramp.fillRect(step, 0, 1, 1);
  }
  document.body.classList.add('ready');
  show();
}

if (typeof document !== 'undefined') {
  start(JSON.parse(document.getElementById('data').textContent), (one) => document.querySelector(one), (many) => [...document.querySelectorAll(many)]);
}
`;

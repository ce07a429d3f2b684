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

/** What happens in a run, as plain data: what `onEvent` receives, and a line of log.jsonl each. */
export type TrainingEvent =
  | StartEvent
  | StepEvent
  | ValidationEvent
  | ThumbnailsEvent
  | WarningEvent
  | SkippedEvent
  | SavedEvent
  | EndEvent;

export interface StartEvent {
  readonly type: 'start';
  readonly pairs: number;
  readonly validationPairs: number;
  readonly steps: number;
  /** The first step of this process: more than 0 where a run goes on. */
  readonly fromStep: number;
  /** How many numbers are trained, and how many the model has. */
  readonly trained: number;
  readonly parameters: number;
}

export interface StepEvent {
  readonly type: 'step';
  /** From 1: updates made. */
  readonly step: number;
  readonly steps: number;
  /** Mean over the learned tokens, before the update. */
  readonly loss: number;
  readonly gradNorm: number;
  readonly learningRate: number;
  /** Tokens learned in this step. */
  readonly tokens: number;
  readonly seconds: number;
  readonly epoch: number;
}

/** A held-out pair, and what the model says. */
export interface ValidationSample {
  readonly name: string;
  readonly prompt: string;
  readonly expected: string;
  readonly text: string;
}

export interface ValidationEvent {
  readonly type: 'validation';
  /** Updates made; 0: the model as it came, which is never the best. */
  readonly step: number;
  /** Cross-entropy, mean over the tokens that would be learned. */
  readonly loss: number;
  /** Share of texts that greedy decoding gives word for word. */
  readonly exactMatch: number;
  /** CIDEr-D, 0 to 10; undefined where no reference has a word. */
  readonly cider: number | undefined;
  readonly samples: readonly ValidationSample[];
  /** Is it the best so far? */
  readonly best: boolean;
}

/** The images of the samples in small, once in a run: `data:` addresses of PNG files, by the names of the samples. */
export interface ThumbnailsEvent {
  readonly type: 'thumbnails';
  readonly images: Readonly<Record<string, string>>;
}

export type WarningCode =
  | 'same-caption'
  | 'prompt-in-text'
  | 'learning-rate'
  | 'loss-rises'
  | 'pairs-cut'
  | 'no-validation'
  | 'validation-learned'
  | 'unknown-words';

export interface WarningEvent {
  readonly type: 'warning';
  readonly code: WarningCode;
  readonly detail: string;
}

/** A pair that cannot be used. */
export interface SkippedEvent {
  readonly type: 'skipped';
  /** Where it is: the file and line, or the number of the pair. */
  readonly source: string;
  readonly detail: string;
}

export interface SavedEvent {
  readonly type: 'saved';
  readonly step: number;
  /** The file, or the folder of a checkpoint. */
  readonly name: string;
}

export interface EndEvent {
  readonly type: 'end';
  readonly step: number;
  readonly seconds: number;
}

const escapeHtml = (text: string): string => text.replace(/[&<>"']/g, (char) => `&#${char.charCodeAt(0)};`);

const shown = (value: number): string =>
  value !== 0 && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e5)
    ? value.toExponential(2)
    : String(Number(value.toPrecision(4)));

const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;

interface Curve {
  readonly name: string;
  readonly color: string;
  readonly points: readonly (readonly [step: number, value: number])[];
}

const [WIDTH, HEIGHT, LEFT, BOTTOM] = [640, 220, 60, 24];

/** At most this many points are drawn of a curve: each is the mean of its steps. */
const MOST_POINTS = 600;

/** A chart of curves over steps, as SVG. */
function chart(title: string, curves: readonly Curve[]): string {
  const drawn = curves
    .map((curve) => ({ ...curve, points: thinned(curve.points) }))
    .filter(({ points }) => points.length > 0);
  const all = drawn.flatMap(({ points }) => points);
  if (all.length === 0) return '';
  const last = Math.max(1, ...all.map(([step]) => step));
  const values = all.map(([, value]) => value);
  const [least, most] = [Math.min(0, ...values), Math.max(...values) || 1];
  const x = (step: number): number => LEFT + ((WIDTH - LEFT - 8) * step) / last;
  const y = (value: number): number =>
    HEIGHT - BOTTOM - ((HEIGHT - BOTTOM - 12) * (value - least)) / (most - least || 1);
  const line = ({ color, points }: Curve): string =>
    points.length === 1
      ? `<circle cx="${x(points[0]![0]).toFixed(1)}" cy="${y(points[0]![1]).toFixed(1)}" r="3" fill="${color}"/>`
      : `<polyline fill="none" stroke="${color}" stroke-width="1.5" points="${points.map(([step, value]) => `${x(step).toFixed(1)},${y(value).toFixed(1)}`).join(' ')}"/>`;
  const ticks = [least, (least + most) / 2, most]
    .map(
      (value) =>
        `<text x="${LEFT - 6}" y="${(y(value) + 4).toFixed(1)}" text-anchor="end">${shown(value)}</text><line x1="${LEFT}" x2="${WIDTH - 8}" y1="${y(value).toFixed(1)}" y2="${y(value).toFixed(1)}" stroke="#ddd"/>`,
    )
    .join('');
  const legend = drawn
    .map(({ name, color }) => `<span style="color:${color}">■</span> ${escapeHtml(name)}`)
    .join(' &nbsp; ');
  return `<figure><figcaption><b>${escapeHtml(title)}</b> &nbsp; ${legend}</figcaption><svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${escapeHtml(title)}">${ticks}${drawn.map(line).join('')}<text x="${LEFT}" y="${HEIGHT - 6}">0</text><text x="${WIDTH - 8}" y="${HEIGHT - 6}" text-anchor="end">step ${last}</text></svg></figure>`;
}

function thinned(points: Curve['points']): Curve['points'] {
  if (points.length <= MOST_POINTS) return points;
  const size = points.length / MOST_POINTS;
  return Array.from({ length: MOST_POINTS }, (_, n) => {
    const part = points.slice(Math.floor(n * size), Math.floor((n + 1) * size));
    return [part.at(-1)![0], part.reduce((sum, [, value]) => sum + value, 0) / part.length] as const;
  });
}

const stepsOf = (log: readonly TrainingEvent[]): StepEvent[] =>
  log.filter((event): event is StepEvent => event.type === 'step');
const validationsOf = (log: readonly TrainingEvent[]): ValidationEvent[] =>
  log.filter((event): event is ValidationEvent => event.type === 'validation');

/** Validations whose samples are shown: the first, the last and some between. */
const MOST_COLUMNS = 6;

/** What was said of each sample, as it changed. */
function sampleTable(validations: readonly ValidationEvent[], images: ThumbnailsEvent['images'] | undefined): string {
  if (validations.length === 0) return '';
  const count = Math.min(MOST_COLUMNS, validations.length);
  const picked = Array.from(
    { length: count },
    (_, n) => validations[count === 1 ? 0 : Math.round((n * (validations.length - 1)) / (count - 1))]!,
  );
  const head = picked.map(({ step }) => `<th>${step === 0 ? 'before' : `step ${step}`}</th>`).join('');
  const rows = picked.at(-1)!.samples.map(({ name, prompt, expected }, n) => {
    const cells = picked.map(({ samples }) => {
      const text = samples[n]?.text ?? '';
      return `<td class="${text === expected ? 'right' : 'wrong'}">${escapeHtml(text)}</td>`;
    });
    const asked = prompt === '' ? '' : `<br><i>${escapeHtml(prompt)}</i>`;
    const address = images !== undefined && Object.hasOwn(images, name) ? images[name]! : undefined;
    const image = address === undefined ? '' : `<img src="${escapeHtml(address)}" alt=""><br>`;
    return `<tr><td title="${escapeHtml(name)}">${image}${escapeHtml(name.split(/[\\/]/).at(-1)!)}${asked}</td><td>${escapeHtml(expected)}</td>${cells.join('')}</tr>`;
  });
  return `<h2>Held-out samples</h2><div class="wide"><table><tr><th>image</th><th>expected</th>${head}</tr>${rows.join('')}</table></div>`;
}

const STYLE =
  'body{font:15px/1.4 system-ui,sans-serif;max-width:960px;margin:2em auto;padding:0 1em;color:#222}figure{margin:1em 0}svg{width:100%;font-size:11px}svg text{fill:#666}table{border-collapse:collapse}td,th{border:1px solid #ddd;padding:.25em .5em;text-align:left;vertical-align:top}.right{background:#e6f6e6}.wide{overflow-x:auto}td img{max-width:96px;max-height:96px}';

/** One HTML page that needs nothing else: curves, figures, and what the model said of held-out images as it changed. */
export function renderTrainingPage(log: readonly TrainingEvent[]): string {
  const [steps, validations] = [stepsOf(log), validationsOf(log)];
  const start = log.findLast((event) => event.type === 'start');
  const last = steps.at(-1);
  const seconds = steps.reduce((sum, step) => sum + step.seconds, 0);
  const tokens = steps.reduce((sum, step) => sum + step.tokens, 0);
  const facts = [
    ...(start === undefined
      ? []
      : [
          `${start.pairs} pairs, ${start.validationPairs} held out; ${start.trained} of ${start.parameters} numbers are trained`,
        ]),
    ...(last === undefined
      ? []
      : [
          `step ${last.step} of ${last.steps}, loss ${shown(last.loss)}, ${shown(tokens / Math.max(seconds, 1e-9))} tokens a second`,
        ]),
    ...validations
      .slice(-1)
      .map(
        ({ loss, exactMatch, cider }) =>
          `held out: loss ${shown(loss)}, ${percent(exactMatch)} exact${cider === undefined ? '' : `, CIDEr-D ${shown(cider)}`}`,
      ),
  ];
  const notes = log.flatMap((event) =>
    event.type === 'warning'
      ? [event.detail]
      : event.type === 'skipped'
        ? [`${event.source} was skipped: ${event.detail}`]
        : [],
  );
  const list = (items: readonly string[]): string => items.map((item) => `<li>${escapeHtml(item)}</li>`).join('');
  return `<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Training</title><style>${STYLE}</style><h1>Training</h1><ul>${list(facts)}</ul>${[
    chart('Loss', [
      { name: 'learned', color: '#3366cc', points: steps.map(({ step, loss }) => [step, loss] as const) },
      {
        name: 'held out (cross-entropy)',
        color: '#dc3912',
        points: validations.map(({ step, loss }) => [step, loss] as const),
      },
    ]),
    chart('Held-out texts that are exact', [
      {
        name: 'share',
        color: '#109618',
        points: validations.map(({ step, exactMatch }) => [step, exactMatch] as const),
      },
    ]),
    chart('CIDEr-D of held-out texts', [
      {
        name: '0 to 10',
        color: '#0099c6',
        points: validations.flatMap(({ step, cider }) => (cider === undefined ? [] : [[step, cider] as const])),
      },
    ]),
    chart('Learning rate', [
      {
        name: 'decoder or adapter',
        color: '#990099',
        points: steps.map(({ step, learningRate }) => [step, learningRate] as const),
      },
    ]),
    chart('Norm of the gradients', [
      {
        name: 'before clipping',
        color: '#ff9900',
        points: steps.map(({ step, gradNorm }) => [step, gradNorm] as const),
      },
    ]),
  ].join(
    '',
  )}${sampleTable(validations, log.findLast((event) => event.type === 'thumbnails')?.images)}${notes.length === 0 ? '' : `<h2>Notes</h2><ul>${list(notes)}</ul>`}</html>\n`;
}

/** `owner/name` as it is; of a path its last part, since others do not have the folder. */
const baseName = (label: string): string =>
  /^[\w][\w.-]*\/[\w][\w.-]*$/.test(label) ? label : (label.split(/[\\/]/).filter(Boolean).at(-1) ?? label);

/** The draft of a model card, README.md of the folder: what is known is filled in, the rest is for a person to say. */
export function modelCard(
  log: readonly TrainingEvent[],
  { base, lora }: { readonly base: string | undefined; readonly lora: boolean },
): string {
  const start = log.findLast((event) => event.type === 'start');
  const last = stepsOf(log).at(-1);
  const found = validationsOf(log).at(-1);
  const from = base === undefined ? undefined : baseName(base);
  return [
    '---',
    ...(from?.includes('/') === true ? [`base_model: ${from}`] : []),
    'pipeline_tag: image-to-text',
    ...(lora ? ['library_name: peft'] : []),
    'tags: [image-to-text, image-captioning, git]',
    '---',
    '',
    `# ${lora ? 'A LoRA adapter of' : 'Fine-tuned from'} ${from ?? 'a GIT checkpoint'}`,
    '',
    'TODO: what the model is for, what it was trained on, who may use it, and what it gets wrong.',
    '',
    '## Training',
    '',
    ...(start === undefined
      ? []
      : [`- ${start.pairs} pairs of images and texts; ${start.trained} of ${start.parameters} numbers were trained.`]),
    ...(last === undefined ? [] : [`- ${last.step} of ${last.steps} steps; loss of the last one ${shown(last.loss)}.`]),
    '',
    '## Evaluation',
    '',
    ...(found === undefined
      ? ['Nothing was held out.']
      : [
          `On ${start?.validationPairs ?? 'the'} held-out pairs after ${found.step} steps, greedy decoding:`,
          '',
          `- cross-entropy ${shown(found.loss)}`,
          `- ${percent(found.exactMatch)} of the texts word for word`,
          ...(found.cider === undefined ? [] : [`- CIDEr-D ${shown(found.cider)} (0 to 10)`]),
        ]),
    '',
  ].join('\n');
}

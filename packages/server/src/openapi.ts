import { packageVersion } from './command-line.js';
import type { Declared } from './options.js';
import { OPERATIONS, SENT_OPTIONS } from './plain.js';

type Schema = Readonly<Record<string, unknown>>;

const OWN_FIELDS: Readonly<Record<string, Schema>> = {
  prompt: { type: 'string', description: 'Text that the result goes on from.' },
  question: { type: 'string', description: 'What to answer.' },
  labels: { type: 'array', items: { type: 'string' }, description: 'The names to choose from.' },
  texts: { type: 'array', items: { type: 'string' }, description: 'The texts to score.' },
  topK: { type: 'integer', minimum: 1, default: 5, description: 'How many labels to return.' },
};

/** The schema of a declared option. */
function schemaOf({ type, help, least, most, above, choices }: Declared): Schema {
  const range = {
    ...(least === undefined ? {} : { minimum: least }),
    ...(most === undefined ? {} : { maximum: most }),
    ...(above === undefined ? {} : { exclusiveMinimum: above }),
  };
  const kind: Schema =
    type === 'texts'
      ? { type: 'array', items: { type: 'string' } }
      : type === 'list'
        ? { type: 'array', items: {} }
        : type === 'choice'
          ? { enum: choices }
          : { type: type === 'text' ? 'string' : type };
  return { ...kind, ...range, description: help };
}

const TOKEN = {
  type: 'object',
  properties: { id: { type: 'integer' }, piece: { type: 'string' }, logProb: { type: 'number' } },
};
const TEXT = {
  type: 'object',
  required: ['text', 'score', 'logProb', 'confidence', 'finish', 'tokens'],
  properties: {
    text: { type: 'string' },
    question: { type: 'string' },
    score: { type: 'number', description: 'What the search ranks by.' },
    logProb: { type: 'number', description: "Sum of the tokens' natural log-probabilities." },
    confidence: { type: 'number', description: "Geometric mean of the tokens' probabilities." },
    finish: { type: 'string', description: 'eos: the model ended the text; length: it had to end.' },
    tokens: { type: 'array', items: TOKEN },
    alternatives: { type: 'array', items: { type: 'object' } },
  },
};
const RESULTS: Readonly<Record<string, Schema>> = {
  caption: TEXT,
  answer: TEXT,
  classify: {
    type: 'object',
    properties: {
      labels: {
        type: 'array',
        items: {
          type: 'object',
          properties: { label: { type: 'string' }, probability: { type: 'number' }, logProb: { type: 'number' } },
        },
      },
    },
  },
  score: { type: 'object', properties: { texts: { type: 'array', items: TEXT } } },
};
const ERROR = {
  type: 'object',
  properties: {
    error: { type: 'object', properties: { code: { type: 'string' }, message: { type: 'string' } } },
  },
};
const FAILURES: Readonly<Record<string, string>> = {
  400: 'A field is missing or wrong.',
  401: 'The bearer token is missing or wrong.',
  413: 'The body is too large.',
  422: 'The image cannot be read.',
  503: 'Too many requests are being served, or the server stops; Retry-After says when to try again.',
  504: 'The time limit was reached.',
};

/** The description of our own API, made from the tables of options. */
export function openApi(): object {
  const paths = Object.entries(OPERATIONS).map(([name, { fields, help, generates }]) => {
    const properties: Record<string, Schema> = {
      ...Object.fromEntries(Object.keys(fields).map((field) => [field, OWN_FIELDS[field]!])),
      ...(generates ? Object.fromEntries(Object.entries(SENT_OPTIONS).map(([key, one]) => [key, schemaOf(one)])) : {}),
    };
    const required = [
      'image',
      ...Object.keys(fields).filter((field) => ['question', 'labels', 'texts'].includes(field)),
    ];
    const body = (image: Schema): object => ({
      schema: { type: 'object', required, properties: { image, ...properties } },
    });
    const base64 = { type: 'string', description: 'base64 or a data: URL; an http address where the server allows it' };
    const failures = Object.entries(FAILURES).map(([status, description]) => [
      status,
      { description, content: { 'application/json': { schema: ERROR } } },
    ]);
    return [
      `/${name}`,
      {
        post: {
          operationId: name,
          summary: help,
          description:
            'The image is the body itself, with the fields in the address, or part of a form or of JSON. With Accept: text/event-stream the answer comes as events: piece, done, error.',
          parameters: Object.entries(properties).map(([field, schema]) => ({
            ...{ name: field, in: 'query', required: false, schema },
            description: 'For bodies that are the image itself.',
          })),
          requestBody: {
            required: true,
            content: {
              'application/json': body(base64),
              'multipart/form-data': body({ type: 'string', format: 'binary' }),
              'image/*': { schema: { type: 'string', format: 'binary' } },
              'application/octet-stream': { schema: { type: 'string', format: 'binary' } },
            },
          },
          responses: {
            200: {
              description: 'The result.',
              content: {
                'application/json': { schema: RESULTS[name] },
                'text/event-stream': { schema: { type: 'string' } },
              },
            },
            ...Object.fromEntries(failures),
          },
        },
      },
    ];
  });
  return {
    openapi: '3.1.0',
    info: {
      title: 'generative-image2text',
      version: packageVersion(),
      description: 'Says what is in images. The same server speaks the APIs of Ollama (/api) and OpenAI (/v1).',
    },
    paths: Object.fromEntries(paths),
    components: { securitySchemes: { token: { type: 'http', scheme: 'bearer' } } },
    security: [{}, { token: [] }],
  };
}

const escapeHtml = (text: string): string =>
  text.replace(/[&<>"]/g, (char) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[char]!);

/** A page about our own API, with a form to try it. It loads nothing. */
export function docsPage(): string {
  const sections = Object.entries(OPERATIONS).map(([name, { fields, help, generates }]) => {
    const options: [string, string][] = [
      ...Object.keys(fields).map((field): [string, string] => [field, String(OWN_FIELDS[field]!['description'])]),
      ...(generates ? Object.entries(SENT_OPTIONS).map(([key, one]): [string, string] => [key, one.help]) : []),
    ];
    const rows = options
      .map(([key, text]) => `<tr><td><code>${key}</code></td><td>${escapeHtml(text)}</td></tr>`)
      .join('');
    const inputs = Object.keys(fields).map((field) => `<label>${field} <input name="${field}"></label>`);
    return `<section><h2><code>POST /${name}</code></h2><p>${escapeHtml(help)}</p>
<form data-path="/${name}"><label>image <input type="file" name="image" accept="image/*" required></label>
${inputs.join('\n')}<button>Try it</button><pre hidden></pre></form>
<details><summary>Fields</summary><table>${rows}</table></details></section>`;
  });
  return `<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>generative-image2text</title><style>${STYLE}</style>
<h1>generative-image2text</h1>
<p>An image is sent as the body, as the file <code>image</code> of a form, or as base64 in JSON; the fields of a raw body go in the address. With
<code>Accept: text/event-stream</code> the answer comes as events. The description for programs: <a href="/openapi.json">/openapi.json</a>.
Ollama's API is below <code>/api</code>, OpenAI's below <code>/v1</code>.</p>
<label>token <input id="token" type="password" autocomplete="off" placeholder="where the server asks for one"></label>
${sections.join('\n')}<script>${SCRIPT}</script></html>`;
}

const STYLE = `body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}form,label{display:block;margin:.5rem 0}
table{border-collapse:collapse}td{padding:.2rem .8rem .2rem 0;vertical-align:top}pre{background:#8882;padding:.8rem;white-space:pre-wrap}
section{border-top:1px solid #8886;margin-top:1.5rem}:root{color-scheme:light dark}`;

const SCRIPT = `for (const form of document.querySelectorAll('form')) form.addEventListener('submit', async (event) => {
  event.preventDefault();
  const output = form.querySelector('pre');
  const body = new FormData(form);
  for (const [name, value] of [...body]) if (value === '') body.delete(name);
  const token = document.getElementById('token').value;
  output.hidden = false;
  output.textContent = '…';
  try {
    const answer = await fetch(form.dataset.path, { method: 'POST', body, headers: token ? { authorization: 'Bearer ' + token } : {} });
    output.textContent = JSON.stringify(await answer.json(), null, 2);
  } catch (error) { output.textContent = String(error); }
});`;

import assert from 'node:assert/strict';
import { Ollama } from 'ollama';
import OpenAI from 'openai';
import { demoHost, example, MUG, MUG_CAPTION, mug64, postJson, tensors, withServer } from './support.js';

describe("the server's APIs", () => {
  describe("as Ollama's client sees them", () => {
    it('generates, streams and chats', async () => {
      await withServer({}, async (url) => {
        const client = new Ollama({ host: url });
        const whole = await client.generate({ model: 'llava', prompt: 'Describe this image.', images: [mug64()] });
        assert.equal(whole.response, MUG_CAPTION);
        assert.equal(whole.model, 'llava');
        assert.equal(whole.done, true);
        assert.equal(whole.done_reason, 'stop');
        assert.ok(whole.eval_count > 5 && whole.prompt_eval_count > 1 && whole.total_duration > 0);
        const pieces: string[] = [];
        const options = { temperature: 0 };
        const images = [new Uint8Array(example(MUG))];
        for await (const part of await client.generate({ model: 'x', prompt: '', images, stream: true, options })) {
          pieces.push(part.response ?? '');
          if (part.done) assert.ok(part.prompt_eval_duration > 0 && part.eval_duration > 0);
        }
        assert.equal(pieces.join(''), MUG_CAPTION);
        assert.ok(pieces.length > 5, `${pieces.length} pieces`);
        const messages = [
          { role: 'user', content: 'Look at this', images: [mug64()] },
          { role: 'assistant', content: 'Yes?' },
          { role: 'user', content: 'describe it' },
        ];
        const said = await client.chat({ model: 'x', messages });
        assert.deepEqual([said.message.role, said.message.content], ['assistant', MUG_CAPTION]);
        let streamed = '';
        for await (const part of await client.chat({ model: 'x', messages, stream: true }))
          streamed += part.message.content;
        assert.equal(streamed, MUG_CAPTION);
      });
    });

    it('answers questions, and goes on from a raw prompt', async () => {
      await withServer({}, async (url, _, { model }) => {
        const client = new Ollama({ host: url });
        const question = 'What word is on the mug?';
        const expected = await model.answer(new Uint8Array(example(MUG)), question);
        const { response } = await client.generate({ model: 'x', prompt: question, images: [mug64()] });
        assert.equal(response, expected.text);
        const raw = await client.generate({ model: 'x', prompt: 'a blue', raw: true, images: [mug64()] });
        assert.equal(`a blue ${raw.response}`, MUG_CAPTION);
      });
    });

    it('lists and shows the model, and says what it cannot do', async () => {
      await withServer({}, async (url, _, { identity }) => {
        const client = new Ollama({ host: url });
        const { models } = await client.list();
        assert.deepEqual(
          models.map(({ name, digest, size }) => [name, digest, size]),
          [['demo:latest', identity.digest, identity.size]],
        );
        assert.match(identity.digest, /^[0-9a-f]{64}$/);
        assert.ok(identity.size > 1e6);
        const shown = await client.show({ model: 'demo' });
        assert.equal(shown.details.family, 'git');
        assert.deepEqual(shown.capabilities, ['completion', 'vision']);
        assert.match((await client.version()).version, /^\d+\.\d+/);
        const images = [mug64()];
        await assert.rejects(client.generate({ model: 'x', prompt: 'hi' }), /send one/);
        await assert.rejects(client.generate({ model: 'x', prompt: 'hi', images, format: 'json' }), /not JSON/);
        await assert.rejects(
          client.generate({ model: 'x', prompt: '', images, options: { temperature: -1 } }),
          /temperature/,
        );
        assert.equal((await client.generate({ model: 'x', prompt: '' })).done_reason, 'load' as never);
      });
    });

    it('samples with a seed, cuts at stop texts and at num_predict', async () => {
      await withServer({}, async (url) => {
        const client = new Ollama({ host: url });
        const given = { model: 'x', prompt: '', images: [mug64()] };
        const draw = (seed: number) => client.generate({ ...given, options: { temperature: 3, seed } });
        assert.equal((await draw(1)).response, (await draw(1)).response);
        assert.notEqual((await draw(1)).response, (await draw(2)).response);
        const options = { temperature: 0, stop: [' word'] };
        assert.equal((await client.generate({ ...given, options })).response, 'a blue mug with the');
        let streamed = '';
        for await (const { response } of await client.generate({ ...given, options, stream: true }))
          streamed += response;
        assert.equal(streamed, 'a blue mug with the');
        const short = await client.generate({ ...given, options: { temperature: 0, num_predict: 3 } });
        assert.deepEqual([short.response, short.done_reason, short.eval_count], ['a blue mug', 'length', 3]);
      });
    });
  });

  describe("as OpenAI's client sees them", () => {
    const content = (url: string, text = 'What is in this image?') => [
      { type: 'text' as const, text },
      { type: 'image_url' as const, image_url: { url } },
    ];
    const clientOf = (url: string) => new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none', maxRetries: 0 });
    const data = (): string => `data:image/png;base64,${mug64()}`;

    it('completes and streams', async () => {
      await withServer({}, async (url) => {
        const client = clientOf(url);
        const messages = [{ role: 'user' as const, content: content(data()) }];
        const whole = await client.chat.completions.create({ model: 'gpt-4o', messages, logprobs: true });
        const [choice] = whole.choices;
        assert.equal(choice!.message.content, MUG_CAPTION);
        assert.equal(choice!.finish_reason, 'stop');
        assert.equal(whole.usage!.total_tokens, whole.usage!.prompt_tokens + whole.usage!.completion_tokens);
        assert.equal(choice!.logprobs!.content!.length, whole.usage!.completion_tokens);
        let text = '';
        let finish: string | null = null;
        let usage = 0;
        const stream = await client.chat.completions.create({
          ...{ model: 'x', messages, temperature: 0, stream: true, stream_options: { include_usage: true } },
        });
        let pieces = 0;
        for await (const { choices, usage: counted } of stream as AsyncIterable<OpenAI.ChatCompletionChunk>) {
          text += choices[0]?.delta.content ?? '';
          finish = choices[0]?.finish_reason ?? finish;
          usage = counted?.completion_tokens ?? usage;
          pieces++;
        }
        assert.deepEqual([text, finish, usage], [MUG_CAPTION, 'stop', whole.usage!.completion_tokens]);
        assert.ok(pieces > 5);
      });
    });

    it('gives several choices, its models, and its errors as the client knows them', async () => {
      await withServer({}, async (url) => {
        const client = clientOf(url);
        const messages = [{ role: 'user' as const, content: content(data()) }];
        const several = await client.chat.completions.create({ model: 'x', messages, n: 2 });
        assert.deepEqual(
          several.choices.map(({ index }) => index),
          [0, 1],
        );
        assert.notEqual(several.choices[0]!.message.content, several.choices[1]!.message.content);
        assert.deepEqual(
          (await client.models.list()).data.map(({ id }) => id),
          ['demo'],
        );
        assert.equal((await client.models.retrieve('demo')).id, 'demo');
        await assert.rejects(client.models.retrieve('other'), { status: 404, code: 'model_not_found' });
        const refused = [
          [content('https://example.com/a.png'), 400, 'addresses-not-allowed'],
          [content('/etc/passwd'), 400, 'not-an-address'],
          [content(`data:image/png;base64,${Buffer.from('not an image').toString('base64')}`), 422, 'not-an-image'],
          [[{ type: 'text' as const, text: 'hi' }], 400, 'image-missing'],
        ] as const;
        for (const [parts, status, code] of refused) {
          const asked = client.chat.completions.create({
            model: 'x',
            messages: [{ role: 'user', content: [...parts] }],
          });
          await assert.rejects(asked, { status, code });
        }
        const options = [
          [{ n: 99 }, 'out-of-range'],
          [{ response_format: { type: 'json_object' as const } }, 'unsupported'],
          [{ frequency_penalty: 1 }, 'unsupported'],
        ] as const;
        for (const [given, code] of options)
          await assert.rejects(client.chat.completions.create({ model: 'x', messages, ...given }), {
            status: 400,
            code,
          });
      });
    });
  });

  describe('our own', () => {
    it('takes raw bytes, forms and JSON, and gives what the library gives', async () => {
      await withServer({}, async (url, _, { model }) => {
        const bytes = new Uint8Array(example(MUG));
        const { alternatives: __, ...expected } = await model.caption(bytes);
        const raw = await fetch(`${url}/caption`, {
          method: 'POST',
          body: bytes,
          headers: { 'content-type': 'image/png' },
        });
        assert.deepEqual(await raw.json(), JSON.parse(JSON.stringify(expected)));
        const unsaid = {
          method: 'POST',
          body: bytes,
          headers: { 'content-type': 'application/x-www-form-urlencoded' },
        };
        const asCurl = await fetch(`${url}/caption`, unsaid); // what curl --data-binary says where nothing is said
        assert.deepEqual(await asCurl.json(), JSON.parse(JSON.stringify(expected)));
        const form = new FormData();
        form.append('image', new Blob([bytes]), 'mug.png');
        form.append('strategy', 'greedy');
        form.append('maxNewTokens', '3');
        const greedy = (await (await fetch(`${url}/caption`, { method: 'POST', body: form })).json()) as {
          text: string;
        };
        assert.equal(greedy.text, 'a blue mug');
        const json = await postJson(`${url}/caption`, { image: mug64(), numReturnSequences: 2 });
        const { text, alternatives } = (await json.json()) as { text: string; alternatives: unknown[] };
        assert.deepEqual([text, alternatives.length], [MUG_CAPTION, 1]);
        const asked = await fetch(`${url}/answer?question=${encodeURIComponent('what color?')}`, {
          method: 'POST',
          body: bytes,
        });
        const answer = await model.answer(bytes, 'what color?');
        assert.equal(((await asked.json()) as { text: string }).text, answer.text);
        const classified = await postJson(`${url}/classify`, {
          image: mug64(),
          labels: ['a blue mug', 'a red book'],
          topK: 1,
        });
        assert.deepEqual(await classified.json(), {
          labels: await model.classify(bytes, ['a blue mug', 'a red book'], { topK: 1 }),
        });
        const scored = await fetch(`${url}/score?texts=a+blue+mug&texts=a+dog`, { method: 'POST', body: bytes });
        const scores = await model.score(bytes, ['a blue mug', 'a dog']);
        assert.deepEqual(await scored.json(), JSON.parse(JSON.stringify({ texts: scores })));
      });
    });

    it('streams events', async () => {
      await withServer({ generation: { strategy: 'greedy' } }, async (url) => {
        const headers = { accept: 'text/event-stream' };
        const response = await fetch(`${url}/caption`, { method: 'POST', body: example(MUG), headers });
        const events = (await response.text())
          .trim()
          .split('\n\n')
          .map((event) => event.split('\n'));
        const pieces = events
          .filter(([name]) => name === 'event: piece')
          .map(([, data]) => JSON.parse(data!.slice(6)).text);
        assert.equal(pieces.join(''), MUG_CAPTION);
        assert.equal(JSON.parse(events.at(-1)![1]!.slice(6)).text, MUG_CAPTION);
        assert.equal(events.length, pieces.length + 1);
      });
    });

    it('says what is wrong with a request, and never what is inside', async () => {
      await withServer({ options: { maxBody: 200_000, maxPrompt: 50, maxTexts: 3 } }, async (url) => {
        const image = mug64();
        const wrong: [string, unknown, number, string][] = [
          ['/caption', { image: 'package.json' }, 400, 'not-base64'],
          ['/caption', { image: 'file:///etc/passwd' }, 400, 'not-base64'],
          ['/caption', { image: Buffer.from('nothing').toString('base64') }, 422, 'not-an-image'],
          ['/caption', {}, 400, 'image-missing'],
          ['/caption', { image, nonsense: 1 }, 400, 'unknown-field'],
          ['/caption', { image, onToken: 'x' }, 400, 'unknown-field'],
          ['/caption', { image, numBeams: 1024 }, 400, 'out-of-range'],
          ['/caption', { image, prompt: 'x'.repeat(51) }, 400, 'text-too-long'],
          ['/answer', { image }, 400, 'question-missing'],
          ['/score', { image, texts: ['a', 'b', 'c', 'd'] }, 400, 'too-many-texts'],
          ['/classify', { image, labels: 7 }, 400, 'wrong-type'],
          ['/caption', { image: 'A'.repeat(300_000) }, 413, 'body-too-large'],
          ['/nowhere', {}, 404, 'not-found'],
          ['/metrics', {}, 405, 'method'],
        ];
        for (const [path, body, status, code] of wrong) {
          const response = await postJson(url + path, body);
          const { error } = (await response.json()) as { error: { code: string; message: string } };
          assert.deepEqual([response.status, error.code], [status, code], path);
          assert.doesNotMatch(error.message, /\/work|node_modules|\.ts:/);
        }
      });
    });

    it('describes itself: every field of the description is taken', async () => {
      await withServer({}, async (url) => {
        const { paths } = (await (await fetch(`${url}/openapi.json`)).json()) as {
          paths: Record<string, { post: { parameters: { name: string }[] } }>;
        };
        assert.deepEqual(Object.keys(paths), ['/caption', '/answer', '/classify', '/score']);
        for (const [path, { post }] of Object.entries(paths)) {
          const names = post.parameters.map(({ name }) => name);
          const all = await postJson(
            url + path,
            Object.fromEntries([['image', mug64()], ...names.map((name) => [name, null])]),
          );
          assert.notEqual(((await all.json()) as { error?: { code: string } }).error?.code, 'unknown-field', path);
        }
        const page = await (await fetch(`${url}/docs`)).text();
        for (const path of Object.keys(paths)) assert.ok(page.includes(`POST ${path}`), path);
        assert.doesNotMatch(page, /(src|href)="https?:/);
      });
    });
  });

  it('leaves no tensor behind', async () => {
    const warm = await demoHost();
    warm.model.dispose();
    const before = tensors();
    await withServer({}, async (url) => {
      await postJson(`${url}/caption`, { image: mug64() });
      await postJson(`${url}/caption`, { image: 'AAAA' });
      await postJson(`${url}/api/chat`, { messages: [{ role: 'user', content: '', images: [mug64()] }] });
    });
    assert.equal(tensors(), before);
  });
});

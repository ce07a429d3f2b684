import assert from 'node:assert/strict';
import { fromBytes } from '../../src/checkpoint/byte-source.js';
import { planSafetensors } from '../../src/checkpoint/safetensors.js';
import { loadAdapter, loadRun, memoryFolder } from '../../src/training/checkpoint.js';

const folder = (name: string, bytes: Uint8Array) => ({
  label: 'folder',
  open: async (wanted: string) => (wanted === name ? fromBytes(bytes) : undefined),
});

/** What an error says of place and rule. */
const place = (run: Promise<unknown>): Promise<string> =>
  run.then(
    () => 'nothing',
    (error) => `${error.name} ${error.file} ${error.path} ${error.code}`,
  );

describe('files of training that are not as they were written', () => {
  const stateOf = (run: string | undefined) => {
    const kind = 'generative-image2text training state 1';
    const { header } = planSafetensors([], run === undefined ? { kind } : { kind, run });
    return folder('state.safetensors', header);
  };
  const POSITION = { epoch: 0, drawn: 2, best: null, firstLoss: 1.5 };

  it('the state of a run: every key is checked, and named', async () => {
    const good = { step: 3, position: POSITION, identity: { pairs: 'x' } };
    const loaded = await loadRun(stateOf(JSON.stringify(good)), { pairs: 'x' });
    assert.deepEqual([loaded!.state.step, loaded!.position], [3, POSITION]);
    for (const [run, expected] of [
      [{ ...good, step: -1 }, 'run.step not-a-run'],
      [{ ...good, position: { ...POSITION, drawn: 1.5 } }, 'run.position.drawn not-a-run'],
      [{ ...good, position: { ...POSITION, best: 'low' } }, 'run.position.best not-a-run'],
      [{ step: 3, position: POSITION }, 'run.identity not-a-run'],
      [[], 'run not-a-run'],
    ] as const)
      assert.equal(
        await place(loadRun(stateOf(JSON.stringify(run)), {})),
        `ConfigError state.safetensors ${expected}`,
        JSON.stringify(run),
      );
    assert.match(await place(loadRun(stateOf(undefined), {})), /^ConfigError state\.safetensors /);
    assert.match(await place(loadRun(stateOf('{'), {})), /^ConfigError state\.safetensors .*json/);
    assert.equal(await loadRun(memoryFolder(), {}), undefined);
  });

  it('the config of an adapter: what PEFT has and this has not is named', async () => {
    const good = { peft_type: 'LORA', r: 4, lora_alpha: 8, bias: 'none', modules_to_save: null, rank_pattern: {} };
    const codeOf = (config: unknown) =>
      place(loadAdapter(folder('adapter_config.json', new TextEncoder().encode(JSON.stringify(config))), {} as never));
    for (const [change, expected] of [
      [{ peft_type: 'IA3' }, 'peft_type unsupported'],
      [{ r: 0 }, 'r rank'],
      [{ r: 2.5 }, 'r rank'],
      [{ lora_alpha: '8' }, 'lora_alpha alpha'],
      [{ use_dora: true }, 'use_dora unsupported'],
      [{ bias: 'all' }, 'bias unsupported'],
      [{ modules_to_save: ['head'] }, 'modules_to_save unsupported'],
      [{ alpha_pattern: { layer: 2 } }, 'alpha_pattern unsupported'],
    ] as const)
      assert.equal(await codeOf({ ...good, ...change }), `ConfigError adapter_config.json ${expected}`);
    assert.equal(await codeOf([]), 'ConfigError adapter_config.json undefined not-an-object');
    assert.match(await codeOf(good), /adapter_model\.safetensors/); // the config is fine; the weights are missing
  });
});

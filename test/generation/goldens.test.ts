import { expectClose } from '../support/close.js';
import { REFERENCE } from '../support/fixtures.js';
import { peekSafetensors } from '../support/peek-safetensors.js';
import { loadPlainGit, type PlainNode } from '../support/plain-git.js';
import { plainInput, plainSession } from '../support/plain-session.js';
import {
  checkHuggingFace,
  checkOriginal,
  huggingFaceCases,
  imagesOf,
  MODELS,
  type OpenImages,
  originalCases,
} from './golden-cases.js';

function plainModel(model: string): OpenImages {
  const git = loadPlainGit(`${REFERENCE}${model}/`);
  const inputs = imagesOf(model).map((frames) => plainInput(git, frames));
  return (images, padding, forgets) => () =>
    plainSession(
      git,
      images.map((i) => inputs[i]!),
      padding,
      forgets,
    );
}

for (const model of MODELS) {
  describe(`generation goldens of ${model}, plain double-precision model`, () => {
    let open: OpenImages;
    before(() => {
      open = plainModel(model);
    });

    it('the plain model itself equals the float64 logits of the reference', () => {
      const tensors = peekSafetensors(`${REFERENCE}${model}/forward_b1.safetensors`);
      const { shape, values } = tensors.get('pixel_values')!;
      const frames = shape.length === 5 ? shape[1]! : 1;
      const pixels = values.length / frames;
      const git = loadPlainGit(`${REFERENCE}${model}/`);
      const image = git.encode(Array.from({ length: frames }, (_, f) => values.subarray(f * pixels, (f + 1) * pixels)));
      const got: number[] = [];
      let node: PlainNode | undefined;
      for (const id of tensors.get('input_ids')!.values) {
        node = git.extend(image, node, id);
        got.push(...node.logits);
      }
      const error = expectClose(got, tensors.get('logits.f64')!.values.slice(-got.length), 1e-11, 'logits');
      console.log(`      largest error against float64 ${error.toExponential(1)}`);
    });

    it('Hugging Face: every sequence equal, scores to 1e-4', async () => {
      const errors: number[] = [];
      for (const c of huggingFaceCases(model)) errors.push(await checkHuggingFace(open, model, c));
      console.log(`      ${errors.length} cases, largest score error ${Math.max(...errors).toExponential(1)}`);
    });

    it('the original decoders: every prediction equal, scores to 1e-4', async () => {
      const cases = originalCases().filter((c) => c.model === model);
      const errors: number[] = [];
      for (const c of cases) errors.push(await checkOriginal(open, c));
      if (cases.length > 0)
        console.log(`      ${cases.length} cases, largest score error ${Math.max(...errors).toExponential(1)}`);
    });
  });
}

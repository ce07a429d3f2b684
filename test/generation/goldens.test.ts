import { REFERENCE } from '../support/fixtures.js';
import { loadPlainGit } from '../support/plain-git.js';
import { plainPicture, plainSession } from '../support/plain-session.js';
import {
  checkHuggingFace,
  checkOriginal,
  huggingFaceCases,
  MODELS,
  type OpenPictures,
  originalCases,
  picturesOf,
} from './golden-cases.js';

function plainModel(model: string): OpenPictures {
  const git = loadPlainGit(`${REFERENCE}${model}/`);
  const pictures = picturesOf(model).map((frames) => plainPicture(git, frames));
  return (images, padding, forgets) => () =>
    plainSession(
      git,
      images.map((i) => pictures[i]!),
      padding,
      forgets,
    );
}

for (const model of MODELS) {
  describe(`generation goldens of ${model}, plain double-precision model`, () => {
    let open: OpenPictures;
    before(() => {
      open = plainModel(model);
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

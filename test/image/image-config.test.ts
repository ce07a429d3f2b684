import assert from 'node:assert/strict';
import { ConfigError } from '../../src/errors.js';
import { defaultImageConfig, parseImageConfig } from '../../src/image/image-config.js';

const parse = (json: unknown) => parseImageConfig(json, 'preprocessor_config.json');

describe('preprocessor_config.json', () => {
  it('absent keys get the defaults of the named class', () => {
    assert.deepEqual(parse({}), defaultImageConfig(224));
    assert.deepEqual(
      parse({ feature_extractor_type: 'CLIPFeatureExtractor', size: 480, crop_size: 480 }),
      defaultImageConfig(480),
    );
    const video = parse({ image_processor_type: 'VideoMAEImageProcessor' });
    assert.deepEqual(video, defaultImageConfig(224, 'videomae'));
    assert.deepEqual([video.resample, ...video.imageMean], ['bilinear', 0.5, 0.5, 0.5]);
    assert.equal(parse({ feature_extractor_type: 'VideoMAEFeatureExtractor' }).processor, 'videomae');
  });

  it('reads every form of a size, and all six filters', () => {
    assert.deepEqual(parse({ size: { height: 10, width: 20 } }).size, { height: 10, width: 20 });
    assert.deepEqual(parse({ size: [10, 20] }).size, { height: 10, width: 20 });
    assert.deepEqual(parse({ size: { shortest_edge: 7 } }).size, { shortestEdge: 7 });
    assert.deepEqual(parse({ crop_size: { height: 3, width: 4 } }).cropSize, { height: 3, width: 4 });
    assert.deepEqual(parse({ crop_size: 5 }).cropSize, { height: 5, width: 5 });
    const filters = [0, 1, 2, 3, 4, 5].map((resample) => parse({ resample }).resample);
    assert.deepEqual(filters, ['nearest', 'lanczos', 'bilinear', 'bicubic', 'box', 'hamming']);
  });

  it('refuses what it does not do, by name', () => {
    const isUnsupported = (error: unknown) => error instanceof ConfigError && error.unsupported;
    assert.throws(() => parse({ image_processor_type: 'ViTImageProcessor' }), isUnsupported);
    assert.throws(() => parse({ image_processor_type: 'constructor' }), isUnsupported);
  });

  it('names file and key of every fault, in one line', () => {
    const faults: [unknown, string][] = [
      [{ size: {} }, 'size.height'],
      [{ size: { shortest_edge: '224' } }, 'size.shortest_edge'],
      [{ size: { longest_edge: 9 } }, 'size.height'],
      [{ size: [1, 2, 3] }, 'size'],
      [{ crop_size: { height: 4097, width: 1 } }, 'crop_size.height'],
      [{ crop_size: true }, 'crop_size'],
      [{ resample: 6 }, 'resample'],
      [{ resample: 2.5 }, 'resample'],
      [{ resample: '__proto__' }, 'resample'],
      [{ rescale_factor: 0 }, 'rescale_factor'],
      [{ rescale_factor: -1 }, 'rescale_factor'],
      [{ do_resize: 1 }, 'do_resize'],
      [{ do_normalize: 'x\n'.repeat(200) }, 'do_normalize'],
      [{ image_mean: 0.5 }, 'image_mean'],
      [{ image_mean: [0, 0, '0'] }, 'image_mean'],
      [{ image_std: [1, 1, -1] }, 'image_std'],
      [{ image_std: [1, 1] }, 'image_std'],
      [{ image_processor_type: 7 }, 'image_processor_type'],
    ];
    for (const [json, path] of faults) {
      assert.throws(
        () => parse(json),
        (error) => {
          assert.ok(error instanceof ConfigError, `${error}`);
          assert.equal(error.path, path);
          assert.equal(error.file, 'preprocessor_config.json');
          return !error.message.includes('\n') && error.message.length <= 300;
        },
      );
    }
    for (const json of [null, 3, 'x', [1], undefined]) assert.throws(() => parse(json), { code: 'not-an-object' });
  });
});

import { readJson } from '../checkpoint/json.js';

/** What a file is for. */
export type FileKind =
  | 'safetensors'
  | 'safetensors index'
  | 'pytorch'
  | 'pytorch index'
  | 'config'
  | 'preprocessor config'
  | 'tokenizer'
  | 'tokenizer config'
  | 'generation config'
  | 'vocabulary'
  | 'image';

const BY_ENDING: readonly (readonly [RegExp, FileKind])[] = [
  [/\.safetensors$/i, 'safetensors'],
  [/\.safetensors\.index\.json$/i, 'safetensors index'],
  [/\.bin\.index\.json$/i, 'pytorch index'],
  [/\.(bin|pt|pth|ckpt)$/i, 'pytorch'],
  [/\.(png|jpe?g|jpe|jfif|webp|gif|bmp|tiff?|avif|heic)$/i, 'image'],
  [/\.txt$/i, 'vocabulary'],
];

const BY_NAME: readonly (readonly [RegExp, FileKind])[] = [
  [/(^|[\\/])preprocessor_config\.json$/i, 'preprocessor config'],
  [/(^|[\\/])tokenizer_config\.json$/i, 'tokenizer config'],
  [/(^|[\\/])generation_config\.json$/i, 'generation config'],
  [/(^|[\\/])tokenizer[^\\/]*\.json$/i, 'tokenizer'],
];

/** Keys that only one kind of JSON file has at its top. */
const BY_KEY: readonly (readonly [readonly string[], FileKind])[] = [
  [['weight_map'], 'safetensors index'],
  [['model', 'added_tokens', 'pre_tokenizer', 'normalizer'], 'tokenizer'],
  [['tokenizer_class', 'do_lower_case', 'model_max_length'], 'tokenizer config'],
  [
    [
      'image_mean',
      'image_std',
      'do_resize',
      'do_center_crop',
      'image_processor_type',
      'feature_extractor_type',
      'size',
      'crop_size',
    ],
    'preprocessor config',
  ],
];

/**
 * The kind of a file by its name, and for JSON by what it holds; a file of no known ending by its first bytes.
 *
 * @throws ConfigError where a .json file of no telling name is not JSON at all.
 */
export function kindOf(file: string, bytes: () => Promise<Uint8Array>, head: Uint8Array): Promise<FileKind> | FileKind {
  const named = [...BY_ENDING, ...BY_NAME].find(([pattern]) => pattern.test(file));
  if (named !== undefined) return named[1];
  if (/\.json$/i.test(file)) return bytes().then((all) => kindOfJson(readJson(all, file)));
  return kindOfHead(head);
}

/** JSON that fits no other kind is read as a config, whose errors say what a config needs. */
function kindOfJson(json: unknown): FileKind {
  if (typeof json !== 'object' || json === null || Array.isArray(json)) return 'config';
  if ('vision_config' in json || 'model_type' in json) return 'config';
  return BY_KEY.find(([keys]) => keys.some((key) => key in json))?.[1] ?? 'config';
}

function kindOfHead(head: Uint8Array): FileKind {
  if (head[8] === 0x7b && head.subarray(5, 8).every((byte) => byte === 0)) return 'safetensors';
  const isZip = head[0] === 0x50 && head[1] === 0x4b;
  if (isZip || (head[0] === 0x80 && head[1] === 2)) return 'pytorch';
  return 'image'; // its reader names what the bytes are
}

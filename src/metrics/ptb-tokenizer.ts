/**
 * The tokens that scores of captions are computed on: what the COCO evaluation's PTBTokenizer (`-preserveLines
 * -lowerCase`) makes of one caption, written from its observed behavior. docs/evaluation.md says what it does and what
 * differs from a run over a whole file.
 */

/** Removed from a caption, compared exactly. Tokens are lower case, so the bracket names never match, as there. */
const PUNCTUATION: ReadonlySet<string> = new Set([
  ...["''", "'", '``', '`', '-LRB-', '-RRB-', '-LCB-', '-RCB-'],
  ...['.', '?', '!', ',', ':', '-', '--', '...', ';'],
]);

/** The caption as the scores take it: tokens without punctuation, a space between them. */
export function tokenizeCaption(caption: string): string {
  return ptbTokens(caption)
    .filter((token) => !PUNCTUATION.has(token))
    .join(' ');
}

/** Windows-1252's punctuation in the control range 0x80 to 0x9f, which files read as Latin-1 have. */
const WINDOWS_1252: Readonly<Record<string, string>> = {
  '\x80': '\u20ac',
  '\x82': '\u201a',
  '\x84': '\u201e',
  '\x85': '\u2026',
  '\x8b': '\u2039',
  '\x91': '\u2018',
  '\x92': '\u2019',
  '\x93': '\u201c',
  '\x94': '\u201d',
  '\x96': '\u2013',
  '\x97': '\u2014',
  '\x99': '\u2122',
  '\x9b': '\u203a',
};

const A = '[\\p{L}\\p{M}\\p{Nd}]'; // letters, with the marks on them, and digits
const L = '[\\p{L}\\p{M}]';
const NO_LETTER = '(?![\\p{L}\\p{M}])';
const NO_WORD = `(?!${A})`;

const sticky = (source: string, flags = ''): RegExp => new RegExp(source, `uy${flags}`);

/** The words of a list, capitalized or all in capitals. */
const capitalized = (words: string): string =>
  words
    .split(' ')
    .flatMap((word) => [word, word.toUpperCase()])
    .join('|')
    .replaceAll('.', '\\.');

const TITLES = capitalized(
  'Mr Mrs Ms Messrs Mme Dr Drs Prof Profs Gen Sen Rep Gov Sgt Lt Col Capt Cpl Pvt Maj Adm Cmdr Rev Hon Pres St Ste Mt Ft Ave',
);
/** Abbreviations that end a sentence too: then the full stop is written twice. */
const SENTENCE_ENDS = capitalized(
  'Inc Co Cos Corp Ltd Plc Bancorp Bros Jr Sr Esq Ph.D Ed.D Blvd Rd ' +
    'Jan Feb Mar Apr Jun Jul Aug Sep Sept Oct Nov Dec Mon Tue Tues Wed Thu Thurs Fri ' +
    'Ala Ariz Ark Calif Colo Conn Del Fla Ga Ill Ind Kans Ky La Mass Mich Minn Miss Mo Mont Neb Nev Okla Ore Pa Penn Tenn Tex Va Vt Wash Wis Wyo',
);
/** Abbreviations only before a number. */
const NUMBERED = '[Nn][Oo][Ss]?|[Ff]igs?|FIGS?|[Ee]st|EST|[Pp]p';
const FILE_ENDINGS =
  'html?|xml|jpe?g|png|gif|bmp|tiff?|txt|pdf|docx?|xlsx?|pptx?|zip|gz|exe|mp3|mp4|avi|py|js|java|css|php|com|net|org|edu|gov|info|biz|co\\.uk';

/** `text`: written as another; else the token is written as it stands. */
interface Rule {
  readonly pattern: RegExp;
  readonly text?: (match: string) => readonly string[];
}

const joined = (match: string): string[] => [match.replace(/\s/gu, '\u00a0')];
const brackets = (match: string): string => match.replace('(', '-lrb-').replace(')', '-rrb-');
const cutAfter =
  (length: number) =>
  (match: string): string[] => [match.slice(0, length), match.slice(length)];

/** Before all others, whatever is longer. */
const FIRST: readonly Rule[] = [
  { pattern: sticky(`${L}+(?=n['\u2019]t${NO_LETTER})`, 'i') },
  { pattern: sticky(`n['\u2019]t${NO_LETTER}`, 'i'), text: () => ["n't"] },
  { pattern: sticky(`(cannot)${NO_WORD}`, 'i'), text: cutAfter(3) },
  { pattern: sticky(`(gonna|gotta|lemme|gimme|wanna)${NO_WORD}`, 'i'), text: cutAfter(3) },
  { pattern: sticky(`['\u2019](tis|twas)${NO_WORD}`, 'i'), text: (match) => [`'${match[1]}`, match.slice(2)] },
  { pattern: sticky("['\u2019]n['\u2019]", 'i'), text: () => ["'n'"] },
  { pattern: sticky(`['\u2019](s|m|d|n|em|til|cause)${NO_LETTER}`, 'i'), text: (match) => [`'${match.slice(1)}`] },
  { pattern: sticky("['\u2019](ll|re|ve)(?=[^\\p{L}\\p{M}])", 'i'), text: (match) => [`'${match.slice(1)}`] },
  { pattern: sticky("y['\u2019](?=all)", 'i'), text: () => ["y'"] },
  { pattern: sticky(`(${SENTENCE_ENDS}|etc)\\.(?=\\s*$|\\s+\\p{Lu}|[.!?])`), text: (match) => [match, '.'] },
];

/** The longest match counts; of two as long the first. */
const RULES: readonly Rule[] = [
  { pattern: sticky('</?\\p{L}[\\p{L}\\p{N}:._-]*(\\s[^<>]*)?/?>'), text: joined },
  { pattern: sticky('<[^\\s<>@()|"]+@[^\\s<>()|"]+>') },
  { pattern: sticky('[A-Za-z0-9][^\\s"<>|()]{0,256}@([^\\s"<>|().]{1,64}\\.){0,8}[^\\s"<>|().]{1,64}') },
  { pattern: sticky('@[A-Za-z_][A-Za-z_0-9]*') },
  { pattern: sticky(`#${L}+`) },
  { pattern: sticky('(https?://|www\\.)[^\\s"<>|()]{0,2048}[^\\s"<>|().,!?;:\'{}-]', 'i') },
  { pattern: sticky(`${A}{1,256}([-.]${A}{1,64}){0,8}\\.(${FILE_ENDINGS})${NO_WORD}`, 'i') },
  { pattern: sticky('\\(\\d{3}\\)[- \u00a0]?\\d{3}[-. ]\\d{4}'), text: (match) => joined(brackets(match)) },
  { pattern: sticky('(\\d+[ \u00a0])?\\d+/\\d+(/\\d+)?'), text: joined },
  { pattern: sticky('[-+]?(\\d+|(?=[.,:]\\d))([.,:]\\d+)*') },
  { pattern: sticky(`&(#\\d+|#x[\\da-f]+);`, 'i') },
  { pattern: sticky("['\u2019]\\d\\d(s|(?=\\s|[.,;:!?]|$))"), text: (match) => [match.replace('\u2019', "'")] },
  { pattern: sticky(`[dDoOlL]['\u2019]${L}+`), text: (match) => [match.replace('\u2019', "'")] },
  { pattern: sticky(`${A}+(-${A}+)*(/${A}+(-${A}+)*){0,2}`) },
  { pattern: sticky(`${A}+-(${L}\\.){2,}`) },
  { pattern: sticky(`${L}_${L}${NO_WORD}`) },
  { pattern: sticky('\\p{Lu}+(&\\p{Lu}+)+') },
  { pattern: sticky('\\p{L}(\\.\\p{L})+\\.?(?![\\p{L}])') },
  { pattern: sticky(`${L}${A}*([.!?]${L}${A}*)+(?!\\$)`) },
  { pattern: sticky('[A-Za-z]\\.') },
  { pattern: sticky(`(${TITLES}|vs|${SENTENCE_ENDS}|etc)\\.`) },
  { pattern: sticky(`(${NUMBERED})\\.(?=\\s*\\d)`) },
  { pattern: sticky('\\p{L}+\\.(?=[,;:])') },
  { pattern: sticky('[CF]#|C\\+\\+', 'i') },
  { pattern: sticky('(US|A|C|HK|NZ|S|NT|M)\\$') },
  { pattern: sticky('[:;=]-?[()DPp](?=\\s)'), text: (match) => [brackets(match)] },
  { pattern: sticky('[<>^=~x][_.][<>^=~x]') },
  { pattern: sticky('\\.{3,}|\u2026'), text: () => ['...'] },
  { pattern: sticky('[?!]+') },
  { pattern: sticky('-lrb-|-rrb-|-lcb-|-rcb-|-lsb-|-rsb-', 'i') },
  { pattern: sticky('--+|[\u2013\u2014]'), text: (match) => [match.length > 1 ? match : '--'] },
  { pattern: sticky('\\\\\\*|\\*+|_+|<<|>>') },
  { pattern: sticky('&amp;', 'i'), text: () => ['&'] },
  { pattern: sticky('&lt;', 'i'), text: () => ['<'] },
  { pattern: sticky('&gt;', 'i'), text: () => ['>'] },
  {
    pattern: sticky('(["\u201c\u201d]|&quot;)(?=[\\p{L}\\p{N}$])'),
    text: (match) => [match === '\u201d' ? "''" : '``'],
  },
  { pattern: sticky('["\u201c\u201d]|&quot;'), text: (match) => [match === '\u201c' ? '``' : "''"] },
  { pattern: sticky("''|``") },
  { pattern: sticky("'(?=\\p{L}\\S)"), text: () => ['`'] },
  { pattern: sticky('[\u2018\u201a\u2039]'), text: () => ['`'] },
  { pattern: sticky("['\u2019\u203a]"), text: () => ["'"] },
];

/** Single characters that are written as another text. */
const WRITTEN: ReadonlyMap<string, string> = new Map(
  Object.entries({
    '(': '-lrb-',
    ')': '-rrb-',
    '[': '-lsb-',
    ']': '-rsb-',
    '{': '-lcb-',
    '}': '-rcb-',
    '\u00a2': 'cents',
    '\u00a3': '#',
    '\u20ac': '$',
    '\u00a4': '$',
    '\u00bc': '1/4',
    '\u00bd': '1/2',
    '\u00be': '3/4',
    '\u2153': '1/3',
    '\u2154': '2/3',
  }),
);

/** A word that no rule cuts: most of a caption. */
const PLAIN_WORD = sticky('(?!(cannot|gonna|gotta|lemme|gimme|wanna) )[a-z]+(?= )', 'i');
const BLANK = sticky('(\\s|[\u200b\ufeff]|&nbsp;)+', 'i');

/** The tokens of one caption, lower case. Total; time in proportion to the length of the caption. */
export function ptbTokens(caption: string): string[] {
  const text = caption
    .replace(/[\x80-\x9f]/g, (char) => WINDOWS_1252[char] ?? '')
    .replace(/\u00ad|[\u200c-\u200f]|[\ufe00-\ufe0f]|[\ud800-\udfff]/g, ''); // format characters; beyond the Basic Multilingual Plane
  const tokens: string[] = [];
  for (let at = 0; at < text.length; ) {
    BLANK.lastIndex = at;
    if (BLANK.test(text)) {
      at = BLANK.lastIndex;
      continue;
    }
    PLAIN_WORD.lastIndex = at;
    if (PLAIN_WORD.test(text)) {
      tokens.push(text.slice(at, PLAIN_WORD.lastIndex).toLowerCase());
      at = PLAIN_WORD.lastIndex;
      continue;
    }
    const [rule, end] = matchAt(text, at);
    const match = text.slice(at, end);
    const written = rule?.text?.(match) ?? [WRITTEN.get(match) ?? match];
    for (const token of written) tokens.push(token.toLowerCase());
    at = end;
  }
  return tokens;
}

function matchAt(text: string, at: number): [Rule | undefined, number] {
  for (const rule of FIRST) {
    rule.pattern.lastIndex = at;
    if (rule.pattern.test(text)) return [rule, rule.pattern.lastIndex];
  }
  let best: Rule | undefined;
  let end = at + 1;
  for (const rule of RULES) {
    rule.pattern.lastIndex = at;
    if (!rule.pattern.test(text) || rule.pattern.lastIndex < end || (best && rule.pattern.lastIndex === end)) continue;
    best = rule;
    end = rule.pattern.lastIndex;
  }
  return [best, end];
}

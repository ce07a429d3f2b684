import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import opentype from 'opentype.js';
import type { Contour } from './canvas.js';

// Printed words: outlines of free fonts (DejaVu, Arimo) as polygons.

const require = createRequire(import.meta.url);
const DEJAVU = 'dejavu-fonts-ttf/ttf/DejaVu';
const ARIMO = '@fontsource/arimo/files/arimo-latin-';

/** Seven looks. */
const FONT_FILES = [
  `${DEJAVU}Sans.ttf`,
  `${DEJAVU}Sans-Bold.ttf`,
  `${DEJAVU}SansCondensed-Bold.ttf`,
  `${DEJAVU}Serif-Bold.ttf`,
  `${DEJAVU}SansMono-Bold.ttf`,
  `${ARIMO}400-normal.woff`,
  `${ARIMO}700-normal.woff`,
] as const;
export const FONT_COUNT = FONT_FILES.length;

interface Glyph {
  readonly contours: readonly Contour[];
  readonly advance: number;
}

/** Outlines in ems, y downward, the baseline at 0; made once for each character. */
const glyphs = new Map<string, Glyph>();
const fonts = new Map<number, opentype.Font>();

function fontOf(index: number): opentype.Font {
  const found = fonts.get(index);
  if (found !== undefined) return found;
  const bytes = readFileSync(require.resolve(FONT_FILES[index]!));
  const font = opentype.parse(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
  fonts.set(index, font);
  return font;
}

function glyphOf(index: number, character: string): Glyph {
  const key = `${index}${character}`;
  const found = glyphs.get(key);
  if (found !== undefined) return found;
  const font = fontOf(index);
  const glyph = font.charToGlyph(character);
  const made = {
    contours: flatten(glyph.getPath(0, 0, 1).commands),
    advance: (glyph.advanceWidth ?? 0) / font.unitsPerEm,
  };
  glyphs.set(key, made);
  return made;
}

const CURVE_STEPS = 4;

/** Curves as short lines. */
function flatten(commands: readonly opentype.PathCommand[]): Contour[] {
  const contours: number[][] = [];
  let line: number[] = [];
  for (const command of commands) {
    if (command.type === 'M') {
      line = [command.x, command.y];
      contours.push(line);
    } else if (command.type === 'L') line.push(command.x, command.y);
    else if (command.type === 'Q' || command.type === 'C') {
      const [x0, y0] = line.slice(-2) as [number, number];
      for (let i = 1; i <= CURVE_STEPS; i++) {
        const t = i / CURVE_STEPS;
        const u = 1 - t;
        if (command.type === 'Q')
          line.push(
            u * u * x0 + 2 * u * t * command.x1 + t * t * command.x,
            u * u * y0 + 2 * u * t * command.y1 + t * t * command.y,
          );
        else
          line.push(
            u ** 3 * x0 + 3 * u * u * t * command.x1 + 3 * u * t * t * command.x2 + t ** 3 * command.x,
            u ** 3 * y0 + 3 * u * u * t * command.y1 + 3 * u * t * t * command.y2 + t ** 3 * command.y,
          );
      }
    }
  }
  return contours;
}

/** A word as it is printed. */
export interface Lettering {
  readonly contours: readonly Contour[];
  /** Where each letter is, in pixels. */
  readonly letters: readonly { readonly letter: string; readonly left: number; readonly right: number }[];
  readonly top: number;
  readonly bottom: number;
}

/** A word in the middle of a place, as large as fits into a width and below a size. */
export function letterWord(
  word: string,
  font: number,
  place: { readonly x: number; readonly y: number; readonly width: number; readonly size: number },
): Lettering {
  const parts = [...word].map((character) => ({ character, ...glyphOf(font, character) }));
  const ends: number[] = [];
  for (const { advance } of parts) ends.push((ends.at(-1) ?? 0) + advance);
  const all = ends.at(-1)!;
  const ys = parts.flatMap(({ contours }) => contours.flatMap((line) => line.filter((_, i) => i % 2 === 1)));
  const [least, most] = [Math.min(...ys), Math.max(...ys)];
  const em = Math.min(place.size, place.width / all);
  const left = place.x - (all * em) / 2;
  const baseline = place.y - ((least + most) / 2) * em;
  const contours = parts.flatMap((part, n) => {
    const start = left + (ends[n]! - part.advance) * em;
    return part.contours.map((line) =>
      line.map((value, i) => (i % 2 === 0 ? start + value * em : baseline + value * em)),
    );
  });
  return {
    contours,
    letters: parts.map(({ character, advance }, n) => ({
      letter: character.toLowerCase(),
      left: left + (ends[n]! - advance) * em,
      right: left + ends[n]! * em,
    })),
    top: baseline + least * em,
    bottom: baseline + most * em,
  };
}

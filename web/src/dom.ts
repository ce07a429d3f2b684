/** The element of the page with this id. */
export const byId = <E extends HTMLElement = HTMLElement>(id: string): E => document.getElementById(id) as E;

/** An element with properties, attributes in kebab-case and children. */
export function el<Tag extends keyof HTMLElementTagNameMap>(
  tag: Tag,
  given: Readonly<Record<string, unknown>> = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[Tag] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (name.includes('-')) element.setAttribute(name, String(value));
    else Object.assign(element, { [name]: value });
  }
  element.append(...children);
  return element;
}

export const show = (id: string, shown: boolean): void => void byId(id).classList.toggle('hidden', !shown);

export const percent = (share: number): string =>
  share > 0 && share < 0.0005 ? '< 0.1 %' : `${(100 * share).toFixed(share > 0 && share < 0.1 ? 1 : 0)} %`;

/** With one digit behind the point, and a true minus sign. */
export const decimal = (x: number): string => x.toFixed(1).replace(/^-(0\.0)?/, (_, zero) => zero ?? '−');

/** The middle of an image, small. */
export function thumbnail(bitmap: ImageBitmap): HTMLCanvasElement {
  const side = 136;
  const canvas = el('canvas', { width: side, height: side });
  const scale = Math.max(side / bitmap.width, side / bitmap.height);
  const [w, h] = [bitmap.width * scale, bitmap.height * scale];
  canvas.getContext('2d')!.drawImage(bitmap, (side - w) / 2, (side - h) / 2, w, h);
  return canvas;
}

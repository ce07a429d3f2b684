/** The page's style: one column on a telephone, image and panel side by side on a table, light and dark as the reader's system is. */
export const PAGE_STYLE = `
:root {
  color-scheme: light dark;
  --paper: #faf9f6; --card: #ffffff; --ink: #1d1b22; --soft: #6b6775; --line: #e4e1da; --accent: #b3261e; --track: #eceae4; --faint: #b9b5c0;
  --image: #d9552b; --token: #8b6fc0; --text: #9a97a3;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #131217; --card: #1c1b21; --ink: #f0eef4; --soft: #9d99a8; --line: #302e37; --accent: #ff9b6a; --track: #26242c; --faint: #56525f;
    --image: #f08a4b; --token: #a78bd8; --text: #6f6c79;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; padding: clamp(16px, 3vw, 44px); background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif;
}
main { max-width: 1180px; margin: 0 auto; display: grid; gap: clamp(20px, 3vw, 44px); grid-template-columns: minmax(0, 1fr) 348px; }
@media (max-width: 900px) { main { grid-template-columns: minmax(0, 1fr); } }
h1, h2 { font-size: 12px; font-weight: 600; letter-spacing: .08em; text-transform: uppercase; color: var(--soft); margin: 0 0 10px; }
button { font: inherit; color: inherit; background: none; border: 0; padding: 0; cursor: pointer; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }

.images { display: grid; gap: 8px; grid-template-columns: minmax(0, 1fr); justify-items: start; }
.images.video { grid-template-columns: repeat(auto-fit, minmax(min(100%, 210px), 1fr)); }
.image { position: relative; overflow: hidden; border-radius: 10px; background: #000; line-height: 0; }
.image .shot { display: block; width: 100%; height: 100%; position: relative; transition: filter .25s; }
.image .rest { position: absolute; inset: 0; background-size: 100% 100%; }
.image .veil { position: absolute; opacity: 0; transition: opacity .25s; }
.lit .veil { opacity: 1; }
.caption { font: 400 clamp(25px, 3.1vw, 36px)/1.5 Charter, "Bitstream Charter", "Iowan Old Style", Georgia, "DejaVu Serif", serif; margin: 20px 0 6px; overflow-wrap: anywhere; }
.source { color: var(--soft); font-size: 13px; margin: -6px 0 10px; overflow-wrap: anywhere; }
.source span + span::before { content: " · "; white-space: pre; }
.nowhere { color: var(--accent); font-size: 13px; line-height: 1.35; margin: -4px 0 12px; }
.prompt { color: var(--soft); }
.word { position: relative; padding: 1px 3px 3px; margin: 0 -3px; border-radius: 7px; max-width: 100%; transition: background .15s, color .15s; }
.word::before, .word::after { content: ""; position: absolute; left: 3px; bottom: 0; height: 3px; border-radius: 2px; }
.word::before { right: 3px; background: var(--track); }
.word::after { width: calc((100% - 6px) * var(--sure)); background: var(--faint); }
.word.active { background: var(--ink); color: var(--paper); }
.word.active::before { opacity: 0; }
.word.active::after { background: var(--accent); }
.word.special { font: 600 12px/1 system-ui, sans-serif; color: var(--soft); vertical-align: middle; padding: 6px 8px; letter-spacing: .04em; }
.word.special.active { color: var(--paper); }
.hint { color: var(--soft); font-size: 13px; margin: 0; max-width: 66ch; }

aside { display: grid; gap: 18px; align-content: start; grid-template-columns: minmax(0, 1fr); }
section { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 16px 18px; }
.said { display: flex; justify-content: space-between; gap: 12px; align-items: baseline; margin: 0 0 12px; }
.said b { font: 400 22px/1.3 Charter, "Bitstream Charter", "Iowan Old Style", Georgia, "DejaVu Serif", serif; overflow-wrap: anywhere; }
.said span { color: var(--soft); white-space: nowrap; font-variant-numeric: tabular-nums; }
.bar { display: flex; height: 10px; border-radius: 5px; overflow: hidden; gap: 2px; }
.bar i { flex: 0 0 0; min-width: 0; transition: flex-grow .26s; }
dl { display: grid; grid-template-columns: auto 1fr; gap: 3px 10px; margin: 12px 0 0; font-variant-numeric: tabular-nums; }
dt::before { content: ""; display: inline-block; width: 9px; height: 9px; border-radius: 3px; margin-right: 9px; background: var(--dot, transparent); }
dt.even::before { width: 0; height: 0; border-radius: 0; border: 5px solid transparent; border-top: 0; border-bottom-color: var(--soft); margin: 0 8px 1px -1px; }
dd { margin: 0; text-align: right; }
.scale { display: flex; align-items: center; gap: 10px; margin: 14px 0 12px; font-variant-numeric: tabular-nums; font-size: 13px; }
.ramp { position: relative; flex: 1; min-width: 0; line-height: 0; }
.ramp canvas { width: 100%; height: 12px; border-radius: 6px; border: 1px solid var(--line); }
.ramp i { position: absolute; top: 14px; left: 0; width: 0; height: 0; margin-left: -5px; border: 5px solid transparent; border-top: 0; border-bottom-color: var(--soft); transition: left .26s; }
.choice { display: flex; flex-wrap: wrap; gap: 6px 18px; border: 0; padding: 0; margin: 0 0 4px; font-size: 13px; color: var(--soft); }
.choice legend { position: absolute; clip-path: inset(50%); }
.choice label { display: inline-flex; gap: 6px; align-items: center; cursor: pointer; }
.choice input { margin: 0; accent-color: var(--accent); }

.views { display: grid; grid-template-columns: 1fr 1fr; gap: 8px; margin-bottom: 14px; }
.views button { border: 1px solid var(--line); border-radius: 8px; padding: 7px 10px; }
.views button[aria-pressed=true] { background: var(--ink); color: var(--paper); border-color: var(--ink); }
.heads { display: grid; gap: 3px; align-items: center; }
.heads button { min-width: 0; border-radius: 3px; }
.heads canvas { display: block; width: 100%; border-radius: 3px; background: #000; }
.heads button[aria-pressed=true] { outline: 2px solid var(--accent); outline-offset: 1px; }
.heads .layer { font-size: 12px; line-height: 1.2; color: var(--soft); padding: 4px 8px 4px 2px; font-variant-numeric: tabular-nums; text-align: right; }
.heads .layer[aria-pressed=true] { color: var(--ink); font-weight: 700; outline: 0; }
.heads .axis { font-size: 11px; padding: 0 8px 0 2px; }
.heads small { color: var(--soft); font-size: 11px; text-align: center; font-variant-numeric: tabular-nums; }
details { grid-column: 1 / -1; color: var(--soft); font-size: 14px; border-top: 1px solid var(--line); padding-top: 14px; }
details p { max-width: 78ch; margin: 10px 0 0; }
summary { cursor: pointer; }
@media (prefers-reduced-motion: reduce) { * { transition: none !important; } }
`;

// The looks of plrc.scatter: colours are those of the page around it (Gradio, or JupyterLab), or plain ones.
window.plrc = window.plrc || {};

plrc.scatterStyle = `
.plrc-scatter {
  --ink: var(--body-text-color, var(--jp-ui-font-color1, #1f2937));
  --paper: var(--background-fill-primary, var(--jp-layout-color0, #fff));
  --soft: color-mix(in srgb, var(--ink) 70%, var(--paper)); /* Gradio's own subdued text is too pale to be read */
  --line: var(--border-color-primary, var(--jp-border-color2, #e5e7eb));
  --focus: var(--color-accent, #0072b2);
  position: relative; color: var(--ink); background: var(--paper); font-size: 14px; line-height: 1.35;
}
.plrc-scatter [hidden], .plrc-scatter.empty .bar, .plrc-scatter.empty .body { display: none !important; }
.plrc-scatter .bar { display: flex; flex-wrap: wrap; gap: 6px 16px; align-items: center; margin-bottom: 8px; }
.plrc-scatter .bar label { color: var(--soft); white-space: nowrap; }
.plrc-scatter select, .plrc-scatter .bar button {
  font: inherit; color: var(--ink); background: var(--paper); border: 1px solid var(--line); border-radius: 4px;
  padding: 3px 8px; min-height: 30px; max-width: 190px; appearance: auto;
}
.plrc-scatter .bar button:disabled { color: var(--soft); opacity: 0.6; }
.plrc-scatter .body { display: flex; flex-wrap: wrap; gap: 12px 20px; align-items: flex-start; }
.plrc-scatter .planes {
  flex: 1 1 460px; min-width: 0; display: grid; gap: 12px;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 270px), 1fr));
}
.plrc-scatter figure { margin: 0; min-width: 0; }
.plrc-scatter .planes figure { max-width: 640px; }
.plrc-scatter .planes figcaption { font-weight: 600; margin-bottom: 3px; overflow-wrap: anywhere; }
.plrc-scatter .planes figcaption.caption { font-weight: 400; font-size: 13px; color: var(--soft); margin-top: 4px; }
.plrc-scatter .plane { position: relative; outline: 1px solid var(--line); overflow: hidden; }
.plrc-scatter .plane canvas { position: absolute; left: 0; top: 0; touch-action: none; }
.plrc-scatter .plane canvas + canvas { cursor: crosshair; }
.plrc-scatter .plane canvas:focus { outline: none; }
.plrc-scatter .plane:has(canvas:focus-visible), .plrc-scatter button:focus-visible, .plrc-scatter select:focus-visible {
  outline: 2px solid var(--focus); outline-offset: 1px;
}
.plrc-scatter .legend {
  flex: 0 1 190px; max-height: 480px; overflow-y: auto; padding: 2px; display: grid; gap: 1px;
  grid-template-columns: repeat(auto-fill, minmax(150px, 1fr));
}
.plrc-scatter .legend .title, .plrc-scatter .legend .hint { grid-column: 1 / -1; }
.plrc-scatter .legend .title { font-weight: 600; }
.plrc-scatter .legend button {
  display: flex; align-items: center; gap: 6px; min-width: 0; min-height: 24px; padding: 1px 5px; cursor: pointer;
  font: inherit; font-size: 13px; color: inherit; text-align: left;
  background: none; border: 1px solid transparent; border-radius: 4px;
}
.plrc-scatter .legend button:hover, .plrc-scatter .legend button[aria-pressed="true"] { border-color: var(--soft); }
.plrc-scatter .legend button[aria-pressed="true"] { font-weight: 600; }
.plrc-scatter .legend canvas { flex: none; }
.plrc-scatter .legend .name { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; flex: 1; }
.plrc-scatter .legend .number { color: var(--soft); font-variant-numeric: tabular-nums; }
.plrc-scatter .hint { color: var(--soft); font-size: 12.5px; margin: 4px 0 0; }
.plrc-scatter .status { margin: 10px 0 8px; color: var(--ink); }
.plrc-scatter .strip { display: flex; flex-wrap: wrap; gap: 10px; align-items: flex-start; }
.plrc-scatter .strip canvas { cursor: pointer; touch-action: manipulation; }
.plrc-scatter .strip figcaption { font-size: 12px; color: var(--soft); max-width: 150px; overflow-wrap: anywhere; }
.plrc-scatter .card {
  position: absolute; display: none; z-index: 5; pointer-events: none;
  width: 162px; padding: 6px; box-sizing: border-box;
  background: var(--paper); border: 1px solid var(--line); border-radius: 6px; box-shadow: 0 2px 10px #0004;
  font-size: 12px; overflow-wrap: anywhere;
}
.plrc-scatter .card canvas { display: block; margin-bottom: 4px; }
.plrc-scatter .spoken { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
@media (max-width: 640px) {
  .plrc-scatter .legend {
    flex: 1 1 100%; max-height: 190px; grid-template-columns: repeat(auto-fill, minmax(135px, 1fr));
  }
  .plrc-scatter .strip { gap: 8px; }
}
`;

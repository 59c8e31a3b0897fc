// The notebooks' widget: plrc.panels of the app (app/static, put before this file by click.py), and above it what a
// click asks. Python gets its events, {kind: "point", x, y, sign}, {kind: "undo"}, {kind: "clear"}, and answers with
// `scene`; `still` is the picture, which does not change. sign: 0, the place alone; 1, it too; −1, but not it.
const STYLE = `
  .plrc-click { padding: 4px; } /* a cell's output cuts off what stands beyond it, such as the ring of the focus */
  .plrc-asks { display: flex; flex-wrap: wrap; align-items: center; gap: 4px 14px; margin: 0 0 10px;
    font: 14px/1.4 system-ui, sans-serif; color: var(--jp-ui-font-color1, inherit); }
  .plrc-asks label { display: inline-flex; align-items: center; gap: 4px; cursor: pointer; }
  .plrc-asks input { margin: 0; }
  .plrc-asks button { font: inherit; color: inherit; background: transparent; padding: 1px 10px; cursor: pointer;
    border: 1px solid var(--jp-border-color1, #9ca3af); border-radius: 4px; }
  .plrc-asks :is(input, button):focus-visible { outline: 3px solid #f97316; outline-offset: 2px; }`;
const ASKS = [["this place", 0], ["this too", 1], ["but not this", -1]];

function render({ model, el }) {
  const make = (parent, tag, properties) => parent.appendChild(Object.assign(document.createElement(tag), properties));
  const root = make(el, "div", { className: "plrc-click" });
  make(root, "style", { textContent: STYLE });
  const bar = make(root, "div", { className: "plrc-asks", role: "group", ariaLabel: "What a click asks" });
  bar.dataset.lmSuppressShortcuts = "true"; // else JupyterLab takes the arrows and Enter for its own
  make(bar, "span", { textContent: "A click asks: what is like …" });
  let asked = 0;
  const name = `plrc-asks-${Math.random()}`; // of this view alone: the same widget may be shown twice
  for (const [text, sign] of ASKS) {
    const label = make(bar, "label", {});
    const radio = make(label, "input", { type: "radio", name, checked: sign === asked });
    radio.addEventListener("change", () => (asked = sign));
    make(label, "span", { textContent: text });
  }
  for (const [textContent, kind] of [["Undo", "undo"], ["Clear", "clear"]]) {
    make(bar, "button", { textContent, type: "button" }).addEventListener("click", () => model.send({ kind }));
  }
  const view = window.plrc.panels(make(root, "div", {}), ({ kind, x, y, negative }) =>
    model.send(kind === "point" ? { kind, x, y, sign: negative ? -1 : asked } : { kind }),
  );
  const show = () => view.show({ ...model.get("scene"), ...model.get("still") });
  model.on("change:scene", show);
  show();
  return () => model.off("change:scene", show);
}

export default { render };

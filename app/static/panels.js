// Maps over a picture, side by side: plrc.panels(element, emit) → {show(scene)}. A click on any panel asks about a
// place; what is under the pointer is shown in all panels at once. Also the viewer of the notebooks' widget.
//
// scene, or null for none:
//   picture: {src, outlines, width, height, name}; outlines is a black RGBA PNG of the picture's strongest edges
//   panels: [{title, caption, map: null | {h, w, values, extent}, scale: null | {quantity, low, high, colours}}]
//     values: h·w numbers, row after row, null where there is none. Cell (i, j) covers j/w … (j+1)/w of extent[0] × the
//     picture's width. colours: 256 "#rrggbb" from low to high. A panel without a map is the picture itself.
//   points: [{x, y, negative}]    strength: 0 … 1, opacity of the colours    outline: null | {src}, RGBA, of an object
// emit gets {kind: "point", x, y, negative}, {kind: "undo"} or {kind: "clear"}. x, y are shares of the picture.
// Rows and columns are counted from 0, as in the arrays that are exported.
(() => {
  const plrc = (window.plrc = window.plrc || {});
  const parts = (plrc.panelsParts = plrc.panelsParts || {}); // panels_parts.js: numbers, cells, marks

  const STRONGEST_EDGE = 0.5; // opacity of the outlines over a map of full strength
  const EMPTY = "Choose a picture and a checkpoint.";
  const USE =
    "Click, or move with the arrow keys and press Enter, to ask what is like this place. " +
    "With Shift, or the minus key: what is unlike it. Backspace takes the last point back, Escape all.";

  // Rows are shared by the panels of a line (subgrid), so that the bars stand level when a title wraps.
  const STYLE = `
    .plrc-panels { color: var(--body-text-color, var(--jp-ui-font-color1, #1f2937));
      font: 14px/1.4 system-ui, sans-serif; }
    .plrc-panels [hidden] { display: none !important; }
    .plrc-panels .plrc-grid { display: grid; gap: 0 20px; max-width: calc(var(--count) * (var(--widest) + 20px));
      grid-template-columns: repeat(auto-fit, minmax(min(220px, 100%), 1fr)); }
    .plrc-panels .plrc-panel { display: grid; grid-row: span 4; grid-template-rows: subgrid; align-content: start;
      grid-template-columns: minmax(0, 1fr); min-width: 0; max-width: var(--widest); margin: 0 0 22px; padding: 0; }
    .plrc-panels .plrc-canvas { display: block; width: 100%; min-width: 0; height: auto; align-self: start; margin: 0;
      cursor: crosshair; box-shadow: 0 0 0 1px var(--border-color-primary, #d1d5db);
      touch-action: manipulation; user-select: none; -webkit-user-select: none; -webkit-touch-callout: none; }
    .plrc-panels .plrc-canvas:focus { outline: none; }
    .plrc-panels .plrc-canvas:focus-visible { outline: 3px solid var(--color-accent, #f97316); outline-offset: 2px; }
    .plrc-panels .plrc-title { margin-top: 8px; font-weight: 600; overflow-wrap: anywhere; }
    .plrc-panels .plrc-caption { font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
    .plrc-panels .plrc-bar { margin-top: 8px; }
    .plrc-panels :is(.plrc-bar, .plrc-reading) { font-size: 12px; font-variant-numeric: tabular-nums; }
    .plrc-panels .plrc-strip { position: relative; height: 10px; margin: 2px 0; }
    .plrc-panels .plrc-here { position: absolute; top: -3px; bottom: -3px; width: 2px; margin-left: -1px;
      background: #000; box-shadow: 0 0 0 1px #fff; }
    .plrc-panels .plrc-ends { position: relative; display: flex; justify-content: space-between; }
    .plrc-panels .plrc-between { position: absolute; transform: translateX(-50%); }
    .plrc-panels .plrc-reading { margin-top: 2px; min-height: 1.4em; }
    .plrc-panels .plrc-empty { margin: 0; padding: 28px 0; opacity: 0.8; }
    .plrc-panels .plrc-said { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }`;

  const make = (parent, tag, name) => {
    const made = document.createElement(tag);
    made.className = `plrc-${name}`;
    return parent.appendChild(made);
  };

  /** Sets a text only where it is another: a reader of the page aloud is not told the same twice. */
  const write = (element, text) => {
    if (element.textContent !== text) element.textContent = text;
  };

  plrc.panels = (element, emit) => {
    if (!document.getElementById("plrc-panels-style")) {
      Object.assign(make(document.head, "style", "style"), { id: "plrc-panels-style", textContent: STYLE });
    }
    element.replaceChildren();
    const root = make(element, "div", "panels");
    root.dataset.lmSuppressShortcuts = "true"; // else JupyterLab takes Enter, Backspace and the arrows for its own
    const grid = make(root, "div", "grid"), empty = make(root, "p", "empty"), said = make(root, "div", "said");
    said.setAttribute("aria-live", "polite");
    const load = parts.bitmaps(), panels = [];
    let scene = null, drawn = null; // what is shown, and its bitmaps
    let asked = 0; // number of the latest scene: of those that wait for their pictures only this one is shown
    let hover = null; // place under the pointer
    let cross = { x: 0.5, y: 0.5 }, keys = false; // the keyboard's place, and whether it is in use
    let pressed = null; // the pointer's last event
    let waiting = false; // for the next frame

    // ---- Drawing

    const draw = (panel) => {
      const { canvas, spec, cells, width: W, height: H } = panel;
      if (!scene || !W || !H) return; // hidden, or not laid out yet: the observer will call
      if (canvas.width !== W || canvas.height !== H) Object.assign(canvas, { width: W, height: H });
      const context = canvas.getContext("2d"), px = W / panel.wide, map = cells && spec.map;
      const at = hover || (keys ? cross : null);
      context.clearRect(0, 0, W, H);
      context.imageSmoothingQuality = "high";
      context.drawImage(drawn.picture, 0, 0, W, H);
      if (map) {
        context.globalAlpha = scene.strength;
        context.imageSmoothingEnabled = false;
        context.drawImage(cells, 0, 0, map.extent[0] * W, map.extent[1] * H);
        context.imageSmoothingEnabled = true;
        context.globalAlpha = STRONGEST_EDGE * scene.strength;
        if (drawn.edges) context.drawImage(drawn.edges, 0, 0, W, H);
        context.globalAlpha = 1;
      }
      if (drawn.outline) context.drawImage(drawn.outline, 0, 0, W, H);
      const cell = map && at ? parts.cellAt(map, at) : null;
      if (cell) parts.drawCell(context, px, map, cell, W, H);
      scene.points.forEach((point, i) => parts.drawPoint(context, px, point, String(i + 1), W, H));
      if (keys && !hover) parts.drawCrosshair(context, px, cross, W, H);
      read(panel, cell);
      canvas.dataset.drawn = Number(canvas.dataset.drawn || 0) + 1;
    };

    /** The cell's value, as text and on the bar. */
    const read = ({ canvas, spec, reading, here }, cell) => {
      delete canvas.dataset.cell;
      if (cell) canvas.dataset.cell = cell.join();
      const value = cell ? spec.map.values[cell[0] * spec.map.w + cell[1]] : null, known = Number.isFinite(value);
      const format = cell && parts.numbers(spec.scale);
      const text = known ? format.exactly(value) + format.factor : "no value";
      write(reading, cell ? `${text} at row ${cell[0]}, column ${cell[1]}` : "");
      if (!(here.hidden = !known)) here.style.left = `${100 * parts.share(value, spec.scale)}%`;
    };

    const drawAll = () => panels.forEach(draw);
    const drawSoon = () => {
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => {
        waiting = false;
        drawAll();
      });
    };

    /** What the crosshair is on, said aloud: the panel's own value, or of the picture its place and all values. */
    const say = (panel) => {
      const values = panels.map(({ spec, reading }) => reading.textContent && `${spec.title}: ${reading.textContent}`);
      const where = `${Math.round(100 * cross.x)} % across, ${Math.round(100 * cross.y)} % down`;
      write(said, panel.reading.textContent || [where, ...values.filter(Boolean)].join("; "));
    };

    // ---- Pointer and keyboard

    const told = (value) => Number(value.toFixed(5));
    const ask = ({ x, y }, negative) => emit({ kind: "point", x: told(x), y: told(y), negative });

    const pointTo = (at) => {
      hover = at;
      keys = false;
      drawSoon();
    };

    const click = (panel, event, negative) => {
      cross = parts.placeOf(panel.canvas, event, pressed); // the keyboard goes on from there
      if (event.pointerType === "touch") pointTo(cross); // a finger does not hover: its last tap is what is read
      ask(cross, negative);
    };

    const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

    const press = (panel, event) => {
      if (event.ctrlKey || event.metaKey) return; // the browser's own
      const map = panel.cells ? panel.spec.map : { h: 0, w: 0, extent: [1, 1] };
      if (event.key in KEYS) {
        const [right, down] = KEYS[event.key];
        if (right) cross = { ...cross, x: parts.stepped(cross.x, right, map.w, map.extent[0]) };
        if (down) cross = { ...cross, y: parts.stepped(cross.y, down, map.h, map.extent[1]) };
        [hover, keys] = [null, true];
        drawAll();
        say(panel);
      } else if (event.key === "Enter" || event.key === "-") {
        ask(cross, event.key === "-" || event.shiftKey || event.altKey);
      } else if (event.key === "Backspace") emit({ kind: "undo" });
      else if (event.key === "Escape") emit({ kind: "clear" });
      else return;
      event.preventDefault();
      event.stopPropagation();
    };

    const listen = (panel) => {
      const on = (name, answer) => panel.canvas.addEventListener(name, answer);
      on("pointermove", (event) => event.pointerType !== "touch" && pointTo(parts.placeOf(panel.canvas, event)));
      for (const name of ["pointerdown", "pointerup"]) on(name, (event) => (pressed = event));
      on("pointerleave", () => {
        hover = null;
        drawSoon();
      });
      on("click", (event) => click(panel, event, event.shiftKey || event.altKey));
      on("contextmenu", (event) => {
        // The right button, a Mac's Ctrl and click, a long touch; not the keyboard's menu key.
        if (event.button !== 2 && !event.ctrlKey && event.pointerType !== "touch") return;
        event.preventDefault();
        click(panel, event, true);
      });
      on("keydown", (event) => press(panel, event));
      on("focus", () => {
        keys = panel.canvas.matches(":focus-visible"); // by the Tab key, not by a click
        drawAll();
        if (keys) say(panel);
      });
      on("blur", () => {
        keys = false;
        write(said, "");
        drawSoon();
      });
    };

    // ---- Panels

    const observer = new ResizeObserver((entries) => {
      for (const { target, contentRect: box, devicePixelContentBoxSize: exact = [{}] } of entries) {
        const panel = panels.find(({ canvas }) => canvas === target);
        if (!panel) continue;
        panel.width = parts.pixels(box.width, exact[0].inlineSize);
        panel.height = parts.pixels(box.height, exact[0].blockSize);
        panel.wide = box.width;
        draw(panel);
      }
    });

    const addPanel = () => {
      const figure = make(grid, "figure", "panel");
      const canvas = make(figure, "canvas", "canvas"), words = make(figure, "figcaption", "words");
      const title = make(words, "div", "title"), caption = make(words, "div", "caption");
      const bar = make(figure, "div", "bar"), quantity = make(bar, "div", "quantity");
      const strip = make(bar, "div", "strip"), ends = make(bar, "div", "ends");
      const here = make(strip, "div", "here");
      const [low, between, high] = ["low", "between", "high"].map((name) => make(ends, "span", name));
      const reading = make(figure, "div", "reading");
      const panel = { figure, canvas, title, caption, bar, quantity, strip, here, low, between, high, reading };
      Object.assign(canvas, { tabIndex: 0, role: "application" });
      panels.push(panel);
      listen(panel);
      try {
        observer.observe(canvas, { box: "device-pixel-content-box" });
      } catch {
        observer.observe(canvas); // Safari
      }
    };

    const fill = (panel, spec, { width, height }) => {
      panel.spec = spec;
      panel.cells = spec.map && spec.scale ? parts.coloured(spec.map, spec.scale) : null;
      panel.canvas.style.aspectRatio = `${width} / ${height}`;
      panel.canvas.setAttribute("aria-label", `${[spec.title, spec.caption].filter(Boolean).join(", ")}. ${USE}`);
      write(panel.title, spec.title);
      write(panel.caption, spec.caption || "");
      panel.bar.hidden = !panel.cells;
      if (!panel.cells) return;
      const { scale } = spec, format = parts.numbers(scale);
      panel.strip.style.background = `linear-gradient(to right, ${scale.colours.join()})`;
      const middle = scale.low < 0 && scale.high > 0 ? 0 : (scale.low + scale.high) / 2;
      const at = parts.share(middle, scale);
      write(panel.quantity, scale.quantity + format.factor);
      write(panel.low, format.short(scale.low));
      write(panel.high, format.short(scale.high));
      write(panel.between, at > 0.2 && at < 0.8 ? format.short(middle) : ""); // else it would meet an end's number
      panel.between.style.left = `${100 * at}%`;
    };

    // ---- Scenes

    const blank = (text) => {
      scene = null;
      write(empty, text);
      [grid.hidden, empty.hidden] = [true, false];
    };

    /** All at once, when the pictures are there: until then the last scene stays. */
    const change = (next, [picture, edges, outline]) => {
      scene = next;
      drawn = { picture, edges, outline };
      while (panels.length < scene.panels.length) addPanel();
      for (const { figure, canvas } of panels.splice(scene.panels.length)) {
        observer.unobserve(canvas);
        figure.remove();
      }
      const { width, height } = scene.picture;
      grid.style.setProperty("--widest", `calc(70vh * ${width / height})`);
      grid.style.setProperty("--count", panels.length);
      panels.forEach((panel, i) => fill(panel, scene.panels[i], scene.picture));
      [grid.hidden, empty.hidden] = [false, true];
      drawAll();
      const focused = keys && panels.find(({ canvas }) => canvas === document.activeElement);
      if (focused) say(focused);
    };

    const show = (next) => {
      const turn = ++asked;
      if (!next) return blank(EMPTY);
      const sources = [next.picture.src, next.picture.outlines, next.outline && next.outline.src];
      const pictures = sources.map((src) => (src ? load(src) : null));
      if (!pictures.some((picture) => picture instanceof Promise)) return change(next, pictures);
      Promise.all(pictures).then(
        (loaded) => turn === asked && change(next, loaded),
        () => turn === asked && blank("The picture could not be read: choose another one."),
      );
    };

    blank(EMPTY);
    return { show };
  };
})();

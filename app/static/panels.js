// Maps over an image, side by side: plrc.panels(element, emit) → {show(scene)}. A click on any panel asks about a
// place; what is under the pointer is shown in all panels at once. Also the viewer of the notebooks' widget.
//
// scene, or null for none:
//   image: {src, width, height, name}
//   panels: [{title, caption, map: null | {h, w, values, extent}, scale: null | {quantity, low, high, colours}}]
//     values: h·w numbers, row after row, null where there is none. Cell (i, j) covers j/w … (j+1)/w of extent[0] × the
//     image's width. colours: "#rrggbb" from low to high. A panel without a map is the image itself.
//   points: [{x, y, negative}], shares of the image: those that are asked about
// emit gets {points}: those that are to be asked about, by a click, a key or a button; none stands for the first one.
// Rows and columns are counted from 0, as in the arrays that are exported.
(() => {
  const { make, write, placeIn, loader, clamp, numbers, colourAt, colourBar, ARROWS } = plrc.common;
  const STEP = 1 / 16; // of the crosshair, where no map has cells
  const ASKS = [["this place", ""], ["this too", "+"], ["but not this", "-"]];
  const EMPTY = "Choose an image and a checkpoint.";
  const BROKEN = "The image could not be read: choose another one.";
  const USE =
    "Click, or move with the arrow keys and press Enter, to ask what is like this place. " +
    "With Shift, or the minus key: what is unlike it. Backspace removes the last point, Escape all.";

  /** Row and column of the cell that holds [x, y]; null beyond the map. x = 1 belongs to the last column. */
  const cellAt = ({ h, w, extent }, [x, y]) => {
    if (x > extent[0] || y > extent[1]) return null;
    return [Math.min(h - 1, Math.floor((y / extent[1]) * h)), Math.min(w - 1, Math.floor((x / extent[0]) * w))];
  };

  /** Where cell k of a side of n lies, as far as the image reaches: [from, to] as shares. */
  const sideOf = (k, n, extent) => [(k / n) * extent, Math.min(1, ((k + 1) / n) * extent)];

  /** A step along a side of n cells: to the middle of what the image shows of the next one; without cells by STEP. */
  const stepped = (at, by, n, extent) => {
    if (!n || !by) return clamp(at + by * STEP);
    const last = Math.min(n - 1, Math.ceil(n / extent - 1e-9) - 1); // the last that the image shows
    const now = Math.min(last, Math.floor((at / extent) * n));
    const [from, to] = sideOf(clamp(now + by, 0, last), n, extent);
    return (from + to) / 2;
  };

  /** A pixel for each cell of a map; cells without a value are clear. */
  const colour = (canvas, { h, w, values }, scale) => {
    const pixels = new ImageData(w, h);
    values.forEach((value, i) => {
      if (!Number.isFinite(value)) return;
      const rgb = parseInt(colourAt(value, scale).slice(1), 16);
      pixels.data.set([rgb >> 16, (rgb >> 8) & 255, rgb & 255, 255], 4 * i);
    });
    Object.assign(canvas, { width: w, height: h }).getContext("2d").putImageData(pixels, 0, 0);
  };

  /** Fills a canvas with a bitmap; the browser scales it. */
  const paint = (canvas, bitmap) => {
    if (canvas.bitmap === bitmap) return;
    Object.assign(canvas, { bitmap, width: bitmap.width, height: bitmap.height });
    canvas.getContext("2d").drawImage(bitmap, 0, 0);
  };

  const percent = (value) => `${100 * value}%`;

  /** Lays an element over a part of its panel. */
  const lay = (element, x, y, width = 0, height = 0) => {
    const box = { left: percent(x), top: percent(y), width: percent(width), height: percent(height) };
    Object.assign(element.style, box);
  };

  plrc.panels = (element, emit) => {
    element.replaceChildren();
    const root = make(element, "div", "plrc-viewer plrc-panels");
    root.dataset.lmSuppressShortcuts = "true"; // else JupyterLab takes Enter, Backspace and the arrows for its own
    const bar = make(root, "div", "plrc-asks", { role: "group", ariaLabel: "What a click asks" });
    const grid = make(root, "div", "plrc-grid"), empty = make(root, "p", "plrc-empty");
    const aloud = make(root, "div", "plrc-aloud", { ariaLive: "polite" });
    const load = loader(), panels = [];
    let scene = null, hover = null; // hover: the place under the pointer
    let cross = [0.5, 0.5], keys = false; // the keyboard's place, and whether it is in use
    let how = ""; // a click forgets the points before it, adds one, or adds a negative one: "", "+" or "-"

    // ---- What is under the pointer or the crosshair: its cell in every panel, and the cell's value

    const point = () => panels.forEach((panel) => {
      const { spec, mapped, here, reading, bar } = panel, at = hover || (keys ? cross : null);
      const cell = mapped && at ? cellAt(spec.map, at) : null;
      here.hidden = !cell;
      panel.cross.hidden = !keys || Boolean(hover);
      lay(panel.cross, ...cross);
      if (!cell) return (write(reading, ""), bar.point(null));
      const { h, w, values, extent } = spec.map, [i, j] = cell, value = values[i * w + j];
      const [[left, right], [top, bottom]] = [sideOf(j, w, extent[0]), sideOf(i, h, extent[1])];
      lay(here, left, top, right - left, bottom - top);
      const { exactly, factor } = numbers(spec.scale);
      write(reading, `${Number.isFinite(value) ? exactly(value) + factor : "no value"} at row ${i}, column ${j}`);
      bar.point(value);
    });

    /** Says what the crosshair is on: the panel's own value, or, on the image, its place and all values. */
    const say = (panel) => {
      const values = panels.map(({ spec, reading }) => reading.textContent && `${spec.title}: ${reading.textContent}`);
      const where = `${Math.round(100 * cross[0])} % across, ${Math.round(100 * cross[1])} % down`;
      write(aloud, panel.reading.textContent || [where, ...values.filter(Boolean)].join("; "));
    };

    // ---- Pointer and keyboard

    const ask = ([x, y], negative) => {
      const point = { x: +x.toFixed(5), y: +y.toFixed(5), negative: negative || how === "-" };
      emit({ points: how || negative ? [...scene.points, point] : [point] });
    };
    const undo = () => emit({ points: scene ? scene.points.slice(0, -1) : [] }), clear = () => emit({ points: [] });

    const placeOf = ({ surface }, event) => {
      const [x, y] = placeIn(surface, event);
      return [clamp(x / surface.offsetWidth), clamp(y / surface.offsetHeight)];
    };

    const pointTo = (at) => (([hover, keys] = [at, false]), point());

    const click = (panel, event, negative) => {
      cross = placeOf(panel, event); // the keyboard goes on from there
      if (event.pointerType === "touch") pointTo(cross); // a finger does not hover: its last tap is what is read
      ask(cross, negative);
    };

    const press = (panel, event) => {
      if (event.ctrlKey || event.metaKey) return; // the browser's own
      const { h, w, extent } = panel.mapped ? panel.spec.map : { h: 0, w: 0, extent: [1, 1] };
      if (event.key in ARROWS) {
        const [right, down] = ARROWS[event.key];
        if (right) cross = [stepped(cross[0], right, w, extent[0]), cross[1]];
        else cross = [cross[0], stepped(cross[1], down, h, extent[1])];
        [hover, keys] = [null, true];
        point();
        say(panel);
      } else if (event.key === "Enter" || event.key === "-") {
        ask(cross, event.key === "-" || event.shiftKey || event.altKey);
      } else if (event.key === "Backspace") undo();
      else if (event.key === "Escape") clear();
      else return;
      event.preventDefault();
      event.stopPropagation();
    };

    const listen = (panel) => {
      const on = (name, answer) => panel.surface.addEventListener(name, answer);
      on("pointermove", (event) => event.pointerType !== "touch" && pointTo(placeOf(panel, event)));
      on("pointerleave", () => ((hover = null), point()));
      on("click", (event) => click(panel, event, event.shiftKey || event.altKey));
      on("contextmenu", (event) => {
        // The right button, a Mac's Ctrl and click, a long touch; not the keyboard's menu key.
        if (event.button !== 2 && !event.ctrlKey && event.pointerType !== "touch") return;
        event.preventDefault();
        click(panel, event, true);
      });
      on("keydown", (event) => press(panel, event));
      on("focus", () => {
        keys = panel.surface.matches(":focus-visible"); // by the Tab key, not by a click
        point();
        if (keys) say(panel);
      });
      on("blur", () => ((keys = false), write(aloud, ""), point()));
    };

    // ---- Panels

    const addPanel = () => {
      const figure = make(grid, "figure", "plrc-panel");
      const surface = make(figure, "div", "plrc-canvas", { tabIndex: 0, role: "application" });
      const [image, map] = ["", "plrc-map"].map((name) => make(surface, "canvas", name));
      const [here, points, cross] = ["cell", "points", "cross"].map((name) => make(surface, "div", `plrc-${name}`));
      const words = make(figure, "figcaption"), bar = colourBar(figure), reading = make(figure, "div", "plrc-reading");
      const [title, caption] = ["title", "caption"].map((name) => make(words, "div", `plrc-${name}`));
      panels.push({ figure, surface, image, map, here, points, cross, bar, reading, title, caption });
      listen(panels.at(-1));
    };

    const fill = (panel, spec, image) => {
      const { surface, map, points } = panel, { width, height } = scene.image;
      Object.assign(panel, { spec, mapped: Boolean(spec.map && spec.scale) });
      surface.style.aspectRatio = `${width} / ${height}`;
      surface.ariaLabel = `${[spec.title, spec.caption].filter(Boolean).join(", ")}. ${USE}`;
      paint(panel.image, image);
      map.hidden = !panel.mapped;
      if (panel.mapped) (colour(map, spec.map, spec.scale), lay(map, 0, 0, ...spec.map.extent));
      points.replaceChildren();
      scene.points.forEach(({ x, y, negative }, i) => { // numbered rings, as plrc.figures draws them
        const ring = make(points, "div", `plrc-point${negative ? " negative" : ""}${x < 0.85 ? "" : " end"}`);
        make(ring, "b", y > 0.1 ? "" : "below", { textContent: i + 1 });
        [ring.style.left, ring.style.top] = [percent(x), percent(y)];
      });
      write(panel.title, spec.title);
      write(panel.caption, spec.caption || "");
      panel.bar.fill(panel.mapped ? spec.scale : null);
      surface.dataset.drawn = Number(surface.dataset.drawn || 0) + 1;
    };

    // ---- Scenes

    const blank = (text) => {
      [scene, grid.hidden, empty.hidden] = [null, true, false];
      write(empty, text);
    };

    /** All at once, when the image is there: until then the last scene stays. */
    const change = (next, [image]) => {
      scene = next;
      while (panels.length < scene.panels.length) addPanel();
      for (const { figure } of panels.splice(scene.panels.length)) figure.remove();
      grid.style.setProperty("--widest", `calc(70vh * ${scene.image.width / scene.image.height})`);
      grid.style.setProperty("--count", panels.length);
      panels.forEach((panel, i) => fill(panel, scene.panels[i], image));
      [grid.hidden, empty.hidden] = [false, true];
      point();
      const focused = keys && panels.find(({ surface }) => surface === document.activeElement);
      if (focused) say(focused);
    };

    const show = (next) => {
      if (!next) return load([], () => blank(EMPTY));
      return load([next.image.src], (bitmaps) => change(next, bitmaps), () => blank(BROKEN));
    };

    make(bar, "span", "", { textContent: "A click asks: what is like …" });
    const name = `plrc-asks-${Math.random()}`; // of this view alone: the same widget may be shown twice
    for (const [text, value] of ASKS) {
      const label = make(bar, "label");
      make(label, "input", "", { type: "radio", name, checked: value === how, onchange: () => (how = value) });
      label.append(text);
    }
    make(bar, "button", "", { type: "button", textContent: "Undo", onclick: undo });
    make(bar, "button", "", { type: "button", textContent: "Clear", onclick: clear });
    const opacity = make(make(bar, "label", "", { textContent: "Opacity of the maps" }), "input");
    Object.assign(opacity, { type: "range", max: 1, step: 0.05, value: 1 });
    opacity.oninput = () => grid.style.setProperty("--opacity", opacity.value);
    blank(EMPTY);
    return { show };
  };
})();

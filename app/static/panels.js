// Maps over an image, side by side: plrc.panels(element, emit) → {show(scene), take(packed)}. A click on any panel asks
// about a place; what a click would answer follows the pointer in all panels, drawn by this page alone, once it has the
// feature maps. All panels are zoomed and moved together. Also the viewer of the notebooks' widget.
//
// scene, or null for none:
//   image: {src, width, height, name}
//   panels: [{title, caption, map: null | {h, w, values, extent}, scale: null | {quantity, low, high, colours},
//             key, quantities}]
//     values: h·w numbers, row after row, null where there is none. Cell (i, j) covers j/w … (j+1)/w of extent[0] × the
//     image's width. colours: "#rrggbb" from low to high. A panel without a map is the image itself.
//     key: of the feature map behind it; null of the last one's difference from the first one. quantities: what is
//     shown without negative points, and with them.
//   points: [{x, y, negative}], shares of the image: those that are asked about; automatic: nobody has chosen them
//   outline: of the object that is meant, an SVG path in shares of the image, or nothing
//   live: {temperature, limits, colours}, of the softmax and of the colours, see plrc.live.scaleOf, or null
// packed: key → a packed map, see live.js; or null, if what was asked has no answer.
// emit gets {points}: those that are to be asked about, by a click, a key or a button; none stands for the first one.
// Or {lacks}: keys of feature maps that the page does not have.
// Rows and columns are counted from 0, as in the arrays that are exported.
(() => {
  const { make, write, framed, percent, shareIn, lay, loader, clamp, numbers, colourBar, zooming, zoomed, ARROWS } =
    plrc.common;
  const { live } = plrc;
  const HELD = 6; // feature maps that the page keeps
  const STEP = 1 / 16; // of the crosshair, where no map has cells
  const ASKS = [["this place", ""], ["this too", "+"], ["but not this", "-"]];
  const OUTLINE = `<svg class="plrc-object" viewBox="0 0 1 1" preserveAspectRatio="none"><path/><path/></svg>`;
  const EMPTY = "Choose an image and a checkpoint.";
  const BROKEN = "The image could not be read: choose another one.";
  const USE =
    "Click, or move with the arrow keys and press Enter, to ask what is like this place. " +
    "With Shift, or the minus key: what is unlike it. Backspace goes back to the points before, Escape removes all. " +
    "A point can be dragged; a click on one of several removes it. Ctrl and the wheel, or plus, enlarge; 0 goes back.";

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

  const tables = new WeakMap();
  const tableOf = (colours) => tables.get(colours) ||
    tables.set(colours, colours.map((name) => parseInt(name.slice(1), 16))).get(colours);

  /** A pixel for each cell of a map; cells without a value are clear. */
  const colour = (canvas, { h, w, values }, scale) => {
    if (!canvas.pixels || canvas.width !== w || canvas.height !== h) {
      Object.assign(canvas, { width: w, height: h, pixels: new ImageData(w, h) });
    }
    const { data } = canvas.pixels, table = tableOf(scale.colours), n = table.length, by = n / (scale.high - scale.low);
    for (let i = 0; i < values.length; i++) {
      const value = values[i], known = value !== null && Number.isFinite(value);
      const rgb = known ? table[Math.floor(clamp((value - scale.low) * by, 0, n - 1))] : 0;
      data[4 * i] = rgb >> 16;
      data[4 * i + 1] = (rgb >> 8) & 255;
      data[4 * i + 2] = rgb & 255;
      data[4 * i + 3] = known ? 255 : 0;
    }
    Object.assign(canvas, { values }).getContext("2d").putImageData(canvas.pixels, 0, 0);
  };

  /** Fills a canvas with a bitmap; the browser scales it. */
  const paint = (canvas, bitmap) => {
    if (canvas.bitmap === bitmap) return;
    Object.assign(canvas, { bitmap, width: bitmap.width, height: bitmap.height });
    canvas.getContext("2d").drawImage(bitmap, 0, 0);
  };

  plrc.panels = (element, emit) => {
    element.replaceChildren();
    const root = make(element, "div", "plrc-viewer plrc-panels");
    root.dataset.lmSuppressShortcuts = "true"; // else JupyterLab takes Enter, Backspace and the arrows for its own
    const bar = make(root, "div", "plrc-asks", { role: "group", ariaLabel: "What a click asks" });
    const grid = make(root, "div", "plrc-grid"), empty = make(root, "p", "plrc-empty");
    const aloud = make(root, "div", "plrc-aloud", { ariaLive: "polite" });
    const load = loader(), panels = [];
    const held = new Map(), opened = new Map(); // by key: packed maps, and the scene's as they are asked
    let scene = null, hover = null; // hover: the place under the pointer
    let past = []; // points that were asked about before
    let awaited = null, dragged = null; // points that were asked about and are not answered yet; {index, moved}
    let overRing = false, less = false, previewed = false; // the pointer is on a point; a click would ask for the unlike; other maps are shown than the scene's
    let cross = [0.5, 0.5], keys = false; // the keyboard's place, and whether it is in use
    let how = ""; // a click forgets the points before it, adds one, or adds a negative one: "", "+" or "-"

    // ---- What is under the pointer or the crosshair: its cell in every panel, and the cell's value

    const point = () => panels.forEach((panel) => {
      const { spec, mapped, here, reading, bar } = panel, at = hover || (keys ? cross : null);
      const cell = mapped && at ? cellAt(spec.map, at) : null;
      here.hidden = !cell;
      panel.cross.hidden = !keys || Boolean(hover);
      lay(panel.cross, ...cross);
      panel.value = null;
      if (!cell) return (write(reading, panel.note), bar.point(null));
      const { h, w, values, extent } = spec.map, [i, j] = cell, value = values[i * w + j];
      const [[left, right], [top, bottom]] = [sideOf(j, w, extent[0]), sideOf(i, h, extent[1])];
      lay(here, left, top, right - left, bottom - top);
      const { exactly, factor } = numbers(spec.scale);
      write(reading, `${Number.isFinite(value) ? exactly(value) + factor : "no value"} at row ${i}, column ${j}`);
      bar.point((panel.value = value));
    });

    /** Says what the crosshair is on: the panel's own value, or, on the image, its place and all values. */
    const say = (panel) => {
      const values = panels.map(({ spec, reading }) => reading.textContent && `${spec.title}: ${reading.textContent}`);
      const where = `${Math.round(100 * cross[0])} % across, ${Math.round(100 * cross[1])} % down`;
      write(aloud, panel.reading.textContent || [where, ...values.filter(Boolean)].join("; "));
    };

    // ---- The maps that follow the pointer

    /** The points that a click at a place asks about. */
    const asked = ([x, y], negative) => {
      const point = { x: +x.toFixed(5), y: +y.toFixed(5), negative: negative || how === "-" };
      const chosen = awaited || !scene.automatic; // a point that nobody chose is replaced by the first that is meant
      const adds = (how || negative) && (chosen || point.negative) && points().some((p) => !p.negative);
      return adds ? [...points(), point] : [{ ...point, negative: false }];
    };

    const points = () => awaited || (scene ? scene.points : []);

    /** Other points than the scene's, whose maps are to be seen now; null for none. */
    const preview = () => {
      const at = hover || (keys ? cross : null);
      if (dragged || !at || !follow.checked || !points().length) return awaited;
      const others = asked(at, less), last = points().at(-1);
      if (Math.hypot(last.x - at[0], last.y - at[1]) < 0.01) return awaited; // it has just been asked
      return overRing || same(others, points()) ? awaited : others;
    };

    const same = (some, others, within = 0.01) => some.length === others.length && some.every(({ x, y, negative }, i) =>
      Math.hypot(x - others[i].x, y - others[i].y) < within && Boolean(negative) === Boolean(others[i].negative));

    const isLive = () => Boolean(scene?.live) && panels.every(({ spec }) => !spec.key || opened.has(spec.key));

    /** Draws the maps of other points, or those of the scene again. */
    const follows = framed(() => {
      const others = scene && isLive() && preview();
      if (!others) return previewed && ((previewed = false), restore());
      previewed = true;
      const negative = others.some((p) => p.negative), { temperature } = scene.live;
      const maps = panels.map(({ spec }) => spec.key && opened.get(spec.key));
      const values = maps.map((map) => map && live.answer(map, others, temperature));
      const shown = panels.flatMap(({ mapped, spec }, i) => (mapped && spec.key ? i : []));
      const [first, last] = [shown[0], shown.at(-1)];
      const shared = live.scaleOf(panels[first].spec.quantities[+negative], scene.live, shown.map((i) => values[i]));
      panels.forEach((panel, i) => {
        if (!panel.mapped) return;
        let [found, scale] = [values[i], shared];
        if (!panel.spec.key) {
          found = live.difference(values[last], maps[last], values[first], maps[first]);
          scale = live.scaleOf(panel.spec.quantities[+negative], scene.live, [found]);
        }
        fillMap(panel, { ...panel.spec.map, values: found }, scale, others === awaited ? "…" : "click for its numbers");
      });
    });

    /** The scene's own maps, as the server answered. */
    const restore = () => panels.forEach((panel) => {
      if (panel.mapped) fillMap(panel, panel.spec.map, panel.spec.scale, panel.spec.caption);
    });

    /** Another map in a panel, with its bar and its words. */
    const fillMap = (panel, map, scale, caption) => {
      colour(panel.map, map, scale);
      panel.bar.fill(scale);
      panel.bar.point(panel.value);
      write(panel.caption, caption || "");
    };

    /** Feature maps that came: those that the scene needs can be asked from now on. */
    const take = (packed) => {
      for (const [key, map] of Object.entries(packed || {})) held.set(key, map);
      if (!packed) [awaited, previewed] = [null, true], drawRings();
      enliven();
    };

    const enliven = () => {
      const needed = new Map(panels.flatMap(({ spec }) => (scene && spec.key ? [[spec.key, spec]] : [])));
      for (const key of opened.keys()) if (!needed.has(key)) opened.delete(key);
      for (const [key, { map }] of needed) {
        const packed = held.get(key);
        if (!packed) continue;
        held.delete(key) && held.set(key, packed); // now the newest
        if (!opened.has(key)) opened.set(key, live.open(packed, map.extent));
      }
      while (held.size > Math.max(HELD, needed.size)) held.delete(held.keys().next().value);
      for (const panel of panels) {
        const { channels, of, lost } = held.get(panel.spec.key) || {};
        panel.note = lost ? `follows by ${channels} of ${of} channels, ${(100 * lost).toFixed(1)} % of length² lost` : "";
      }
      point();
      follows();
    };

    const lacks = () => panels.flatMap(({ spec }) => (spec.key && !held.has(spec.key) ? [spec.key] : []));

    const view = zooming(() => {
      grid.style.setProperty("--zoom", view.zoom);
      ["--left", "--top"].forEach((name, k) => grid.style.setProperty(name, -view.corner[k]));
      grid.classList.toggle("zoomed", view.zoom > 1);
      whole.disabled = view.zoom === 1;
    });

    // ---- Pointer and keyboard

    /** Asks the server; what this page knows by itself is seen at once. */
    const askAll = (all) => {
      if (scene && !awaited && same(all, scene.points, 1e-4)) return; // they are answered
      if (scene && !same(all, points())) past.push([...points()]);
      awaited = all.length ? all : null;
      if (awaited) drawRings();
      emit({ points: all });
      follows();
    };
    const ask = (at, negative) => askAll(asked(at, negative));
    const clear = () => askAll([]);
    /** The points of before; of a link's, which have none, all but the last. */
    const undo = () => {
      while (past.length && same(past.at(-1), points(), 1e-4)) past.pop(); // what was asked and not answered
      const before = past.pop() || points().slice(0, -1), kept = [...past];
      askAll(before);
      past = kept;
    };

    const pointTo = (at) => (([hover, keys] = [at, false]), point(), follows());

    const click = (panel, event, negative) => {
      const taken = dragged;
      dragged = null;
      if (panel.press.panned) return;
      if (taken?.moved) return; // it was dragged here
      const rest = points().filter((_, i) => i !== taken?.index);
      if (taken && !negative && rest.some((p) => !p.negative)) return ((overRing = false), askAll(rest)); // one of several goes
      cross = shareIn(panel.layer, event); // the keyboard goes on from there
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
        [hover, keys, less] = [null, true, false];
        const { zoom, corner } = view; // the crosshair stays in sight
        view.look(zoom, corner.map((v, k) => clamp(v, zoom * cross[k] - 0.95, zoom * cross[k] - 0.05)));
        point();
        say(panel);
        follows();
      } else if (event.key === "Enter" || event.key === "-") {
        ask(cross, event.key === "-" || event.shiftKey || event.altKey);
      } else if (event.key === "Backspace") undo();
      else if (event.key === "Escape") clear();
      else if (!view.key(event, cross.map((v, k) => v * view.zoom - view.corner[k]))) return;
      event.preventDefault();
      event.stopPropagation();
    };

    const listen = (panel) => {
      const on = (name, answer) => panel.surface.addEventListener(name, answer);
      on("pointerdown", (event) => {
        const ring = event.button === 0 && event.target.closest(".plrc-point");
        dragged = ring ? { index: ring.index, moved: false } : null;
        if (event.button === 1 && view.zoom > 1) event.preventDefault(); // else the browser scrolls
      });
      panel.press = zoomed(panel.surface, view, () => view.zoom > 1 && !dragged);
      on("pointermove", (event) => {
        [overRing, less] = [Boolean(event.target.closest?.(".plrc-point")), event.shiftKey || event.altKey];
        if (dragged) drag(panel, event);
        else if (event.pointerType !== "touch") pointTo(shareIn(panel.layer, event));
      });
      on("pointerup", () => dragged?.moved && askAll(awaited));
      on("pointercancel", () => ((dragged = awaited = null), drawRings(), follows()));
      on("pointerleave", () => dragged || ((hover = null), point(), follows()));
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
      on("blur", () => ((keys = false), write(aloud, ""), point(), follows()));
    };

    /** A point goes with the pointer, and the maps with it. */
    const drag = (panel, event) => {
      if (!panel.press.moved) return;
      if (!dragged.moved) (panel.surface.setPointerCapture(event.pointerId), past.push([...points()]));
      dragged.moved = true;
      const [u, v] = shareIn(panel.layer, event).map((share) => +share.toFixed(5));
      awaited = points().map((p, i) => (i === dragged.index ? { ...p, x: u, y: v } : p));
      hover = event.pointerType === "touch" ? null : [u, v];
      overRing = true;
      drawRings();
      point();
      follows();
    };

    // ---- Panels

    const addPanel = () => {
      const figure = make(grid, "figure", "plrc-panel");
      const surface = make(figure, "div", "plrc-canvas", { tabIndex: 0, role: "application" });
      const layer = make(surface, "div", "plrc-layer");
      const [image, map] = ["", "plrc-map"].map((name) => make(layer, "canvas", name));
      layer.insertAdjacentHTML("beforeend", OUTLINE);
      const [here, points, cross] = ["cell", "points", "cross"].map((name) => make(layer, "div", `plrc-${name}`));
      const words = make(figure, "figcaption"), bar = colourBar(figure), reading = make(figure, "div", "plrc-reading");
      const [title, caption] = ["title", "caption"].map((name) => make(words, "div", `plrc-${name}`));
      panels.push({ figure, surface, layer, image, map, here, points, cross, bar, reading, title, caption });
      listen(panels.at(-1));
    };

    const fill = (panel, spec, image) => {
      const { surface, map } = panel, { width, height } = scene.image;
      Object.assign(panel, { spec, mapped: Boolean(spec.map && spec.scale), note: "" });
      surface.style.aspectRatio = `${width} / ${height}`;
      surface.ariaLabel = `${[spec.title, spec.caption].filter(Boolean).join(", ")}. ${USE}`;
      paint(panel.image, image);
      map.hidden = !panel.mapped;
      if (panel.mapped) (colour(map, spec.map, spec.scale), lay(map, 0, 0, ...spec.map.extent));
      surface.querySelectorAll(".plrc-object path").forEach((path) => path.setAttribute("d", scene.outline || ""));
      write(panel.title, spec.title);
      write(panel.caption, spec.caption || "");
      panel.bar.fill(panel.mapped ? spec.scale : null);
      surface.dataset.drawn = Number(surface.dataset.drawn || 0) + 1;
    };

    /** Numbered rings, as plrc.figures draws them; those that there are stay, as one may be dragged. */
    const drawRings = () => panels.forEach(({ points: layer }) => {
      points().forEach(({ x, y, negative }, i) => {
        const ring = layer.children[i] || make(layer, "div"), number = ring.firstChild || make(ring, "b");
        ring.index = i;
        ring.className = `plrc-point${negative ? " negative" : ""}${x < 0.85 ? "" : " end"}`;
        [number.className, number.textContent] = [y > 0.1 ? "" : "below", i + 1];
        [ring.style.left, ring.style.top] = [percent(x), percent(y)];
      });
      while (layer.children.length > points().length) layer.lastChild.remove();
    });

    // ---- Scenes

    const blank = (text) => {
      [scene, grid.hidden, empty.hidden] = [null, true, false];
      write(empty, text);
    };

    /** All at once, when the image is there: until then the last scene stays. */
    const change = (next, [image]) => {
      if (scene?.image.src !== next.image.src) (view.look(1), (past = []));
      [scene, awaited, previewed] = [next, null, false];
      while (panels.length < scene.panels.length) addPanel();
      for (const { figure } of panels.splice(scene.panels.length)) figure.remove();
      grid.style.setProperty("--widest", `calc(70vh * ${scene.image.width / scene.image.height})`);
      grid.style.setProperty("--count", panels.length);
      panels.forEach((panel, i) => fill(panel, scene.panels[i], image));
      [grid.hidden, empty.hidden] = [false, true];
      drawRings();
      enliven();
      if (scene.live && lacks().length) emit({ lacks: lacks() });
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
    const whole = make(bar, "button", "", { type: "button", textContent: "Whole image", disabled: true });
    whole.title = "Ctrl and the wheel, + or two fingers enlarge; 0 goes back.";
    whole.onclick = () => view.look(1);
    const followed = make(bar, "label", "", { title: "Maps show what a click would answer." });
    const follow = make(followed, "input", "", { type: "checkbox", checked: true, onchange: follows });
    followed.append("Follow the pointer");
    const opacity = make(make(bar, "label", "", { textContent: "Opacity of the maps" }), "input");
    Object.assign(opacity, { type: "range", max: 1, step: 0.05, value: 1 });
    opacity.oninput = () => grid.style.setProperty("--opacity", opacity.value);
    blank(EMPTY);
    return { show, take };
  };
})();

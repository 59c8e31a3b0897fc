// Points, regions or images as dots, a plane for each network; marks are shown in all planes, and in the images.
//
// plrc.scatter(element, emit) → {show(scene)}. A scene:
//   kind       "points", "regions" or "images": what the samples are
//   images     [{src, width, height, name}]: what samples lie in; src is a thumbnail, width and height are its sides
//   samples    {image: [k], box: [[x0, y0, x1, y1]]}: each sample's image, and what it covers of it, in [0, 1]
//   groupings  [{name: "class", names: ["disc", …], of: [0, …]}]: ways to colour, each sample's category in each
//   planes     [{name, caption, coordinates: [[a, b]]}]: one for each network, of the same samples
//   note       a sentence for when nothing is marked
//   key        two scenes of one key are the same; may be missing
// emit gets {indices} when samples were marked.
(() => {
  const { make, write, framed, watch, sized, placeIn, stroke, polyline, outline, loader, clamp, zooming, zoomed,
          ARROWS, nearest, towards } = plrc.common;
  const REACH = 10; // CSS pixels from the pointer to a dot that it means
  const MOST = 12; // images in the strip
  const WIDE = 150, CARD = 148; // the longer side of an image in the strip, of the crop in the card
  const FRAME = 9; // a sample smaller than so many pixels gets its dot's mark in an image, not a frame
  const CROPS = 3; // so far enlarged, dots are seen as what they are of
  const LIGHT = "#f0f0f0"; // on a dark page, of the category that is nearly black

  const drawDot = (context, { colour, shape }, place, radius, edge, width) => {
    outline(context, shape, place, radius);
    context.lineJoin = "round";
    stroke(context, [edge, 2 * width]); // most of it outside the dot, so that neighbours stay apart
    context.fillStyle = colour;
    context.fill();
  };

  /** The least and the largest value on each axis. */
  const spans = (points) => [0, 1].map((axis) => points.reduce(
    ([low, high], point) => [Math.min(low, point[axis]), Math.max(high, point[axis])], [Infinity, -Infinity]));

  const path = document.createElement("canvas").getContext("2d"); // knows what lies within a line

  const counted = (values) => {
    const sizes = new Map();
    for (const value of values) sizes.set(value, (sizes.get(value) || 0) + 1);
    return [...sizes].sort((a, b) => b[1] - a[1] || a[0] - b[0]);
  };
  const count = (n, noun) => `${n} ${n === 1 ? noun.replace(/s$/, "") : noun}`;

  plrc.scatter = (element, emit) => {
    element.replaceChildren();
    const root = make(element, "div", "plrc-viewer plrc-scatter"), bar = make(root, "div", "bar");
    const colourBy = make(make(bar, "label", "", { textContent: "Colour by " }), "select");
    const markAll = make(make(bar, "label", "", { textContent: "Mark all of " }), "select");
    const clear = make(bar, "button", "", { type: "button", textContent: "Clear marks", onclick: () => select([]) });
    const body = make(root, "div", "body"), row = make(body, "div", "planes");
    const legend = make(body, "div", "legend", { role: "group", ariaLabel: "Legend" });
    const status = make(root, "p", "status", { role: "status" });
    const strip = make(root, "div", "strip"), card = make(root, "div", "card", { ariaHidden: "true" });
    const spoken = make(root, "div", "plrc-aloud spoken", { ariaLive: "polite" }), load = loader();
    let scene = null, bitmaps = [], planes = [], grouping = null;
    let look = null; // of dots: {styles, of, shown, order, radius, paper, ink}
    let selected = new Set(), only = new Set(); // samples; categories, empty when all are shown
    let hovered = -1, under = null; // the hovered sample, and the plane in which it is, if in one

    const imageOf = (sample) => scene.samples.image[sample];
    const membersOf = (k) => scene.samples.image.flatMap((image, i) => (image === k ? [i] : []));
    const toldOf = (sample) => scene.groupings // its image is named anyway
      .filter((g) => g.name !== "image").map((g) => `${g.name}: ${g.names[g.of[sample]]}`);

    // ---- Colours, marks and the legend

    const recolour = () => {
      if (!scene) return;
      const { categories, markers, other, most } = plrc.look, n = categories.length;
      const of = grouping ? grouping.of : scene.samples.image.map(() => 0), names = grouping ? grouping.names : [""];
      const { backgroundColor: paper, color: ink } = getComputedStyle(root);
      const dark = (paper.match(/[\d.]+/g) || [765]).slice(0, 3).reduce((sum, part) => sum + Number(part), 0) < 384;
      const sizes = new Map(counted(of)), told = [...sizes.keys()].slice(0, most).sort((i, j) => i - j); // the largest
      const styles = told.map((_, i) => {
        const light = dark && i % n === n - 1, edge = light ? "black" : "white"; // edge: in images
        return { colour: light ? LIGHT : categories[i % n], shape: markers[Math.floor(i / n)], edge };
      });
      const rest = sizes.size - told.length, places = new Map(told.map((category, i) => [category, i]));
      if (rest) styles.push({ colour: other, shape: "o", edge: "white" });
      const marks = of.map((category) => places.get(category) ?? told.length);
      look = {
        styles, paper, ink, rest,
        names: [...told.map((category) => names[category]), `${rest} others`],
        of: marks,
        shown: marks.map((mark) => !only.size || only.has(mark)),
        order: [...of.keys()].sort((i, j) => sizes.get(of[j]) - sizes.get(of[i]) || i - j), // the rarer, the further up
        radius: clamp(115 / Math.sqrt(of.length), 2.4, 5.5),
      };
      planes.forEach((plane) => plane.draw());
      drawLegend();
      tell();
    };

    const drawLegend = () => {
      const focus = [...legend.children].indexOf(document.activeElement), scroll = legend.scrollTop;
      legend.replaceChildren();
      legend.hidden = !grouping;
      if (!grouping) return;
      make(legend, "div", "title", { textContent: grouping.name });
      const sizes = new Map(counted(look.of));
      look.styles.forEach((style, i) => {
        const button = make(legend, "button", "", { type: "button", ariaPressed: String(only.has(i)) });
        drawDot(sized(make(button, "canvas"), 14, 14), style, [7, 7], 4.5, look.paper, 0.6);
        make(button, "span", "name", { textContent: look.names[i], title: look.names[i] });
        make(button, "span", "number", { textContent: sizes.get(i) || 0 });
        button.onclick = () => (only.delete(i) || only.add(i), recolour());
      });
      const hint = (textContent) => make(legend, "div", "hint", { textContent });
      if (look.rest) hint("The largest have a mark of their own.");
      hint(only.size ? "Click again to show all." : "Click to show only one.");
      legend.scrollTop = scroll;
      if (focus >= 0) legend.children[focus]?.focus();
    };

    // ---- What is marked and hovered

    const select = (samples) => {
      selected = new Set(samples);
      planes.forEach((plane) => plane.mark());
      markAll.value = "";
      tell();
      emit({ indices: [...selected].sort((i, j) => i - j) });
    };

    const toggle = (sample) => select(selected.has(sample) ? [...selected].filter((i) => i !== sample)
      : [...selected, sample]);

    const hover = (sample, plane = null, speak = false) => {
      if (sample !== hovered) {
        const changed = [hovered, sample].filter((i) => i >= 0).map(imageOf);
        [hovered, under] = [sample, plane];
        planes.forEach((each) => each.mark());
        drawFigures((k) => changed.includes(k));
        drawCard();
      }
      const marked = selected.has(sample) ? ["marked"] : [];
      if (speak) write(spoken, [scene.images[imageOf(sample)].name, ...toldOf(sample), ...marked].join(", "));
    };

    /** The sentence below the planes, and the images of what is marked; those with most marks come first. */
    const tell = () => {
      const n = scene.samples.image.length, images = counted([...selected].map(imageOf));
      clear.disabled = !selected.size;
      const groups = grouping ? counted([...selected].map((i) => grouping.of[i])) : [];
      const parts = groups.slice(0, 5).map(([category, size]) => `${grouping.names[category]} (${size})`);
      if (groups.length > 5) parts.push(`${groups.length - 5} more`);
      const by = parts.length && grouping.name !== "image" ? `, by ${grouping.name}: ${parts.join(", ")}` : "";
      write(status, selected.size
        ? `${selected.size} of ${count(n, scene.kind)} marked, in ${count(images.length, "images")}${by}.`
        : `${count(n, scene.kind)}. ${scene.note || ""}`);
      strip.replaceChildren();
      for (const [k, size] of images.slice(0, MOST)) {
        const figure = make(strip, "figure", "", { k }), { name } = scene.images[k];
        make(figure, "canvas");
        const textContent = scene.kind === "images" ? name : `${name}: ${size} of ${membersOf(k).length}`;
        make(figure, "figcaption", "", { textContent });
      }
      const more = images.length - MOST;
      if (more > 0) make(strip, "p", "hint", { textContent: `and ${count(more, "images")} more` });
      drawFigures();
      drawCard();
    };

    // ---- Images

    /** Draws a part of an image. Returns mark(sample, strength), strength 0: not marked, 1: marked, 2: hovered. */
    const drawPart = (canvas, k, wide, [x0, y0, x1, y1]) => {
      const { width: w, height: h } = bitmaps[k], high = Math.ceil((wide * (y1 - y0) * h) / ((x1 - x0) * w));
      const context = sized(canvas, wide, high);
      context.imageSmoothingQuality = "high";
      context.drawImage(bitmaps[k], x0 * w, y0 * h, (x1 - x0) * w, (y1 - y0) * h, 0, 0, wide, high);
      return (sample, strength) => {
        const [left, top, right, bottom] = scene.samples.box[sample];
        const { colour, edge, shape } = look.styles[look.of[sample]];
        const [u0, u1] = [left, right].map((x) => ((x - x0) / (x1 - x0)) * wide);
        const [v0, v1] = [top, bottom].map((y) => ((y - y0) / (y1 - y0)) * high);
        if (Math.max(u1 - u0, v1 - v0) < FRAME) {
          const [radius, width] = [[1.5, 0.5], [4, 1.4], [6, 1.8]][strength];
          return drawDot(context, { colour, shape }, [(u0 + u1) / 2, (v0 + v1) / 2], radius, edge, width);
        }
        const inset = [0.5, 2, 2.5][strength]; // so that the frames of neighbours lie beside each other
        context.beginPath();
        context.rect(u0 + inset, v0 + inset, Math.max(1, u1 - u0 - 2 * inset), Math.max(1, v1 - v0 - 2 * inset));
        stroke(context, ...[[["#ffffff80", 1]], [[edge, 4], [colour, 2.2]], [["white", 5], ["black", 3.4]]][strength]);
      };
    };

    const drawFigures = (which = () => true) => {
      const most = clamp((strip.clientWidth - 20) / 3, 90, WIDE); // three beside each other on a phone
      for (const figure of strip.querySelectorAll("figure")) {
        const { k } = figure;
        if (!which(k)) continue;
        const wide = Math.max(1, Math.round(Math.min(most, (most * bitmaps[k].width) / bitmaps[k].height)));
        const mark = drawPart(figure.firstChild, k, wide, [0, 0, 1, 1]);
        const rank = (i) => (i === hovered ? 2 : selected.has(i) ? 1 : 0);
        membersOf(k).sort((i, j) => rank(i) - rank(j)).forEach((i) => mark(i, rank(i)));
      }
    };

    /** In the strip: the smallest sample that holds the pointer, else the one whose middle is near, or −1. */
    const sampleAt = (event) => {
      const figure = event.target.closest("figure");
      if (!figure || event.target.tagName !== "CANVAS") return -1;
      const { clientWidth: w, clientHeight: h } = figure.firstChild, [x, y] = placeIn(figure.firstChild, event);
      const cost = (i) => {
        const [x0, y0, x1, y1] = scene.samples.box[i];
        if (x0 * w <= x && x < x1 * w && y0 * h <= y && y < y1 * h) return (x1 - x0) * (y1 - y0); // at most 1
        return 1 + Math.hypot(((x0 + x1) * w) / 2 - x, ((y0 + y1) * h) / 2 - y);
      };
      const [best] = membersOf(figure.k).sort((i, j) => cost(i) - cost(j));
      return cost(best) < 1 + FRAME ? best : -1;
    };
    strip.onpointermove = (event) => hover(sampleAt(event));
    strip.onpointerleave = () => hover(-1);
    strip.onclick = (event) => sampleAt(event) >= 0 && toggle(sampleAt(event));

    /** A square around a sample: 1.5 times as large, or a third of the image, as a cell alone says little. */
    const around = (sample) => {
      const [x0, y0, x1, y1] = scene.samples.box[sample], { width: w, height: h } = bitmaps[imageOf(sample)];
      const square = Math.max(Math.max(w, h) / 3, 1.5 * (x1 - x0) * w, 1.5 * (y1 - y0) * h);
      const part = (low, high, whole) => {
        const side = Math.min(1, square / whole), start = clamp((low + high - side) / 2, 0, 1 - side);
        return [start, start + side];
      };
      const [[u0, u1], [v0, v1]] = [part(x0, x1, w), part(y0, y1, h)];
      return [u0, v0, u1, v1];
    };

    /** Beside a hovered dot: where it comes from. */
    const drawCard = () => {
      card.style.display = under && hovered >= 0 ? "block" : "none";
      if (!under || hovered < 0) return;
      const k = imageOf(hovered), [u0, v0, u1, v1] = around(hovered), { width: w, height: h } = bitmaps[k];
      card.replaceChildren();
      const wide = Math.round(CARD * Math.min(1, ((u1 - u0) * w) / ((v1 - v0) * h)));
      drawPart(make(card, "canvas"), k, wide, [u0, v0, u1, v1])(hovered, 1);
      make(card, "b", "", { textContent: scene.images[k].name });
      toldOf(hovered).forEach((textContent) => make(card, "div", "", { textContent }));
      const frame = root.getBoundingClientRect(), { x, y } = under.over.at(hovered), own = card.offsetWidth;
      const room = root.clientWidth - own, left = x - frame.left + (x - frame.left + 16 <= room ? 16 : -16 - own);
      card.style.left = `${clamp(left, 0, Math.max(0, room))}px`; // beside the dot where there is room, always inside
      card.style.top = `${Math.max(0, y - frame.top - card.offsetHeight / 2)}px`;
    };

    // ---- A plane: dots on one canvas, what is marked on another above it

    const addPlane = ({ name, caption, coordinates }, flatness) => {
      const figure = make(row, "figure");
      make(figure, "figcaption", "", { textContent: name });
      const frame = make(figure, "div", "plane"), base = make(frame, "canvas");
      const over = make(frame, "canvas", "", { tabIndex: 0, role: "application" });
      make(figure, "figcaption", "caption", { textContent: caption });
      over.ariaLabel = `${name}: ${count(coordinates.length, scene.kind)} as dots. ${caption}. Arrow keys go to the ` +
        "next dot, Enter marks it, Escape clears; plus, minus and 0, or Ctrl and the wheel, enlarge.";
      const [[x0, x1], [y0, y1]] = spans(coordinates);
      let width = 0, height = 0, at = []; // each dot's place
      let lasso = null, held = false; // held: the space bar
      let sprites = [], radius = 0, half = 0; // of each style its dot and its marked dot, drawn once; half their side

      const draw = () => {
        [width, height] = [frame.clientWidth, Math.round(frame.clientWidth * flatness)];
        if (!width) return;
        frame.style.height = `${height}px`;
        const { zoom, corner } = view, sides = [width, height];
        const unit = (zoom * width) / (1.1 * Math.max(x1 - x0, (y1 - y0) / flatness, 1e-9)); // alike in both directions
        const [across, down] = corner.map((v, k) => (zoom / 2 - v) * sides[k]);
        at = coordinates.map(([x, y]) => [across + unit * (x - (x0 + x1) / 2), down - unit * (y - (y0 + y1) / 2)]);
        radius = look.radius * clamp(width / 440, 0.6, 1); // smaller on a small plane
        half = Math.ceil(1.4 * radius + 4);
        const looks = [[radius, look.paper, 0.6], [1.25 * radius + 0.5, look.ink, 1.2]];
        sprites = look.styles.map((style) => looks.map((how) => {
          const context = sized(document.createElement("canvas"), 2 * half, 2 * half);
          drawDot(context, style, [half, half], ...how);
          return context.canvas;
        }));
        const context = sized(base, width, height);
        for (const i of look.order) stamp(context, i, 0, look.shown[i] ? 1 : 0.07);
        if (zoom >= CROPS) drawCrops(context);
        sized(over, width, height);
        drawMarks();
      };

      /** In place of dots what they are of, where they do not cover one another. */
      const drawCrops = (context) => {
        const side = clamp(14 * view.zoom, 40, 84), placed = [];
        for (const i of [...look.order].reverse()) { // the rarer first
          const [x, y] = at[i], seen = look.shown[i] && x > 0 && y > 0 && x < width && y < height;
          if (!seen || placed.some(([u, v]) => Math.abs(u - x) < side && Math.abs(v - y) < side)) continue;
          placed.push(at[i]);
          const bitmap = bitmaps[imageOf(i)], [u0, v0, u1, v1] = around(i);
          const [w, h] = [(u1 - u0) * bitmap.width, (v1 - v0) * bitmap.height], scale = side / Math.max(w, h);
          const box = [x - (scale * w) / 2, y - (scale * h) / 2, scale * w, scale * h];
          context.drawImage(bitmap, u0 * bitmap.width, v0 * bitmap.height, w, h, ...box);
          context.beginPath();
          context.rect(...box);
          stroke(context, [look.paper, 4], [look.styles[look.of[i]].colour, 2.5]);
        }
      };

      const stamp = (context, i, which, alpha) => {
        const snap = (v) => Math.round((v - half) * devicePixelRatio) / devicePixelRatio;
        context.globalAlpha = alpha;
        context.drawImage(sprites[look.of[i]][which], snap(at[i][0]), snap(at[i][1]), 2 * half, 2 * half);
        context.globalAlpha = 1;
      };

      const drawMarks = () => {
        if (!width) return;
        const context = over.getContext("2d");
        context.clearRect(0, 0, width, height);
        base.style.opacity = selected.size ? 0.4 : 1; // marked dots stand out without drawing all dots again
        for (const i of selected) stamp(context, i, 1, look.shown[i] ? 1 : 0.15);
        if (hovered >= 0) {
          stamp(context, hovered, 1, 1);
          outline(context, "o", at[hovered], radius + 6);
          stroke(context, [look.paper, 5], [look.ink, 2]);
        }
        if (!lasso || lasso.length < 2) return;
        polyline(context, ...lasso);
        context.closePath();
        Object.assign(context, { globalAlpha: 0.12, fillStyle: look.ink });
        context.fill();
        context.globalAlpha = 1;
        stroke(context, [look.ink, 1.3, [4, 3]]);
      };
      const mark = framed(drawMarks);

      const found = (event) => nearest(at, placeIn(over, event), REACH, (i) => look.shown[i]);

      const view = zooming(() => draw(), 40);
      const press = zoomed(over, view, (event) => held || event.buttons === 4);

      const on = (name, answer) => over.addEventListener(name, answer, { passive: false });
      on("pointerdown", (event) => {
        over.setPointerCapture(event.pointerId);
        if (event.button) return event.preventDefault();
        over.focus({ preventScroll: true });
        lasso = press.fingers.size === 1 && !held ? [placeIn(over, event)] : null; // two fingers: no lasso, but a zoom
        if (event.pointerType !== "mouse") hover(found(event), plane);
      });
      on("pointermove", (event) => {
        if (!press.fingers.has(event.pointerId)) hover(found(event), plane);
        else if (lasso && press.moved) {
          lasso.push(placeIn(over, event));
          hover(-1);
          mark();
        }
      });
      on("pointerup", (event) => {
        const line = lasso || [], dot = found(event);
        lasso = null;
        mark();
        if (line.length === 1 && dot >= 0) toggle(dot);
        if (line.length < 2) return;
        polyline(path, ...line);
        const within = at.flatMap((place, i) => (look.shown[i] && path.isPointInPath(...place, "evenodd") ? [i] : []));
        select(event.shiftKey ? [...selected, ...within] : within);
      });
      on("pointercancel", () => ((lasso = null), mark()));
      // A finger leaves as soon as it is lifted; what it has touched is to be seen until it touches elsewhere.
      on("pointerleave", (event) => event.pointerType === "mouse" && hover(-1));
      on("blur", () => ((held = false), hover(-1)));
      on("keydown", (event) => {
        const shown = (i) => look.shown[i], arrow = ARROWS[event.key], middle = [width / 2, height / 2];
        if (arrow) {
          const next = hovered < 0 ? nearest(at, middle, Infinity, shown) : towards(at, at[hovered], arrow, shown);
          if (next >= 0) hover(next, plane, true);
        } else if (event.key === "Enter" && hovered >= 0) toggle(hovered);
        else if (event.key === "Escape") select([]);
        else if (event.key === " ") held = true;
        else if (!view.key(event, (hovered < 0 ? middle : at[hovered]).map((v, k) => v / [width, height][k]))) return;
        event.preventDefault();
      });
      on("keyup", (event) => event.key === " " && (held = false));

      const box = () => over.getBoundingClientRect();
      over.at = (sample) => ({ x: box().left + at[sample][0], y: box().top + at[sample][1] }); // in the window
      const plane = { over, draw, mark };
      planes.push(plane);
    };

    // ---- The scene

    const change = (next, decoded) => {
      [scene, bitmaps, hovered, under, planes] = [next?.planes ? next : null, decoded, -1, null, []];
      [selected, only] = [new Set(), new Set()];
      [row, legend, colourBy, markAll, strip].forEach((part) => part.replaceChildren());
      root.classList.toggle("empty", !scene);
      drawCard();
      if (!scene) return write(status, next?.note || "");
      grouping = scene.groupings.find((g) => g.name === grouping?.name) || scene.groupings[0] || null; // as before
      scene.groupings.forEach(({ name }) => make(colourBy, "option", "", { textContent: name, value: name }));
      if (grouping) colourBy.value = grouping.name;
      colourBy.parentElement.hidden = scene.groupings.length < 2;
      make(markAll, "option", "", { textContent: "an image …", value: "" });
      scene.images.forEach(({ name }, k) => make(markAll, "option", "", { textContent: name, value: k }));
      // All planes are as high as the one that needs most, but no square is exceeded; as in the printed figure.
      const sides = scene.planes.map(({ coordinates }) => spans(coordinates).map(([low, high]) => high - low));
      const flatness = Math.max(...sides.map(([across, up]) => (across > 0 ? clamp(up / across, 0.4, 1) : 1)));
      scene.planes.forEach((plane) => addPlane(plane, flatness));
      recolour();
    };

    const failed = () => change({ note: "An image could not be read: choose others." }, []);
    const show = (next) => {
      if (scene && next?.key && next.key === scene.key) return null; // the view was left and is back: marks stay
      return load((next?.images || []).map(({ src }) => src), (decoded) => change(next, decoded), failed);
    };

    colourBy.onchange = () => {
      [grouping, only] = [scene.groupings.find((g) => g.name === colourBy.value), new Set()];
      recolour();
    };
    markAll.onchange = () => {
      const k = markAll.value;
      if (k !== "") select(membersOf(Number(k)));
      markAll.value = k;
    };
    watch(root, recolour);
    return { show };
  };
})();

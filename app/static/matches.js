// Matches between two images: plrc.matches(element, emit) → {show(scene)}. A row for each network: both images on one
// canvas, with lines from where a point or region is to where the network finds it. Some points, the same in all rows,
// have a number, a colour and a line each (a network's overview, in their order); the others answer under the pointer,
// and are seen if they are asked for. A choice is shown in all rows.
//
// scene: {mode: "points" | "regions", views, within, left, right, source, rasters, networks, chosen}, as app/scenes.py
// makes it. Points are shares [x, y] of their image. emit gets {kind: "choose", network, index, point, place}: a match
// of that network, its start in the left image, and the same in the whole image; all null where nothing is chosen.
(() => {
  const { make, write, watch, bytes, sized, placeIn, stroke, polyline, outline, loader, clamp, minus, colourAt,
          colourBar, zooming, zoomed, ARROWS, nearest, towards } = plrc.common;
  const HALO = "rgba(255, 255, 255, 0.9)", INK = "#111", GREY = { colour: "#7a7f87", dash: [] };
  const SHAPES = { right: "o", wrong: "D", unknown: "o", hidden: "." };
  const MARGIN = 8, TITLE = 20, GAP = 44, REACH = 40; // REACH: how far from a mark a click still means it

  const look = (state) => ({ ...plrc.look.matches[state], shape: SHAPES[state] });
  const dashed = ({ dash }, width) => dash.map((length) => length * Math.max(2, width));
  const SIDES = [["left", "start"], ["right", "end"]]; // and which end of a match lies there
  const at = (box, [x, y]) => [box.x + x * box.w, box.y + y * box.h];
  const holds = ({ x, y, w, h }, place) => place[0] >= x && place[1] >= y && place[0] <= x + w && place[1] <= y + h;
  const within = ({ x, y, w, h }, place) => [clamp(place[0], x, x + w), clamp(place[1], y, y + h)];

  /** Draws in a box of a canvas alone. */
  const clipped = (context, { x, y, w, h }, draw) => {
    context.save();
    context.beginPath();
    context.rect(x, y, w, h);
    context.clip();
    draw();
    context.restore();
  };

  // ---- Marks

  const text = (context, [x, y], what, size, colour) => {
    Object.assign(context, { fillStyle: colour, textAlign: "center", textBaseline: "middle" });
    context.font = `600 ${size}px system-ui, sans-serif`;
    context.fillText(what, x, y + 0.5);
    Object.assign(context, { textAlign: "start", textBaseline: "alphabetic" });
  };

  const drawLine = (context, start, end, style, width) => {
    polyline(context, start, end);
    stroke(context, [HALO, width + (width < 2 ? 1.2 : 2)], [style.colour, width, dashed(style, width)]);
  };

  const isLight = (colour) => [1, 3, 5].reduce((sum, at, k) =>
    sum + parseInt(colour.slice(at, at + 2), 16) * [0.299, 0.587, 0.114][k], 0) > 140;

  /** A mark of radius r. */
  const drawMark = (context, place, r, { colour, shape }, label = "") => {
    for (const [radius, style] of [[r + (r < 5 ? 1 : 1.5), HALO], [r, colour]]) {
      context.fillStyle = style;
      outline(context, shape, place, radius);
      context.fill();
    }
    if (label !== "") text(context, place, label, 11, isLight(colour) ? INK : "#fff");
  };

  const drawCross = (context, [x, y], r = 6) => {
    for (const s of [-1, 1]) {
      polyline(context, [x - r, y - r * s], [x + r, y + r * s]);
      stroke(context, [HALO, 5], [INK, 2.2]);
    }
  };

  const drawFrame = (context, { x, y, w, h }, style) => {
    context.beginPath();
    context.rect(x - 1, y - 1, w + 2, h + 2);
    stroke(context, [style.colour, 2, dashed(style, 2)]);
  };

  // ---- Regions: a raster is {h, w, numbers, places, cells}; cells: 16 bits each, in base64: 1 + the region's place
  // among the numbers, or 0 where there is no region.

  const cellsOf = (raster) => (raster.decoded ||= new Uint16Array(bytes(raster.cells)));

  /** The number of the region at a place of the image, or −1. */
  const regionAt = (raster, [x, y]) => {
    const [row, column] = [Math.floor(y * raster.h), Math.floor(x * raster.w)];
    if (row < 0 || column < 0 || row >= raster.h || column >= raster.w) return -1;
    return raster.numbers[cellsOf(raster)[row * raster.w + column] - 1] ?? -1;
  };

  /** The path of the edges between cells that `differ` tells apart. */
  const edges = (context, raster, box, differ) => {
    const { h, w } = raster, cells = cellsOf(raster);
    const line = (...ends) => ends.forEach((end, k) => context[k ? "lineTo" : "moveTo"](...at(box, end)));
    context.beginPath();
    cells.forEach((here, k) => {
      const [i, j] = [Math.floor(k / w), k % w], [right, below] = [(j + 1) / w, (i + 1) / h];
      if (j + 1 < w && differ(here, cells[k + 1])) line([right, i / h], [right, below]);
      if (i + 1 < h && differ(here, cells[k + w])) line([j / w, below], [right, below]);
    });
  };

  /** All but one region in the dark, and a line around it. */
  const highlight = (context, raster, number, box) => {
    const kept = raster.numbers.indexOf(number) + 1;
    context.fillStyle = "rgba(0, 0, 0, 0.5)";
    cellsOf(raster).forEach((cell, k) => {
      if (cell === kept) return;
      const [x, y] = at(box, [(k % raster.w) / raster.w, Math.floor(k / raster.w) / raster.h]);
      context.fillRect(x, y, box.w / raster.w, box.h / raster.h);
    });
    edges(context, raster, box, (a, b) => (a === kept) !== (b === kept));
    stroke(context, [INK, 5], ["#fff", 2.5]);
  };

  // ---- Words

  const sentence = (scene, { region, right, visible, mutual, cycle, similarity }, i) => {
    const said = region ? [`region ${region[i].join(" → region ")}`] : [], what = region ? "region" : "place";
    if (right && !visible[i]) said.push(`${scene.right.name} does not show this ${what}`);
    else if (right && region) said.push(right[i] ? "right" : "wrong");
    else if (right) said.push(right[i] ? `right: within ${100 * scene.within} % of its true place (×)`
      : "wrong: × is its true place");
    said.push(`cosine ${minus(similarity[i].toFixed(3))}`);
    said.push(mutual[i] ? "mutual" : `not mutual: the way back ends ${(100 * cycle[i]).toFixed(1)} % off`);
    return `${said.join(" · ")}.`;
  };

  /** Which mark and line means what. */
  const legend = (parent, scene) => {
    const points = scene.mode === "points", own = points && { colour: "#555555" }; // each has its own
    const entry = (words, state, line, draw = null) => {
      const style = { ...look(state), ...own }, span = make(parent, "span");
      const context = sized(make(span, "canvas"), 34, 14);
      if (line) drawLine(context, [0, 7], [34, 7], style, 2);
      if (draw) draw(context, [17, 7], 5);
      else drawMark(context, [17, 7], 4.9, style);
      span.append(words);
    };
    if (!scene.networks[0].matches.right) return;
    ["right", "wrong"].forEach((state) => entry(state, state, true));
    if (!points) entry(`not in ${scene.right.name}`, "hidden", false);
    else entry("true place", "right", false, drawCross);
  };

  // ---- The region affinity matrix: {rows, columns: numbers of the regions, values: a list for each row, best: each
  // row's best column, same: the column of the same region or null, scale}. choose gets the number of a row's region.

  const heatMap = (element, scene, { rows, columns, values, best, same, scale }, choose) => {
    const table = make(element, "table", "live", { tabIndex: 0, role: "application" }), head = make(table, "tr");
    const bar = colourBar(make(element, "div", "scale")), said = make(element, "p", "said", { role: "status" });
    table.ariaLabel = `Region affinity matrix, ${rows.length} by ${columns.length}. ` +
      "Arrow keys go from cell to cell, Enter chooses the row's region.";
    let row = -1, cursor = null; // the marked row, the cell under the pointer
    make(head, "th", "", { textContent: `${scene.left.name} ↓ ${scene.right.name} →` });
    for (const column of columns) make(head, "th", "", { textContent: column });
    const cells = rows.map((name, i) => {
      const line = make(table, "tr");
      make(line, "th", "", { textContent: name });
      return columns.map((_, j) => {
        const textContent = best[i] !== j ? "" : scene.views && same[i] !== j ? "✕" : "●";
        const cell = make(line, "td", same[i] === j ? "same" : "", { textContent, at: [i, j] });
        cell.style.background = colourAt(values[i][j], scale);
        return cell;
      });
    });
    bar.fill(scale);

    const told = (i, j) => {
      const notes = `${best[i] === j ? ", the best of its row" : ""}${same[i] === j ? ", the same region" : ""}`;
      const where = `${scene.left.name} region ${rows[i]} × ${scene.right.name} region ${columns[j]}`;
      return `${where}: ${scale.quantity} ${minus(values[i][j].toFixed(3))}${notes}.`;
    };

    const draw = () => {
      const side = clamp(Math.min((element.clientWidth - 70) / columns.length, 460 / rows.length), 4, 24);
      table.style.setProperty("--side", `${side}px`);
      table.classList.toggle("small", side < 14); // too small for marks and numbers
      [...table.rows].forEach((line, i) => line.classList.toggle("chosen", row >= 0 && i === row + 1));
      table.querySelector(".here")?.classList.remove("here");
      if (cursor) cells[cursor[0]][cursor[1]].classList.add("here");
      const cell = cursor || (row >= 0 ? [row, best[row]] : null);
      bar.point(cell && values[cell[0]][cell[1]]);
      const key = `● best of its row${scene.views ? ", right · ✕ best of its row, wrong · □ the same region" : ""}`;
      write(said, cell ? told(...cell) : `${key}. Point at a cell for its value.`);
    };

    const point = (cell) => ((cursor = cell), draw());
    table.onpointermove = (event) => event.pointerType === "mouse" && point(event.target.at || null);
    table.onpointerleave = table.onblur = () => point(null);
    table.onclick = ({ target: { at: cell } }) => cell && (choose(rows[cell[0]]), point(cell));
    table.onkeydown = (event) => {
      const [i, j] = cursor || [Math.max(0, row), 0], [right, down] = (cursor && ARROWS[event.key]) || [0, 0];
      if (event.key in ARROWS) point([clamp(i + down, 0, rows.length - 1), clamp(j + right, 0, columns.length - 1)]);
      else if (event.key === "Enter" || event.key === " ") choose(rows[i]);
      else return;
      event.preventDefault();
    };
    return (region, anew) => {
      if (rows.indexOf(region) === row && !anew) return; // the pointer moves over the images
      row = rows.indexOf(region);
      draw();
    };
  };

  plrc.matches = (element, emit) => {
    element.replaceChildren();
    const root = make(element, "div", "plrc-viewer plrc-matches");
    const head = make(root, "div", "head"), body = make(root, "div", "rows"), load = loader();
    let scene = null, images = null, rows = [], preview = null, all = null, back = null, whole = null, source = null;
    let every = false; // whether the points without a line are seen
    const views = { left: zooming(() => draw()), right: zooming(() => draw()) }; // of all rows

    // ---- What is chosen is a place in the left image: networks may have kept other matches.

    /** The match of a network at a place, or −1: of its region, or of the very point. */
    const matchAt = ({ matches }, place) => {
      if (!place) return -1;
      if (scene.mode === "regions") {
        const region = regionAt(scene.rasters.left, place);
        return region < 0 ? -1 : matches.region.findIndex((pair) => pair[0] === region);
      }
      return nearest(matches.start, place, 1e-4);
    };

    const stateOf = (matches, i) => {
      if (!matches.right) return "unknown";
      return matches.visible[i] ? (matches.right[i] ? "right" : "wrong") : "hidden";
    };

    /** The look of a match, and its number; those of the overview have a colour of their own. */
    const styleOf = ({ matches, overview }, i) => {
      const style = look(stateOf(matches, i)), k = scene.mode === "points" ? overview.indexOf(i) : -1;
      return k < 0 ? [style, ""] : [{ ...style, colour: plrc.look.regions[k % plrc.look.regions.length] }, k + 1];
    };

    const choose = (number, index) => {
      const matches = number === null ? null : scene.networks[number].matches;
      scene.chosen = matches && matches.start[index];
      preview = null;
      draw();
      emit({ kind: "choose", network: number, index, point: scene.chosen, place: matches && matches.place[index] });
    };

    /** The match that a place of a row's canvas means, or −1. */
    const meant = ({ network, layout: { left }, images: { left: box } }, [x, y]) => {
      const place = [(x - box.x) / box.w, (y - box.y) / box.h], starts = network.matches.start.map((p) => at(box, p));
      if (scene.mode === "regions") return holds(left, [x, y]) ? matchAt(network, place) : -1;
      return nearest(starts, [x, y], REACH, (i) => holds(left, starts[i]));
    };

    /** Whether it was a key that enlarges: both images, around the ends of the match that is marked. */
    const enlarges = (event, network) => {
      const i = matchAt(network, preview || scene.chosen);
      return SIDES.map(([side, end]) => {
        const { zoom, corner } = views[side], place = i < 0 ? null : network.matches[end][i];
        return views[side].key(event, place ? place.map((v, k) => v * zoom - corner[k]) : [0.5, 0.5]);
      }).every(Boolean);
    };

    const makeRow = (network, number) => {
      const figure = make(body, "figure"), words = make(figure, "figcaption");
      make(words, "b", "", { textContent: network.name });
      words.append(` ${network.caption}`);
      const canvas = make(figure, "canvas", "live", { tabIndex: 0, role: "application" });
      const said = make(figure, "p", "said", { role: "status", ariaLive: "polite" });
      const row = { network, canvas, said, base: document.createElement("canvas"), drawn: "" };
      const { start } = network.matches, on = (name, answer) => canvas.addEventListener(name, answer);
      canvas.ariaLabel = `${network.name}: matches of ${scene.mode}, ${network.caption}. ` +
        "Arrow keys go from one to the next, Enter chooses, Escape takes the choice back; +, − and 0 enlarge.";
      if (network.matrix) {
        const indexOf = (region) => network.matches.region.findIndex((pair) => pair[0] === region);
        const rowChosen = (region) => indexOf(region) >= 0 && choose(number, indexOf(region));
        row.matrix = heatMap(make(figure, "div", "matrix"), scene, network.matrix, rowChosen);
      }
      const boxAt = (place) => SIDES.map(([side]) => ({ view: views[side], ...row.layout[side] }))
        .find((box) => holds(box, place));
      const press = zoomed(canvas, null, (event) => boxAt(placeIn(canvas, event))?.view.zoom > 1, boxAt);
      const show = (index) => ((preview = index < 0 ? null : start[index]), draw());
      on("pointermove", (event) => event.pointerType === "mouse" && show(meant(row, placeIn(canvas, event))));
      for (const name of ["pointerleave", "blur"]) on(name, () => show(-1));
      on("click", (event) => {
        const index = meant(row, placeIn(canvas, event));
        if (index < 0 || press.panned) return;
        if (matchAt(network, scene.chosen) === index) choose(null, null); // a second click takes it back
        else choose(number, index);
      });
      on("keydown", (event) => {
        const from = preview || scene.chosen, step = ARROWS[event.key];
        if (step) {
          const next = from ? towards(start, from, step) : nearest(start, [0.5, 0.5]);
          if (next >= 0) show(next);
        } else if (event.key === "Enter" || event.key === " ") {
          const index = matchAt(network, preview);
          if (index >= 0) choose(number, index);
        } else if (event.key === "Escape") choose(null, null);
        else if (!enlarges(event, network)) return;
        event.preventDefault();
      });
      return row;
    };

    // ---- Drawing

    const layoutOf = (width) => {
      const aspects = [scene.left, scene.right].map((side) => side.width / side.height), room = width - 2 * MARGIN;
      const stacked = width < 500 || Math.min(...aspects) > 2, tallest = scene.networks.length > 1 ? 390 : 480;
      const common = Math.min(tallest, stacked ? Infinity : (room - GAP) / (aspects[0] + aspects[1]));
      const [left, right] = aspects.map((aspect) => {
        const h = Math.min(common, room / aspect);
        return { x: MARGIN, y: TITLE, w: h * aspect, h };
      });
      if (stacked) right.y += left.h + GAP;
      else right.x += left.w + GAP;
      return { left, right, width: Math.max(left.x + left.w, right.x + right.w) + MARGIN,
               height: Math.max(left.y + left.h, right.y + right.h) + MARGIN };
    };

    /** Some matches: their lines, and over all lines their ends, as far as they are seen. */
    const drawMatches = (context, { network, layout, images: boxes }, all, bold) => {
      const { matches } = network, points = scene.mode === "points";
      const placed = all.map((i) => [i, SIDES.map(([side, end]) => at(boxes[side], matches[end][i]))]);
      const seen = (places) => places.map((place, v) => holds(layout[SIDES[v][0]], place));
      const kept = placed.filter(([, places]) => seen(places).some(Boolean));
      for (const [i, ends] of kept) {
        const line = ends.map((place, v) => within(layout[SIDES[v][0]], place));
        drawLine(context, ...line, styleOf(network, i)[0], bold ? 3 : 1.6);
      }
      for (const [i, ends] of bold || points ? kept : []) { // else the regions have their numbers
        const [style, number] = styleOf(network, i), names = matches.region?.[i] || [number, number];
        const from = points ? { ...style, shape: "o" } : style; // only where a point's match ends it can be wrong
        const shown = seen(ends), r = points ? (number ? 8 : 6) : 11;
        [from, style].forEach((one, v) => shown[v] && drawMark(context, ends[v], r, one, names[v]));
        const truth = bold && points && matches.truth && matches.visible[i] && at(boxes.right, matches.truth[i]);
        if (truth && holds(layout.right, truth)) drawCross(context, truth);
      }
    };

    /** All that does not change under the pointer: images, regions, the marks of all matches, some lines. */
    const drawBase = (row) => {
      const { base, network, layout, images: boxes } = row, { matches, tints, overview } = network;
      const context = sized(base, layout.width, layout.height), points = scene.mode === "points";
      for (const [v, [side]] of SIDES.entries()) {
        const box = layout[side], { x, y, w, h } = boxes[side];
        const fill = (src) => context.drawImage(images.get(src), x, y, w, h);
        clipped(context, box, () => {
          fill(scene[side].src);
          if (!tints) return;
          context.imageSmoothingEnabled = false;
          fill(tints[side]);
          edges(context, scene.rasters[side], boxes[side], (a, b) => a !== b);
          stroke(context, ["#fff", 1.2]);
        });
        drawFrame(context, box, scene.views ? plrc.look.views[v] : GREY);
        Object.assign(context, { fillStyle: getComputedStyle(root).color, font: "600 13px system-ui, sans-serif" });
        context.fillText(scene[side].title, box.x, box.y - 6, box.w);
      }
      for (const [i, start] of every && points ? matches.start.entries() : []) {
        const place = at(boxes.left, start);
        if (holds(layout.left, place)) drawMark(context, place, 3.5, look(stateOf(matches, i)));
      }
      if (!scene.chosen) drawMatches(context, row, overview, false);
      if (points) return;
      for (const [side] of SIDES) { // over the lines: a region's number, and what its match is worth
        const { places, numbers } = scene.rasters[side];
        places.map((place) => at(boxes[side], place)).forEach((place, r) => {
          if (!holds(layout[side], place)) return;
          const i = side === "left" ? matches.region.findIndex((pair) => pair[0] === numbers[r]) : -1;
          const style = i < 0 ? { colour: INK, shape: "o" } : look(stateOf(matches, i));
          drawMark(context, place, 9.5, style, numbers[r]);
        });
      }
    };

    const drawRow = (row) => {
      const { network, canvas, base, said } = row, width = canvas.parentElement.clientWidth;
      const seen = SIDES.flatMap(([side]) => [views[side].zoom, views[side].corner]);
      const key = [width, devicePixelRatio, getComputedStyle(root).color, Boolean(scene.chosen), every, seen].join();
      const anew = row.drawn !== key;
      if (anew) {
        [row.layout, row.drawn, row.images] = [layoutOf(width), key, {}];
        for (const [side] of SIDES) {
          const { x, y, w, h } = row.layout[side], { zoom, corner } = views[side];
          row.images[side] = { x: x - corner[0] * w, y: y - corner[1] * h, w: zoom * w, h: zoom * h };
        }
        drawBase(row);
      }
      const { layout } = row, context = sized(canvas, layout.width, layout.height);
      context.drawImage(base, 0, 0, layout.width, layout.height);
      const chosen = matchAt(network, scene.chosen), hovered = matchAt(network, preview);
      const marked = hovered >= 0 ? hovered : chosen, region = network.matches.region?.[marked];
      const { rasters } = scene;
      if (region) SIDES.forEach(([side], v) => clipped(context, layout[side], () =>
        highlight(context, rasters[side], region[v], row.images[side])));
      drawMatches(context, row, [...new Set([chosen, hovered])].filter((i) => i >= 0), true);
      write(said, marked >= 0 ? sentence(scene, network.matches, marked)
        : preview || scene.chosen ? "No match is kept here." : "");
      if (row.matrix) row.matrix(region ? region[0] : null, anew);
    };

    /** The whole image, with where the two views lie in it, and the chosen place. */
    const drawSource = () => {
      const { width, height, src, boxes } = scene.source, scale = 150 / Math.max(width, height);
      const box = { x: 3, y: 3, w: width * scale, h: height * scale };
      const context = sized(source, box.w + 6, box.h + 6);
      context.drawImage(images.get(src), box.x, box.y, box.w, box.h);
      boxes.forEach(([x0, y0, x1, y1], v) => {
        const [x, y] = at(box, [x0, y0]), view = { x, y, w: (x1 - x0) * box.w, h: (y1 - y0) * box.h };
        drawFrame(context, view, { colour: "#fff", dash: [] });
        drawFrame(context, view, plrc.look.views[v]);
        const top = v ? y + view.h - 15 : y; // at the other's opposite corner
        context.fillStyle = plrc.look.views[v].colour;
        context.fillRect(x, top, 15, 15);
        text(context, [x + 7.5, top + 7.5], v + 1, 11, "#fff");
      });
      const place = scene.networks.map((one) => one.matches.place[matchAt(one, scene.chosen)]).find(Boolean);
      if (place) drawMark(context, at(box, place), 5, { colour: INK, shape: "o" });
    };

    const draw = () => {
      if (!scene || !root.clientWidth) return; // in a tab that is not open
      rows.forEach(drawRow);
      all.ariaPressed = String(every);
      back.disabled = !scene.chosen;
      whole.disabled = Object.values(views).every(({ zoom }) => zoom === 1);
      root.classList.toggle("zoomed", !whole.disabled);
      if (source) drawSource();
    };

    const change = (next, sources, bitmaps) => {
      const others = SIDES.filter(([side]) => scene?.[side].src !== next?.[side].src);
      [scene, preview, source] = [null, null, null]; // nothing is drawn now
      others.forEach(([side]) => views[side].look(1));
      scene = next && { ...next };
      images = new Map(sources.map((src, i) => [src, bitmaps[i]]));
      head.replaceChildren();
      body.replaceChildren();
      rows = [];
      if (!scene) return;
      const label = "The whole image, with the frames of view 1 and view 2";
      if (scene.source) source = make(head, "canvas", "", { role: "img", ariaLabel: label });
      const key = make(head, "div", "legend");
      legend(key, scene);
      const button = (textContent, onclick) => make(key, "button", "", { type: "button", textContent, onclick });
      all = button("All points", () => ((every = !every), draw()));
      all.hidden = scene.mode !== "points";
      back = button("Clear choice", () => choose(null, null));
      whole = button("Whole images", () => SIDES.forEach(([side]) => views[side].look(1)));
      whole.title = "Ctrl and the wheel, two fingers, + and − enlarge; 0 goes back.";
      rows = scene.networks.map(makeRow);
      draw();
    };

    const show = (next) => {
      const sources = next ? [next.left.src, next.right.src, next.source?.src] : [];
      for (const { tints } of next ? next.networks : []) if (tints) sources.push(tints.left, tints.right);
      return load(sources, (bitmaps) => change(next, sources, bitmaps));
    };

    watch(root, draw);
    return { show };
  };
})();

// Matches between two pictures: plrc.pairs(element, emit) → {show(scene)}. A row a network: both pictures on one canvas,
// with lines from where a point or region is to where the network finds it. A choice is shown in all rows at once.
//
// scene: {mode: "points" | "regions", views, within, left, right, source, rasters, networks, chosen}, as app/match_scene.py
// makes it. Points are shares (x, y) of their picture. emit gets {kind: "choose", network, index, point, place}: the match
// of that network, its start in the left picture, and the same in the whole picture; all null where nothing is chosen.
(() => {
  const plrc = (window.plrc = window.plrc || {});
  const parts = (plrc.pairsParts = plrc.pairsParts || {}); // pairs_parts.js: what is drawn, one function a thing

  // Colours, lines and shapes of plrc/figures/style.py: a right match is told from a wrong one without colour too.
  const LOOK = {
    right: { colour: "#0072b2", dash: [], shape: "circle" },
    wrong: { colour: "#e69f00", dash: [8, 4], shape: "diamond" },
    unknown: { colour: "#7a7f87", dash: [], shape: "circle" },
    hidden: { colour: "#7a7f87", dash: [2, 4], shape: "dot" },
  };
  const FRAMES = [["#0072b2", []], ["#d55e00", [6, 3]]]; // of the two views
  const MARGIN = 8, TITLE = 20, GAP = 44, REACH = 40; // CSS pixels; REACH: how far from a mark a click still means it
  const STYLE = `
    .plrc-pairs { color: var(--body-text-color, #1f2937); font: 14px/1.45 system-ui, sans-serif; }
    .plrc-pairs .head { display: flex; flex-wrap: wrap; gap: 8px 20px; align-items: flex-end; margin-bottom: 6px; }
    .plrc-pairs .legend { display: flex; flex-wrap: wrap; gap: 2px 14px; align-items: center; flex: 1 1 240px; }
    .plrc-pairs .legend span { display: inline-flex; align-items: center; gap: 5px; white-space: nowrap; }
    .plrc-pairs figure { margin: 0 0 14px; } .plrc-pairs figcaption { overflow-wrap: anywhere; }
    .plrc-pairs canvas { display: block; max-width: 100%; touch-action: manipulation; border-radius: 4px; }
    .plrc-pairs canvas.live { cursor: crosshair; }
    .plrc-pairs canvas:focus-visible, .plrc-pairs button:focus-visible {
      outline: 3px solid var(--color-accent, #f97316); outline-offset: 2px; }
    .plrc-pairs .said { margin: 2px 0 0; min-height: 1.45em; font-variant-numeric: tabular-nums; }
    .plrc-pairs button { font: inherit; color: inherit; padding: 2px 10px; border-radius: 6px; cursor: pointer;
      border: 1px solid var(--border-color-primary, #e5e7eb); background: var(--background-fill-primary, #fff); }
    .plrc-pairs button:disabled { opacity: 0.45; cursor: default; }`;

  plrc.pairs = (element, emit) => {
    let scene = null, rows = [], preview = null, turn = 0;
    element.innerHTML = `<style>${STYLE}</style><div class="plrc-pairs"><div class="head"></div><div class="rows"></div></div>`;
    const root = element.querySelector(".plrc-pairs");
    const [head, body] = root.children;

    // ---- What is chosen is a place in the left picture: networks with other grids have other matches there.

    /** The match of a network at a place, or −1: in its region, or in its cell of the map. */
    const matchAt = (network, place) => {
      if (!place) return -1;
      if (scene.mode === "regions") {
        const region = parts.at(scene.rasters.left, place);
        return region < 0 ? -1 : network.matches.region.findIndex((pair) => pair[0] === region);
      }
      const cell = (point) => network.cell.map((side, axis) => Math.floor(point[axis] / side)).join();
      const wanted = cell(place);
      return network.matches.start.findIndex((start) => cell(start) === wanted);
    };

    const stateOf = (matches, i) => {
      if (!matches.right) return "unknown";
      return matches.visible[i] ? (matches.right[i] ? "right" : "wrong") : "hidden";
    };

    const choose = (network, index) => {
      const matches = network >= 0 ? scene.networks[network].matches : null;
      const point = matches ? matches.start[index] : null;
      scene.chosen = point;
      preview = null;
      draw();
      emit({ kind: "choose", network: matches ? network : null, index: matches ? index : null, point,
             place: matches ? matches.place[index] : null });
    };

    /** The match whose start is nearest to a point of the canvas, or −1 far from all; in a region, that of the region. */
    const nearest = (row, x, y) => {
      const { left } = row.layout;
      const place = [(x - left.x) / left.w, (y - left.y) / left.h];
      const inside = place.every((v) => v >= 0 && v < 1);
      if (scene.mode === "regions") return inside ? matchAt(row.network, place) : -1;
      let best = -1, least = REACH;
      row.network.matches.start.forEach(([sx, sy], i) => {
        const away = Math.hypot(left.x + sx * left.w - x, left.y + sy * left.h - y);
        if (away < least) [best, least] = [i, away];
      });
      return best;
    };

    // ---- Rows

    const makeRow = (network, number) => {
      const figure = document.createElement("figure");
      figure.innerHTML = `<figcaption><b></b> <span></span></figcaption><canvas class="live" tabindex="0"></canvas>
        <p class="said" role="status" aria-live="polite"></p><div></div>`;
      const [name, caption] = figure.querySelectorAll("figcaption > *");
      name.textContent = network.name;
      caption.textContent = network.caption;
      body.append(figure);
      const [, canvas, said, below] = figure.children;
      const row = { network, number, canvas, said, base: document.createElement("canvas"), drawn: "" };
      const things = scene.mode === "regions" ? "regions" : "points";
      canvas.setAttribute("role", "application");
      canvas.setAttribute("aria-label", `${network.name}: matches of ${things}, ${network.caption}. ` +
        "Arrow keys go from one to the next, Enter chooses, Escape shows all.");
      if (network.matrix) {
        row.matrix = plrc.pairsMatrix(below, network.matrix, (region) => {
          const index = network.matches.region.findIndex((pair) => pair[0] === region);
          if (index >= 0) choose(number, index);
        });
      }
      const show = (index) => {
        preview = index < 0 ? null : network.matches.start[index];
        draw();
      };
      canvas.addEventListener("pointermove", (event) => {
        if (event.pointerType === "mouse") show(nearest(row, event.offsetX, event.offsetY));
      });
      canvas.addEventListener("pointerleave", () => show(-1));
      canvas.addEventListener("click", (event) => {
        const index = nearest(row, event.offsetX, event.offsetY);
        if (index < 0) return;
        if (scene.chosen && matchAt(network, scene.chosen) === index) choose(-1, -1); // a second click takes it back
        else choose(number, index);
      });
      canvas.addEventListener("blur", () => show(-1));
      canvas.addEventListener("keydown", (event) => {
        const { start } = network.matches;
        const from = preview || scene.chosen || [0.5, 0.5];
        const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
        if (step) {
          const next = preview || scene.chosen ? parts.towards(start, from, step) : parts.towards(start, from, null);
          if (next >= 0) show(next);
        } else if (event.key === "Enter" || event.key === " ") {
          const index = matchAt(network, preview);
          if (index >= 0) choose(number, index);
        } else if (event.key === "Escape") choose(-1, -1);
        else return;
        event.preventDefault();
      });
      return row;
    };

    // ---- Drawing

    const layoutOf = (width) => {
      const sizes = [scene.left, scene.right].map((side) => side.width / side.height);
      const stacked = width < 560 || Math.min(...sizes) > 2;
      const tallest = scene.networks.length > 1 ? 390 : 480;
      const room = width - 2 * MARGIN;
      const common = Math.min(tallest, stacked ? Infinity : (room - GAP) / (sizes[0] + sizes[1]));
      const boxes = sizes.map((aspect) => {
        const h = Math.min(common, room / aspect);
        return { x: MARGIN, y: TITLE, w: h * aspect, h };
      });
      if (stacked) boxes[1].y = TITLE + boxes[0].h + GAP;
      else boxes[1].x = MARGIN + boxes[0].w + GAP;
      return { left: boxes[0], right: boxes[1], width: Math.max(...boxes.map((b) => b.x + b.w)) + MARGIN,
               height: Math.max(...boxes.map((b) => b.y + b.h)) + MARGIN };
    };

    const at = (box, [x, y]) => [box.x + x * box.w, box.y + y * box.h];

    const drawMatch = (context, row, i, bold) => {
      const { matches } = row.network, { left, right } = row.layout, look = LOOK[stateOf(matches, i)];
      const [start, end] = [at(left, matches.start[i]), at(right, matches.end[i])];
      parts.line(context, start, end, look, bold ? 3 : 1.4);
      if (!bold && scene.mode === "points") parts.marker(context, end, 3, look, matches.mutual[i], "");
      if (!bold) return;
      const size = scene.mode === "regions" ? 11 : 6, names = matches.region ? matches.region[i] : ["", ""];
      [start, end].forEach((point, side) => parts.marker(context, point, size, look, matches.mutual[i], names[side]));
      if (scene.mode === "points" && matches.truth && matches.visible[i]) parts.cross(context, at(right, matches.truth[i]));
    };

    /** All that does not change under the pointer: pictures, regions, the marks of all matches, some lines. */
    const drawBase = (row) => {
      const { canvas, base, network, layout } = row, { matches } = network, ratio = window.devicePixelRatio || 1;
      for (const c of [canvas, base]) [c.width, c.height] = [layout.width * ratio, layout.height * ratio];
      [canvas.style.width, canvas.style.height] = [`${layout.width}px`, `${layout.height}px`];
      const context = base.getContext("2d");
      context.scale(ratio, ratio);
      ["left", "right"].forEach((side, v) => {
        const box = layout[side], raster = scene.rasters && scene.rasters[side];
        context.drawImage(parts.picture(scene[side].src), box.x, box.y, box.w, box.h);
        if (raster) {
          context.imageSmoothingEnabled = false;
          context.drawImage(parts.picture(network.tints[side]), box.x, box.y, box.w, box.h);
          context.imageSmoothingEnabled = true;
          parts.borders(context, raster, box);
        }
        const [colour, dash] = scene.views ? FRAMES[v] : ["#7a7f87", []];
        parts.frame(context, box, colour, dash);
        context.fillStyle = getComputedStyle(root).color;
        context.font = "600 13px system-ui, sans-serif";
        context.fillText(parts.fit(context, scene[side].title, box.w), box.x, box.y - 6);
      });
      const count = matches.start.length;
      if (scene.mode === "points") {
        const apart = Math.sqrt((layout.left.w * layout.left.h) / Math.max(1, count));
        const size = Math.min(4.5, Math.max(1.5, 0.26 * apart));
        context.globalAlpha = scene.chosen ? 0.4 : 1; // so that one stands out
        for (let i = 0; i < count; i++) {
          parts.marker(context, at(layout.left, matches.start[i]), size, LOOK[stateOf(matches, i)], matches.mutual[i], "");
        }
      }
      context.globalAlpha = 0.75;
      if (!scene.chosen) for (const i of network.overview) drawMatch(context, row, i, false);
      context.globalAlpha = 1;
      if (scene.mode === "points") return;
      for (const side of ["left", "right"]) { // over the lines: a region's number, and what its match is worth
        const { places, numbers } = scene.rasters[side];
        places.forEach((place, r) => {
          const i = side === "left" ? matches.region.findIndex((pair) => pair[0] === numbers[r]) : -1;
          const point = at(layout[side], place);
          if (i < 0) parts.number(context, point, numbers[r]);
          else parts.marker(context, point, 9.5, LOOK[stateOf(matches, i)], matches.mutual[i], numbers[r]);
        });
      }
    };

    const drawRow = (row) => {
      const ratio = window.devicePixelRatio || 1, width = root.clientWidth;
      const key = [width, ratio, getComputedStyle(root).color, scene.chosen ? 1 : 0].join();
      if (row.drawn !== key) {
        row.layout = layoutOf(width);
        drawBase(row);
        row.drawn = key;
      }
      const { network, layout } = row, context = row.canvas.getContext("2d");
      context.setTransform(1, 0, 0, 1, 0, 0);
      context.clearRect(0, 0, row.canvas.width, row.canvas.height);
      context.drawImage(row.base, 0, 0);
      context.scale(ratio, ratio);
      const chosen = matchAt(network, scene.chosen), hovered = matchAt(network, preview);
      const marked = hovered >= 0 ? hovered : chosen;
      if (scene.mode === "regions" && marked >= 0) {
        const pair = network.matches.region[marked];
        ["left", "right"].forEach((side, v) => parts.highlight(context, scene.rasters[side], pair[v], layout[side]));
      }
      if (chosen >= 0) drawMatch(context, row, chosen, true);
      if (hovered >= 0 && hovered !== chosen) drawMatch(context, row, hovered, true);
      const nothing = preview || scene.chosen ? "No match is kept here." : "";
      row.said.textContent = marked >= 0 ? parts.sentence(scene, network.matches, marked) : nothing;
      if (row.matrix) row.matrix.show(marked >= 0 ? network.matches.region[marked][0] : null);
    };

    const draw = () => {
      if (!scene || !root.clientWidth) return; // in a tab that is not open
      rows.forEach(drawRow);
      const all = head.querySelector("button");
      if (all) all.disabled = !scene.chosen;
      const source = head.querySelector("canvas");
      if (source) {
        const found = scene.networks.map(({ matches }, i) => matches.place[matchAt(scene.networks[i], scene.chosen)]);
        parts.source(source, scene.source, FRAMES, found.find(Boolean));
      }
    };

    const show = async (next) => {
      const mine = ++turn;
      if (!next) { // nothing is asked
        [scene, rows] = [null, []];
        head.replaceChildren();
        return body.replaceChildren();
      }
      const sources = [next.left.src, next.right.src, next.source && next.source.src];
      for (const { tints } of next.networks) if (tints) sources.push(tints.left, tints.right);
      await parts.load(sources.filter(Boolean));
      if (mine !== turn) return; // a later scene has come meanwhile
      [scene, preview] = [{ ...next }, null];
      body.replaceChildren();
      head.innerHTML = `${scene.source ? "<canvas></canvas>" : ""}<div class="legend">${parts.legend(scene, LOOK)}
        <button type="button">Show all</button></div>`;
      head.querySelector("button").addEventListener("click", () => choose(-1, -1));
      rows = scene.networks.map(makeRow);
      draw();
    };

    new ResizeObserver(draw).observe(root);
    new MutationObserver(draw).observe(document.body, { attributes: true, attributeFilter: ["class"] }); // dark or light
    return { show };
  };
})();

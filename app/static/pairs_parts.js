// What a match is drawn with: lines, markers, crosses, regions, the picture with its two views, and the sentence of a
// match. Functions of a canvas context and CSS pixels, for pairs.js; none keeps anything but decoded pictures.
(() => {
  const plrc = (window.plrc = window.plrc || {});
  const parts = (plrc.pairsParts = plrc.pairsParts || {});
  const HALO = "rgba(255, 255, 255, 0.9)", INK = "#111";

  // ---- Pictures: data URIs are decoded once and kept while a scene uses them.

  let pictures = new Map();

  /** Decode the pictures of a scene. */
  parts.load = async (sources) => {
    const wanted = [...new Set(sources)].map(async (src) => {
      if (pictures.has(src)) return;
      const image = new Image();
      image.src = src;
      await image.decode();
      pictures.set(src, image);
    });
    await Promise.all(wanted);
    if (pictures.size > 64) pictures = new Map(sources.map((src) => [src, pictures.get(src)])); // let the oldest go
  };

  parts.picture = (src) => pictures.get(src);

  // ---- Lines and marks

  const path = (context, draw) => {
    context.beginPath();
    draw();
    return context;
  };

  parts.line = (context, [x0, y0], [x1, y1], look, width) => {
    const line = () => path(context, () => (context.moveTo(x0, y0), context.lineTo(x1, y1)));
    [context.lineCap, context.strokeStyle, context.lineWidth] = ["butt", HALO, width + (width < 2 ? 1.2 : 2)];
    context.setLineDash([]);
    line().stroke();
    [context.strokeStyle, context.lineWidth] = [look.colour, width];
    context.setLineDash(look.dash);
    line().stroke();
    context.setLineDash([]);
  };

  const outline = (context, x, y, r, shape) => path(context, () => {
    if (shape !== "diamond") return context.arc(x, y, shape === "dot" ? r * 0.75 : r, 0, 2 * Math.PI);
    const s = r * 1.25;
    [[0, -s], [s, 0], [0, s], [-s, 0]].forEach(([dx, dy]) => context.lineTo(x + dx, y + dy));
    context.closePath();
  });

  /** A mark of radius r: filled where the match is mutual, else open; with a text in it where there is one. */
  parts.marker = (context, [x, y], r, look, mutual, text) => {
    if (r < 5) return smallMarker(context, x, y, r, look, mutual);
    context.fillStyle = HALO;
    outline(context, x, y, r + 1.5, look.shape).fill();
    context.fillStyle = mutual ? look.colour : "#fff";
    outline(context, x, y, r, look.shape).fill();
    if (!mutual) {
      [context.strokeStyle, context.lineWidth] = [look.colour, 2.5];
      outline(context, x, y, r - 1, look.shape).stroke();
    }
    if (text === "") return;
    context.fillStyle = mutual && look.shape !== "diamond" ? "#fff" : INK;
    written(context, [x, y], String(text), 12);
  };

  /** One of hundreds: an open one leaves the picture visible through it, and there is little white around. */
  const smallMarker = (context, x, y, r, look, mutual) => {
    const halo = Math.min(1, 0.25 * r), thick = Math.min(1.6, 0.45 * r);
    if (look.shape === "dot" || mutual) {
      context.fillStyle = HALO;
      if (look.shape !== "dot") outline(context, x, y, r + halo, look.shape).fill();
      context.fillStyle = look.colour;
      outline(context, x, y, r, look.shape).fill();
      return;
    }
    for (const [colour, width] of [[HALO, thick + 1.4 * halo], [look.colour, thick]]) {
      [context.strokeStyle, context.lineWidth] = [colour, width];
      outline(context, x, y, r - thick / 2, look.shape).stroke();
    }
  };

  const written = (context, [x, y], text, size) => {
    context.font = `600 ${size}px system-ui, sans-serif`;
    [context.textAlign, context.textBaseline] = ["center", "middle"];
    context.fillText(text, x, y + 0.5);
    [context.textAlign, context.textBaseline] = ["start", "alphabetic"];
  };

  /** A region's number over the picture. */
  parts.number = (context, point, text) => {
    [context.fillStyle, context.lineWidth, context.strokeStyle] = [HALO, 1, INK];
    outline(context, ...point, 8.5, "circle").fill();
    context.stroke();
    context.fillStyle = INK;
    written(context, point, String(text), 11);
  };

  /** The true place of a point. */
  parts.cross = (context, [x, y]) => {
    for (const [colour, width] of [[HALO, 5], [INK, 2.2]]) {
      [context.strokeStyle, context.lineWidth, context.lineCap] = [colour, width, "round"];
      path(context, () => {
        for (const s of [-1, 1]) {
          context.moveTo(x - 6, y - 6 * s);
          context.lineTo(x + 6, y + 6 * s);
        }
      }).stroke();
    }
  };

  parts.frame = (context, { x, y, w, h }, colour, dash) => {
    [context.strokeStyle, context.lineWidth, context.lineCap] = [colour, 2, "butt"];
    context.setLineDash(dash);
    context.strokeRect(x - 1, y - 1, w + 2, h + 2);
    context.setLineDash([]);
  };

  /** A text no wider than so many pixels. */
  parts.fit = (context, text, width) => {
    let shown = text;
    while (shown.length > 3 && context.measureText(shown).width > width) shown = `${shown.slice(0, -2)}…`;
    return shown;
  };

  // ---- Regions: a raster is {h, w, numbers, places, cells}; cells: bytes in base64, two a cell, its place among the
  // numbers plus 1, or 0 where there is no region.

  const cellsOf = (raster) => {
    if (!raster.decoded) {
      const bytes = Uint8Array.from(atob(raster.cells), (c) => c.charCodeAt(0));
      raster.decoded = Uint16Array.from({ length: bytes.length / 2 }, (_, i) => bytes[2 * i] + 256 * bytes[2 * i + 1]);
    }
    return raster.decoded;
  };

  /** The number of the region at a place of the picture, or −1. */
  parts.at = (raster, [x, y]) => {
    const row = Math.floor(y * raster.h), column = Math.floor(x * raster.w);
    if (row < 0 || column < 0 || row >= raster.h || column >= raster.w) return -1;
    const cell = cellsOf(raster)[row * raster.w + column];
    return cell ? raster.numbers[cell - 1] : -1;
  };

  /** The edges between cells that `differ` tells apart, over a box. */
  const edges = (context, raster, box, differ) => path(context, () => {
    const { h, w } = raster, cells = cellsOf(raster), [dx, dy] = [box.w / w, box.h / h];
    for (let i = 0; i < h; i++) {
      for (let j = 0; j < w; j++) {
        const here = cells[i * w + j], [x, y] = [box.x + (j + 1) * dx, box.y + (i + 1) * dy];
        if (j + 1 < w && differ(here, cells[i * w + j + 1])) (context.moveTo(x, y - dy), context.lineTo(x, y));
        if (i + 1 < h && differ(here, cells[(i + 1) * w + j])) (context.moveTo(x - dx, y), context.lineTo(x, y));
      }
    }
  });

  parts.borders = (context, raster, box) => {
    [context.strokeStyle, context.lineWidth, context.lineCap] = ["#fff", 1.2, "square"];
    edges(context, raster, box, (a, b) => a !== b).stroke();
  };

  /** All but one region in the dark, and a line around it. */
  parts.highlight = (context, raster, number, box) => {
    const cells = cellsOf(raster), kept = raster.numbers.indexOf(number) + 1;
    const shade = document.createElement("canvas");
    [shade.width, shade.height] = [raster.w, raster.h];
    const pixels = new ImageData(raster.w, raster.h);
    cells.forEach((cell, i) => (pixels.data[4 * i + 3] = cell === kept ? 0 : 130));
    shade.getContext("2d").putImageData(pixels, 0, 0);
    context.imageSmoothingEnabled = false;
    context.drawImage(shade, box.x, box.y, box.w, box.h);
    context.imageSmoothingEnabled = true;
    for (const [colour, width] of [[INK, 5], ["#fff", 2.5]]) {
      [context.strokeStyle, context.lineWidth, context.lineCap] = [colour, width, "square"];
      edges(context, raster, box, (a, b) => (a === kept) !== (b === kept)).stroke();
    }
  };

  // ---- The whole picture, with where the two views lie in it

  parts.source = (canvas, source, frames, place) => {
    const ratio = window.devicePixelRatio || 1, scale = 150 / Math.max(source.width, source.height);
    const box = { x: 3, y: 3, w: source.width * scale, h: source.height * scale };
    [canvas.width, canvas.height] = [(box.w + 6) * ratio, (box.h + 6) * ratio];
    [canvas.style.width, canvas.style.height] = [`${box.w + 6}px`, `${box.h + 6}px`];
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", "The whole picture, with the frames of view 1 and view 2");
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    context.drawImage(parts.picture(source.src), box.x, box.y, box.w, box.h);
    source.boxes.forEach(([x0, y0, x1, y1], v) => {
      const view = { x: box.x + x0 * box.w, y: box.y + y0 * box.h, w: (x1 - x0) * box.w, h: (y1 - y0) * box.h };
      parts.frame(context, view, "#fff", []);
      parts.frame(context, view, ...frames[v]);
      context.fillStyle = frames[v][0];
      context.fillRect(view.x, v ? view.y + view.h - 15 : view.y, 15, 15); // at the other's opposite corner
      context.fillStyle = "#fff";
      written(context, [view.x + 7.5, (v ? view.y + view.h - 15 : view.y) + 7.5], String(v + 1), 11);
    });
    if (place) { // the chosen one
      [context.fillStyle, context.strokeStyle, context.lineWidth] = [INK, HALO, 2];
      outline(context, box.x + place[0] * box.w, box.y + place[1] * box.h, 4, "circle").fill();
      context.stroke();
    }
  };

  // ---- Words

  const cells = (n) => `${n} cell${n === 1 ? "" : "s"}`;
  const signed = (value, digits) => value.toFixed(digits).replace("-", "−");

  /** What is known of match i. */
  parts.sentence = (scene, matches, i) => {
    const said = [`cosine ${signed(matches.similarity[i], 3)}`];
    if (matches.region) said[0] = `region ${matches.region[i][0]} → region ${matches.region[i][1]}: ${said[0]}`;
    const away = `${(100 * matches.cycle[i]).toFixed(1)} % of the longer side`;
    said.push(matches.mutual[i] ? "mutual (cycle error 0)" : `one way only: there and back ends ${away} from the start`);
    if (!matches.right) said.push("whether it is right nobody knows");
    else if (!matches.visible[i]) said.push(`${scene.right.name} does not show this ${matches.region ? "region" : "place"}`);
    else if (matches.region) said.push(matches.right[i] ? "right: it is the same region" : "wrong: it is another region");
    else if (matches.right[i]) said.push(`right: ${scene.within ? `within ${cells(scene.within)}` : "in the cell"} of its true place (×)`);
    else said.push("wrong: × is its true place");
    return `${said.join(" · ")}.`;
  };

  const sign = (inner) => `<svg width="34" height="14" viewBox="0 0 34 14" aria-hidden="true">${inner}</svg>`;

  /** Which mark and line means what, as HTML. */
  parts.legend = (scene, looks) => {
    const { right, wrong, unknown, hidden } = looks, [known] = scene.networks.map((n) => n.matches.right !== null);
    const line = (look, shape) => `<path d="M0 7H34" stroke="${look.colour}" stroke-width="2"
      stroke-dasharray="${look.dash.join(" ")}"/>${shape}`;
    const circle = (colour, fill) => `<circle cx="17" cy="7" r="4.5" fill="${fill}" stroke="${colour}" stroke-width="2"/>`;
    const diamond = `<path d="M17 1L23 7L17 13L11 7Z" fill="${wrong.colour}"/>`;
    const entries = known
      ? [[line(right, circle(right.colour, right.colour)), "right"], [line(wrong, diamond), "wrong"]]
      : [[line(unknown, circle(unknown.colour, unknown.colour)), "match (nobody knows which are right)"]];
    if (known) entries.push([`<circle cx="17" cy="7" r="3" fill="${hidden.colour}"/>`, `not in ${scene.right.name}`]);
    const colour = known ? right.colour : unknown.colour;
    entries.push([circle(colour, colour), "filled: mutual"], [circle(colour, "#fff"), "open: one way only"]);
    if (known && scene.mode === "points") {
      entries.push([`<path d="M12 2L22 12M22 2L12 12" stroke="#fff" stroke-width="5"/>
        <path d="M12 2L22 12M22 2L12 12" stroke="${INK}" stroke-width="2.2"/>`, "true place"]);
    }
    const safe = (text) => text.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
    return entries.map(([inner, text]) => `<span>${sign(inner)}${safe(text)}</span>`).join("");
  };

  // ---- Keys

  /** Which point comes next from a place in a direction, or −1; without a direction the nearest. */
  parts.towards = (points, [x, y], step) => {
    let best = -1, least = Infinity;
    points.forEach(([px, py], i) => {
      const [dx, dy] = [px - x, py - y];
      const along = step ? dx * step[0] + dy * step[1] : 0;
      if (step && along < 1e-3) return;
      const across = step ? Math.abs(dx * step[1]) + Math.abs(dy * step[0]) : Math.hypot(dx, dy);
      if (along + 3 * across < least) [best, least] = [i, along + 3 * across];
    });
    return best;
  };
})();

// One plane of dots on a canvas: draws them, finds the one under the pointer, takes lasso, click, keys and zoom.
// It knows neither pictures nor categories; plrc.scatter (scatter.js) joins several planes to one view.
window.plrc = window.plrc || {};

(() => {
  // Outlines in units of the radius, in the order of the printed figure's markers (plrc.figures.scatter): o ^ s D v P.
  const a = 0.42, b = 1.15;
  const SHAPES = [
    null, // a circle
    [[0, -1.2], [1.1, 0.8], [-1.1, 0.8]],
    [[-0.9, -0.9], [0.9, -0.9], [0.9, 0.9], [-0.9, 0.9]],
    [[0, -1.25], [1.25, 0], [0, 1.25], [-1.25, 0]],
    [[0, 1.2], [1.1, -0.8], [-1.1, -0.8]],
    [[-a, -b], [a, -b], [a, -a], [b, -a], [b, a], [a, a], [a, b], [-a, b], [-a, a], [-b, a], [-b, -a], [-a, -a]],
  ];

  // Fill a marker around (x, y); `edge` is drawn outside of it, so that neighbours stay apart.
  function marker(context, { colour, shape }, x, y, radius, edge, width) {
    context.beginPath();
    if (!SHAPES[shape]) context.arc(x, y, radius, 0, 2 * Math.PI);
    else SHAPES[shape].forEach(([u, v]) => context.lineTo(x + radius * u, y + radius * v));
    context.closePath();
    context.lineJoin = "round";
    context.lineWidth = 2 * width;
    context.strokeStyle = edge;
    context.stroke();
    context.fillStyle = colour;
    context.fill();
  }

  // A canvas of so many CSS pixels, sharp on any screen.
  function size(canvas, width, height) {
    const scale = window.devicePixelRatio || 1;
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    const context = canvas.getContext("2d");
    context.setTransform(scale, 0, 0, scale, 0, 0);
    return context;
  }

  // The least and the largest value on each axis.
  function spans(points) {
    const ends = [[Infinity, -Infinity], [Infinity, -Infinity]];
    for (const point of points) {
      ends.forEach((end, axis) => { end[0] = Math.min(end[0], point[axis]); end[1] = Math.max(end[1], point[axis]); });
    }
    return ends;
  }

  function inside([x, y], polygon) { // by the number of edges that a ray to the right crosses
    let odd = false;
    for (let i = 0, j = polygon.length - 1; i < polygon.length; j = i++) {
      const [xi, yi] = polygon[i], [xj, yj] = polygon[j];
      if (yi > y !== yj > y && x < xi + ((xj - xi) * (y - yi)) / (yj - yi)) odd = !odd;
    }
    return odd;
  }

  const REACH = 10; // CSS pixels from the pointer to a dot that it means
  const CELL = 12; // of the grid in which dots are looked up; at least REACH, so that 3 × 3 cells are enough
  const STILL = 4; // a pointer that moved less has clicked

  // hooks: hover(item or −1, byKeyboard), current() → item or −1, pick(items, "toggle" | "replace" | "add"), clear().
  function plane(parent, hooks) {
    const base = parent.appendChild(document.createElement("canvas"));
    const over = parent.appendChild(document.createElement("canvas"));
    over.tabIndex = 0;
    over.setAttribute("role", "application");
    let width = 0, height = 0, share = 1;
    let coordinates = [], at = [], grid = new Map(); // at: each dot's place in CSS pixels
    let zoom = 1, shift = [0, 0];
    let look = null, hovered = -1, selected = new Set(), lasso = null, waiting = false;
    let sprites = [], half = 0, radius = 0; // of each style its dot and its marked dot, drawn once; half their side
    const fingers = new Map(); // pointers that are down → where
    let held = false; // the space bar

    function layout() {
      const [[x0, x1], [y0, y1]] = spans(coordinates);
      const unit = (zoom * width) / (1.1 * Math.max(x1 - x0, (y1 - y0) / share, 1e-9)); // one unit in both directions
      const across = width / 2 + shift[0] - (unit * (x0 + x1)) / 2;
      const down = height / 2 + shift[1] + (unit * (y0 + y1)) / 2;
      at = coordinates.map(([x, y]) => [across + unit * x, down - unit * y]);
      grid = new Map();
      at.forEach(([x, y], i) => {
        const key = `${Math.floor(x / CELL)},${Math.floor(y / CELL)}`;
        if (!grid.has(key)) grid.set(key, []);
        grid.get(key).push(i);
      });
    }

    function draw() { // the dots; what is marked is drawn over them, on the other canvas
      if (!look || !width) return;
      const { styles, paper, ink } = look;
      radius = look.radius * Math.min(1, Math.max(0.6, width / 440)); // smaller on a small plane
      half = Math.ceil(1.4 * radius + 4);
      sprites = styles.map((style) => [[radius, paper, 0.6], [1.25 * radius + 0.5, ink, 1.2]].map(([r, edge, line]) => {
        const canvas = document.createElement("canvas");
        marker(size(canvas, 2 * half, 2 * half), style, half, half, r, edge, line);
        return canvas;
      }));
      const context = size(base, width, height);
      for (const i of look.order) stamp(context, i, 0, look.shown[i] ? 1 : 0.07);
      size(over, width, height);
      mark();
    }

    function stamp(context, i, which, alpha) {
      const [x, y] = at[i], scale = window.devicePixelRatio || 1, snap = (v) => Math.round((v - half) * scale) / scale;
      context.globalAlpha = alpha;
      context.drawImage(sprites[look.of[i]][which], snap(x), snap(y), 2 * half, 2 * half);
    }

    function mark() {
      waiting = false;
      if (!look || !width) return;
      const context = over.getContext("2d");
      context.clearRect(0, 0, width, height);
      base.style.opacity = selected.size ? 0.4 : 1; // what is marked stands out without drawing all dots again
      for (const i of selected) stamp(context, i, 1, look.shown[i] ? 1 : 0.15);
      context.globalAlpha = 1;
      if (hovered >= 0) {
        stamp(context, hovered, 1, 1);
        for (const [line, colour] of [[5, look.paper], [2, look.ink]]) {
          context.beginPath();
          context.arc(...at[hovered], radius + 6, 0, 2 * Math.PI);
          context.lineWidth = line;
          context.strokeStyle = colour;
          context.stroke();
        }
      }
      if (lasso && lasso.length > 1) {
        context.beginPath();
        lasso.forEach((point) => context.lineTo(...point));
        context.closePath();
        context.globalAlpha = 0.12;
        context.fillStyle = look.ink;
        context.fill();
        context.globalAlpha = 1;
        context.setLineDash([4, 3]);
        context.lineWidth = 1.3;
        context.strokeStyle = look.ink;
        context.stroke();
        context.setLineDash([]);
      }
    }

    function markSoon() { // once a frame, however many events come
      if (!waiting) requestAnimationFrame(mark);
      waiting = true;
    }

    function nearest([x, y]) {
      let best = -1, least = REACH ** 2;
      const column = Math.floor(x / CELL), row = Math.floor(y / CELL);
      for (let j = column - 1; j <= column + 1; j++) {
        for (let i = row - 1; i <= row + 1; i++) {
          for (const k of grid.get(`${j},${i}`) || []) {
            const distance = (at[k][0] - x) ** 2 + (at[k][1] - y) ** 2;
            if (look.shown[k] && distance <= least) [best, least] = [k, distance];
          }
        }
      }
      return best;
    }

    // The dot to which an arrow key leads: near, and within 45° of its direction. −1 where there is none.
    function towards(from, dx, dy) {
      const [x, y] = from < 0 ? [width / 2, height / 2] : at[from];
      let best = -1, least = Infinity;
      at.forEach(([u, v], k) => {
        const along = dx * (u - x) + dy * (v - y), beside = Math.abs(dy * (u - x) - dx * (v - y));
        if (k === from || !look.shown[k] || (from >= 0 && (along <= 0 || beside > along))) return;
        const cost = from < 0 ? (u - x) ** 2 + (v - y) ** 2 : along + 2 * beside;
        if (cost < least) [best, least] = [k, cost];
      });
      return best;
    }

    function enlarge(factor, [x, y]) { // what lies under (x, y) stays there
      const next = Math.min(40, Math.max(1, zoom * factor)), ratio = next / zoom;
      const kept = (v, side, was) => v - side / 2 - ratio * (v - side / 2 - was);
      shift = next === 1 ? [0, 0] : [kept(x, width, shift[0]), kept(y, height, shift[1])];
      zoom = next;
      layout();
      draw();
    }

    function move(dx, dy) {
      if (zoom === 1) return;
      shift = [shift[0] + dx, shift[1] + dy];
      layout();
      draw();
    }

    const place = (event) => {
      const frame = over.getBoundingClientRect();
      return [event.clientX - frame.left, event.clientY - frame.top];
    };
    over.addEventListener("pointerdown", (event) => {
      if (!look || event.button) return;
      over.focus({ preventScroll: true });
      over.setPointerCapture(event.pointerId);
      fingers.set(event.pointerId, place(event));
      lasso = fingers.size === 1 && !held ? [place(event)] : null; // a second finger: no lasso, but a zoom
      if (event.pointerType !== "mouse") hooks.hover(nearest(place(event)), false);
    });
    over.addEventListener("pointermove", (event) => {
      if (!look) return;
      const now = place(event), before = fingers.get(event.pointerId);
      if (!before) return hooks.hover(nearest(now), false);
      fingers.set(event.pointerId, now);
      const other = [...fingers].find(([id]) => id !== event.pointerId);
      if (other) {
        const far = ([x, y]) => Math.hypot(x - other[1][0], y - other[1][1]);
        move((now[0] - before[0]) / 2, (now[1] - before[1]) / 2);
        enlarge(far(now) / Math.max(1, far(before)), [(now[0] + other[1][0]) / 2, (now[1] + other[1][1]) / 2]);
      } else if (held) {
        move(now[0] - before[0], now[1] - before[1]);
      } else if (lasso && (lasso.length > 1 || Math.hypot(now[0] - lasso[0][0], now[1] - lasso[0][1]) >= STILL)) {
        lasso.push(now);
        hooks.hover(-1, false);
        markSoon();
      }
    });
    over.addEventListener("pointerup", (event) => {
      fingers.delete(event.pointerId);
      if (!lasso) return;
      const line = lasso;
      lasso = null;
      markSoon();
      if (line.length > 1) {
        const found = at.flatMap((dot, k) => (look.shown[k] && inside(dot, line) ? [k] : []));
        hooks.pick(found, event.shiftKey ? "add" : "replace");
      } else {
        const found = nearest(line[0]);
        if (found >= 0) hooks.pick([found], "toggle");
      }
    });
    over.addEventListener("pointercancel", (event) => { fingers.delete(event.pointerId); lasso = null; markSoon(); });
    // A finger leaves as soon as it is lifted; what it has touched is to be seen until it touches elsewhere.
    over.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") hooks.hover(-1, false); });
    over.addEventListener("blur", () => { held = false; hooks.hover(-1, false); });
    // The wheel alone scrolls the page; with Ctrl, which a pinch on a touchpad sends too, it zooms.
    over.addEventListener("wheel", (event) => {
      if (!look || !event.ctrlKey) return;
      event.preventDefault();
      enlarge(Math.exp(-event.deltaY / 200), place(event));
    }, { passive: false });
    over.addEventListener("keydown", (event) => {
      if (!look) return;
      const arrow = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      const current = hooks.current();
      if (arrow) {
        const next = towards(current, ...arrow);
        if (next >= 0) hooks.hover(next, true);
      } else if (event.key === "Enter" && current >= 0) hooks.pick([current], "toggle");
      else if (event.key === "Escape") hooks.clear();
      else if ("+-0".includes(event.key)) {
        const factor = { "+": 1.5, "-": 1 / 1.5, 0: 0 }[event.key];
        enlarge(factor, current >= 0 ? at[current] : [width / 2, height / 2]);
      }
      else if (event.key === " ") held = true;
      else return;
      event.preventDefault();
    });
    over.addEventListener("keyup", (event) => { if (event.key === " ") held = false; });

    const fit = () => {
      const now = parent.clientWidth;
      if (!now || (now === width && Math.round(now * share) === height)) return;
      [width, height] = [now, Math.round(now * share)];
      parent.style.height = `${height}px`;
      layout();
      draw();
    };
    new ResizeObserver(fit).observe(parent);

    // Where an item's dot is in the window, in CSS pixels: for whoever points at it.
    over.at = (item) => {
      const frame = over.getBoundingClientRect();
      return { x: frame.left + at[item][0], y: frame.top + at[item][1] };
    };
    return {
      canvas: over,
      place: (item) => at[item],
      // flatness: the plane's height, its width being 1.
      load(points, flatness) {
        [coordinates, share, zoom, shift, width, look] = [points, flatness, 1, [0, 0], 0, null];
        fit();
      },
      // styles: [{colour, shape}]; of: each item's; shown: which are; order: of drawing; radius; ink, paper: colours.
      paint(next) { look = next; draw(); },
      mark(item, items) { [hovered, selected] = [item, items]; markSoon(); },
    };
  }

  plrc.scatterPlane = Object.assign(plane, { marker, size, spans, SHAPES: SHAPES.length });
})();

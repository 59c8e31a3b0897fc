// What the viewers share: elements, canvases, decoded images, marks, numbers, keys. Sizes are CSS pixels, places on a
// canvas [x, y]. plrc.look has the colours and marks of plrc.figures; app/scenes.py writes it before this file.
(() => {
  const plrc = (window.plrc = window.plrc || {});

  // ---- Elements

  const make = (parent, tag, className = "", has = {}) =>
    parent.appendChild(Object.assign(document.createElement(tag), { className }, has));

  /** Sets a text only where it differs: a screen reader does not say the same twice. */
  const write = (element, text) => {
    if (element.textContent !== text) element.textContent = text;
  };

  /** A function that calls draw in the next frame, once, however often it is called. */
  const framed = (draw) => {
    let waiting = false;
    return () => {
      if (!waiting) requestAnimationFrame(() => ((waiting = false), draw()));
      waiting = true;
    };
  };

  /** Calls draw when the element's width or the page's colours change; its height follows from what is drawn. */
  const watch = (element, draw) => {
    const soon = framed(draw);
    let width = null;
    new ResizeObserver(() => element.clientWidth !== width && ((width = element.clientWidth), soon())).observe(element);
    new MutationObserver(soon).observe(document.body, { attributes: true, attributeFilter: ["class"] });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", soon);
  };

  const percent = (share) => `${100 * share}%`;

  /** The bytes of a text in base64. */
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer;

  // ---- Canvases

  /** The context of a canvas of this size, sharp on any screen, in CSS pixels. */
  const sized = (canvas, width, height) => {
    const scale = window.devicePixelRatio || 1;
    Object.assign(canvas, { width: Math.round(width * scale), height: Math.round(height * scale) });
    Object.assign(canvas.style, { width: `${width}px`, height: `${height}px` });
    const context = canvas.getContext("2d");
    context.setTransform(scale, 0, 0, scale, 0, 0);
    return context;
  };

  const placeIn = (element, event) => {
    const box = element.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };

  /** The same in shares of the element, within it. */
  const shareIn = (element, event) => {
    const { width, height } = element.getBoundingClientRect(), [x, y] = placeIn(element, event);
    return [clamp(x / width), clamp(y / height)];
  };

  /** Lays an element over a part of its parent, in shares of that. */
  const lay = (element, x, y, width = 0, height = 0) => {
    const box = { left: percent(x), top: percent(y), width: percent(width), height: percent(height) };
    Object.assign(element.style, box);
  };

  /** Strokes the path once for each [colour, width, dash], the widest first: seen on any ground. */
  const stroke = (context, ...lines) => {
    for (const [colour, width, dash = []] of lines) {
      [context.strokeStyle, context.lineWidth] = [colour, width];
      context.setLineDash(dash);
      context.stroke();
    }
    context.setLineDash([]);
  };

  const polyline = (context, ...points) => {
    context.beginPath();
    points.forEach((point) => context.lineTo(...point));
  };

  const [a, b] = [0.42, 1.15];
  const SHAPES = { // by matplotlib's names, in units of the radius; others are circles
    "^": [[0, -1.2], [1.1, 0.8], [-1.1, 0.8]],
    s: [[-0.9, -0.9], [0.9, -0.9], [0.9, 0.9], [-0.9, 0.9]],
    D: [[0, -1.25], [1.25, 0], [0, 1.25], [-1.25, 0]],
    v: [[0, 1.2], [1.1, -0.8], [-1.1, -0.8]],
    P: [[-a, -b], [a, -b], [a, -a], [b, -a], [b, a], [a, a], [a, b], [-a, b], [-a, a], [-b, a], [-b, -a], [-a, -a]],
  };

  /** The path of a mark of radius r. */
  const outline = (context, shape, [x, y], r) => {
    polyline(context, ...(SHAPES[shape] || []).map(([u, v]) => [x + r * u, y + r * v]));
    if (!SHAPES[shape]) context.arc(x, y, r, 0, 2 * Math.PI);
    context.closePath();
  };

  // ---- Images

  const KEPT = 64; // decoded images

  /** load(sources, then, failed): then(bitmaps) when all are decoded, at once if they are kept. Only the latest call
   * counts. A missing source gives null. Returns a promise of the end. */
  const loader = () => {
    const kept = new Map();
    let latest = 0;
    const decode = (src) => new Promise((resolve, reject) => {
      const image = new Image();
      image.onload = () => createImageBitmap(image).then((bitmap) => resolve(kept.set(src, bitmap)), reject);
      image.onerror = reject;
      image.src = src;
    });
    return (sources, then, failed = () => {}) => {
      const turn = ++latest, missing = [...new Set(sources)].filter((src) => src && !kept.has(src));
      const give = () => {
        const found = sources.map((src) => kept.get(src) || null);
        sources.forEach((src, i) => src && kept.delete(src) && kept.set(src, found[i])); // now the newest
        while (kept.size > Math.max(KEPT, sources.length)) kept.delete(kept.keys().next().value);
        then(found);
      };
      if (!missing.length) return give();
      const of = missing.map(decode);
      return Promise.all(of).then(() => turn === latest && give(), () => turn === latest && failed());
    };
  };

  // ---- Numbers and colours of a scale {quantity, low, high, colours}

  const clamp = (value, low = 0, high = 1) => Math.min(high, Math.max(low, value));
  const minus = (text) => text.replace("-", "−");
  const share = (value, { low, high }) => clamp((value - low) / (high - low));

  /** Numbers to about a hundredth of the range; small ones as multiples of a power of ten that stands beside them. */
  const numbers = ({ low, high }) => {
    const largest = Math.max(Math.abs(low), Math.abs(high));
    const power = largest < 0.01 ? Math.floor(Math.log10(largest)) : 0;
    const digits = clamp(2 - Math.floor(Math.log10(high - low) - power), 0, 8);
    const exactly = (value) => { // always as many digits: what changes under the pointer does not jump
      const text = (value / 10 ** power).toFixed(digits);
      return Number(text) === 0 ? text.replace("-", "") : minus(text);
    };
    const superscript = [...String(power)].map((c) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[c] || "⁻").join("");
    return {
      exactly,
      short: (value) => exactly(value).replace(/\.(\d*?)0+$/, (_, kept) => (kept ? `.${kept}` : "")),
      factor: power ? ` × 10${superscript}` : "",
    };
  };

  const colourAt = (value, scale) =>
    scale.colours[Math.min(scale.colours.length - 1, Math.floor(share(value, scale) * scale.colours.length))];

  /** A colour bar: fill(scale, null for none), point(value) marks a value on it. */
  const colourBar = (parent) => {
    const bar = make(parent, "div", "plrc-bar"), quantity = make(bar, "div", "plrc-quantity");
    const strip = make(bar, "div", "plrc-strip"), here = make(strip, "div", "plrc-here");
    const ends = make(bar, "div", "plrc-ends");
    const [low, between, high] = ["low", "between", "high"].map((name) => make(ends, "span", `plrc-${name}`));
    let scale = null;
    const point = (value) => {
      here.hidden = !Number.isFinite(value);
      if (!here.hidden) here.style.left = `${100 * share(value, scale)}%`;
    };
    const fill = (next) => {
      const coloured = scale?.colours === next?.colours;
      scale = next;
      bar.hidden = !scale;
      point(null);
      if (!scale) return;
      const middle = scale.low < 0 && scale.high > 0 ? 0 : (scale.low + scale.high) / 2, at = share(middle, scale);
      const { short, factor } = numbers(scale);
      if (!coloured) strip.style.background = `linear-gradient(to right, ${scale.colours.join()})`;
      write(quantity, scale.quantity + factor);
      write(low, short(scale.low));
      write(high, short(scale.high));
      write(between, at > 0.28 && at < 0.72 ? short(middle) : ""); // else it would meet an end's number
      between.style.left = `${100 * at}%`;
    };
    return { fill, point };
  };

  // ---- Zooming

  /** What is seen of surfaces that are enlarged together, up to so many times: {zoom, corner, look, by, key}. corner:
   * what lies left of and above a surface, in its sides. changed() is called with every other look. */
  const zooming = (changed, most = 16) => {
    const its = { zoom: 1, corner: [0, 0] };
    its.look = (zoom, corner = [0, 0]) => {
      its.zoom = clamp(zoom, 1, most);
      its.corner = corner.map((v) => clamp(v, 0, its.zoom - 1));
      changed();
    };
    /** By a factor; what lies under a place, in shares of a surface, stays there, or moves along. Whether it did. */
    its.by = (factor, place, moved = [0, 0]) => {
      const { zoom, corner } = its, next = clamp(zoom * factor, 1, most);
      if (next === zoom && (zoom === 1 || !moved.some(Boolean))) return false;
      its.look(next, corner.map((v, k) => ((v + place[k] - moved[k]) * next) / zoom - place[k]));
      return true;
    };
    /** Whether it was a key that enlarges, around a place, or shows the whole again. */
    its.key = ({ key }, place) => {
      const factor = { "+": 1.5, "-": 1 / 1.5, 0: 0 }[key];
      if (factor !== undefined) its.by(factor, place);
      return factor !== undefined;
    };
    return its;
  };

  const CTRL = /Mac|iP/.test(navigator.platform) ? "⌘" : "Ctrl";

  /** Says for a moment, beside the pointer, how to enlarge. */
  const hint = (element, event) => {
    const root = element.closest(".plrc-viewer"), [x, y] = placeIn(root, event);
    const tip = root.querySelector(".plrc-tip") || make(root, "div", "plrc-tip", { ariaHidden: "true" });
    write(tip, `${CTRL} + wheel enlarges`);
    Object.assign(tip.style, { left: `${clamp(x, 85, root.clientWidth - 85)}px`, top: `${y}px` });
    clearTimeout(tip.timer);
    tip.timer = setTimeout(() => tip.remove(), 1200);
  };

  /** Two fingers, and the wheel with Ctrl or ⌘, enlarge a view; one pointer moves what is seen while pans(event). The
   * wheel alone scrolls the page. boxAt(place): {view, x, y, w, h}, what is seen there, where on it, or null.
   * Returns {fingers, moved, panned}: the pointers that are down, number → place; since one was pressed, whether it has
   * moved so far that it is no click, and what is seen with it. */
  const zoomed = (element, view, pans,
                  boxAt = () => ({ view, x: 0, y: 0, w: element.clientWidth, h: element.clientHeight })) => {
    const fingers = new Map(), its = { fingers, moved: false, panned: false };
    let from = [0, 0];
    const on = (name, answer) => element.addEventListener(name, answer, { passive: false });
    const move = (factor, [x, y], [right, down] = [0, 0]) => {
      const box = boxAt([x, y]);
      box?.view.by(factor, [(x - box.x) / box.w, (y - box.y) / box.h], [right / box.w, down / box.h]);
    };
    on("touchstart", (event) => event.touches.length > 1 && event.preventDefault()); // else the browser zooms the page
    on("pointerdown", (event) => {
      Object.assign(its, { moved: false, panned: false });
      fingers.set(event.pointerId, (from = placeIn(element, event)));
    });
    on("pointermove", (event) => {
      const before = fingers.get(event.pointerId), now = placeIn(element, event);
      if (!before) return;
      if (!event.buttons) return fingers.delete(event.pointerId); // it was let go elsewhere
      fingers.set(event.pointerId, now);
      its.moved ||= Math.hypot(now[0] - from[0], now[1] - from[1]) >= 4;
      const moved = now.map((v, k) => v - before[k]);
      const other = [...fingers].find(([id]) => id !== event.pointerId)?.[1];
      if (!other) return its.moved && pans(event) && ((its.panned = true), move(1, now, moved));
      const far = (place) => Math.max(1, Math.hypot(place[0] - other[0], place[1] - other[1]));
      its.panned = true;
      move(far(now) / far(before), now.map((v, k) => (v + other[k]) / 2), moved.map((v) => v / 2));
    });
    for (const name of ["pointerup", "pointercancel"]) on(name, (event) => fingers.delete(event.pointerId));
    on("wheel", (event) => {
      const place = placeIn(element, event);
      if (!boxAt(place)) return;
      if (!event.ctrlKey && !event.metaKey) return hint(element, event);
      event.preventDefault();
      const by = event.deltaY * (event.deltaMode ? 33 : 1); // lines, or pixels
      move(Math.exp(-by / (Math.abs(by) < 50 ? 100 : 400)), place); // a touchpad's pinch comes in small steps
    });
    return its;
  };

  // ---- Keys and points

  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

  const least = (points, cost) => {
    let best = -1, lowest = Infinity;
    points.forEach((point, i) => {
      const its = cost(point, i);
      if (its < lowest) [best, lowest] = [i, its];
    });
    return best;
  };

  /** The point nearest to a place and within reach, or −1. */
  const nearest = (points, [x, y], reach = Infinity, allowed = () => true) =>
    least(points, ([u, v], i) => {
      const away = Math.hypot(u - x, v - y);
      return away <= reach && allowed(i) ? away : Infinity;
    });

  /** The point that an arrow leads to, within 45° of its direction, or −1. */
  const towards = (points, [x, y], [dx, dy], allowed = () => true) =>
    least(points, ([u, v], i) => {
      const along = dx * (u - x) + dy * (v - y), beside = Math.abs(dy * (u - x) - dx * (v - y));
      return along > 1e-3 && beside <= along && allowed(i) ? along + 2 * beside : Infinity;
    });

  plrc.common = {
    make, write, framed, watch, percent, bytes, sized, placeIn, shareIn, lay, stroke, polyline, outline, loader, clamp,
    minus, numbers, colourAt, colourBar, zooming, zoomed, ARROWS, nearest, towards,
  };
})();

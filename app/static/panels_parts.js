// What plrc.panels (panels.js) draws and reads: numbers and colours of a scale, the cells of a map, marks on a canvas.
// Places are shares of the picture. A map is {h, w, values, extent}, a scale {quantity, low, high, colours}.
(() => {
  const plrc = (window.plrc = window.plrc || {});

  const STEP = 1 / 16; // of the crosshair, where no map has cells

  // ---- Numbers and colours of a scale

  /** Numbers to about a hundredth of the range, small ones as multiples of a power of ten that stands beside them. */
  const numbers = ({ low, high }) => {
    const largest = Math.max(Math.abs(low), Math.abs(high));
    const power = largest < 0.01 ? Math.floor(Math.log10(largest)) : 0;
    const digits = Math.min(8, Math.max(0, 2 - Math.floor(Math.log10(high - low) - power)));
    const tidy = (text) => (Number(text) === 0 ? text.replace("-", "") : text.replace("-", "−"));
    const exactly = (value) => tidy((value / 10 ** power).toFixed(digits));
    const superscript = [...String(power)].map((c) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[c] || "⁻").join("");
    return {
      exactly, // the same number of digits always: what changes under the pointer does not jump
      short: (value) => exactly(value).replace(/\.(\d*?)0+$/, (_, kept) => (kept ? `.${kept}` : "")),
      factor: power ? ` × 10${superscript}` : "",
    };
  };

  const share = (value, { low, high }) => Math.min(1, Math.max(0, (value - low) / (high - low)));

  /** A canvas with a pixel a cell; cells without a value are clear. */
  const coloured = ({ h, w, values }, scale) => {
    const canvas = Object.assign(document.createElement("canvas"), { width: w, height: h });
    const context = canvas.getContext("2d");
    const pixels = context.createImageData(w, h);
    const table = scale.colours.map((colour) => parseInt(colour.slice(1), 16));
    values.forEach((value, i) => {
      if (!Number.isFinite(value)) return;
      const rgb = table[Math.min(255, Math.floor(share(value, scale) * 256))];
      pixels.data.set([rgb >> 16, (rgb >> 8) & 255, rgb & 255, 255], 4 * i);
    });
    context.putImageData(pixels, 0, 0);
    return canvas;
  };

  // ---- Places: on the screen, and the cells of a map

  /** A side of a canvas in pixels of the screen, as the browser rounds it, where it says so rightly. */
  const pixels = (side, told) => {
    const exact = side * devicePixelRatio;
    return Math.abs(told - exact) < 1 ? told : Math.round(exact);
  };

  /** Where an event is in the picture. A click's own place is cut to whole pixels, that of the press before is not. */
  const placeOf = (canvas, event, pressed = event) => {
    const near = pressed && Math.hypot(pressed.clientX - event.clientX, pressed.clientY - event.clientY) < 1.5;
    const { clientX, clientY } = near ? pressed : event, box = canvas.getBoundingClientRect();
    const within = (value) => Math.min(1, Math.max(0, value));
    return { x: within((clientX - box.left) / box.width), y: within((clientY - box.top) / box.height) };
  };

  /** Row and column of the cell that holds (x, y); null beyond the map. x = 1 belongs to the last column. */
  const cellAt = ({ h, w, extent }, { x, y }) => {
    if (x > extent[0] || y > extent[1]) return null;
    return [Math.min(h - 1, Math.floor((y / extent[1]) * h)), Math.min(w - 1, Math.floor((x / extent[0]) * w))];
  };

  /** Where cell k of a side of n lies, as far as the picture reaches: [from, to] as shares. */
  const sideOf = (k, n, extent) => [(k / n) * extent, Math.min(1, ((k + 1) / n) * extent)];

  /** A step along a side of n cells: to the middle of what the picture shows of the next one; without cells by STEP. */
  const stepped = (at, by, n, extent) => {
    if (!n) return Math.min(1, Math.max(0, at + by * STEP));
    const last = Math.min(n - 1, Math.ceil(n / extent - 1e-9) - 1); // the last that the picture shows
    const now = Math.min(last, Math.floor((at / extent) * n));
    const [from, to] = sideOf(Math.min(last, Math.max(0, now + by)), n, extent);
    return (from + to) / 2;
  };

  // ---- Marks. px: pixels of the canvas in a CSS pixel

  /** Draws a path twice, so that it is seen on any ground: wide in the rim's colour, thin in the ink's. */
  const ink = (context, px, colour, rim, width, rimWidth) => {
    for (const [style, thick] of [[rim, rimWidth], [colour, width]]) {
      context.strokeStyle = style;
      context.lineWidth = thick * px;
      context.stroke();
    }
  };

  /** As plrc.figures.grid.mark: a numbered ring; filled, with a bar across it, for a negative point. */
  const drawPoint = (context, px, { x, y, negative }, number, W, H) => {
    const [cx, cy] = [x * W, y * H];
    context.beginPath();
    context.arc(cx, cy, 6 * px, 0, 2 * Math.PI);
    if (negative) {
      context.fillStyle = "#000";
      context.fill();
    }
    ink(context, px, "#fff", "#000", 2, 4);
    if (negative) {
      context.beginPath();
      context.moveTo(cx - 3.5 * px, cy);
      context.lineTo(cx + 3.5 * px, cy);
      ink(context, px, "#fff", "#000", 2, 2);
    }
    const right = x < 0.85, below = cy < 22 * px;
    context.font = `700 ${13 * px}px system-ui, sans-serif`;
    context.textAlign = right ? "left" : "right";
    context.textBaseline = below ? "top" : "bottom";
    const [tx, ty] = [cx + (right ? 7 : -7) * px, cy + (below ? 3 : -3) * px];
    Object.assign(context, { lineJoin: "round", lineWidth: 3 * px, strokeStyle: "#000", fillStyle: "#fff" });
    context.strokeText(number, tx, ty);
    context.fillText(number, tx, ty);
  };

  const drawCell = (context, px, { h, w, extent }, [i, j], W, H) => {
    const inner = (value, most) => Math.min(most - 1.5 * px, Math.max(1.5 * px, value)); // all four sides are seen
    const [left, right] = sideOf(j, w, extent[0]).map((v) => inner(v * W, W));
    const [top, bottom] = sideOf(i, h, extent[1]).map((v) => inner(v * H, H));
    context.beginPath();
    context.rect(left, top, right - left, bottom - top);
    ink(context, px, "#fff", "#000", 1, 3);
  };

  const drawCrosshair = (context, px, { x, y }, W, H) => {
    context.beginPath();
    for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      context.moveTo(x * W + 4 * px * dx, y * H + 4 * px * dy);
      context.lineTo(x * W + 15 * px * dx, y * H + 15 * px * dy);
    }
    ink(context, px, "#fff", "#000", 1.5, 3.5);
  };

  // ---- Pictures

  const KEPT = 16; // decoded pictures; a click draws again from these

  /** load(src) → the picture's bitmap if it is kept, so that one draws at once, else a promise of it. */
  const bitmaps = () => {
    const kept = new Map();
    const keep = (src, bitmap) => {
      kept.delete(src);
      kept.set(src, bitmap);
      if (kept.size > KEPT) kept.delete(kept.keys().next().value); // the longest unused
      return bitmap;
    };
    return (src) => {
      if (kept.has(src)) return keep(src, kept.get(src));
      return new Promise((resolve, reject) => {
        const image = new Image();
        image.onload = () => createImageBitmap(image).then((bitmap) => resolve(keep(src, bitmap)), reject);
        image.onerror = () => reject(new Error(`not a picture: ${src.slice(0, 40)}`));
        image.src = src;
      });
    };
  };

  // The two files come in either order.
  Object.assign((plrc.panelsParts = plrc.panelsParts || {}), {
    numbers, share, coloured, pixels, placeOf, cellAt, stepped, drawPoint, drawCell,
    drawCrosshair, bitmaps,
  });
})();

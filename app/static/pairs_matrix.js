// The region affinity matrix as a heat map: plrc.pairsMatrix(element, matrix, choose) → {show(region)}.
//
// matrix: {rows, columns: numbers of the regions, values: a list a row, best: column of each row, same: column of the
// same region in each row or null, named: whether the same region is known, names: of both pictures, quantity, low, high,
// colours: from low to high, ticks, labels}. choose gets the number of a row's region; show marks the row of one.
(() => {
  const plrc = (window.plrc = window.plrc || {});
  const LEFT = 46, TOP = 26, BAR = 92, INK = "#111";

  plrc.pairsMatrix = (element, matrix, choose) => {
    const { rows, columns, values } = matrix;
    element.innerHTML = `<canvas class="live" tabindex="0" role="application"></canvas><p class="said" role="status"></p>`;
    const [canvas, said] = element.children;
    canvas.setAttribute("aria-label", `Region affinity matrix, ${rows.length} by ${columns.length}. ` +
      "Arrow keys go from cell to cell, Enter chooses the row's region.");
    let [row, cursor, cell, drawn] = [null, null, 1, null];

    const cellAt = ({ offsetX, offsetY }) => {
      const [i, j] = [Math.floor((offsetY - TOP) / cell), Math.floor((offsetX - LEFT) / cell)];
      return i >= 0 && j >= 0 && i < rows.length && j < columns.length ? [i, j] : null;
    };

    const colourOf = (value) => {
      const share = (value - matrix.low) / (matrix.high - matrix.low);
      const last = matrix.colours.length - 1;
      return matrix.colours[Math.min(last, Math.max(0, Math.floor(share * (last + 1))))];
    };

    const draw = () => {
      const room = element.clientWidth;
      if (!room) return;
      const ratio = window.devicePixelRatio || 1;
      cell = Math.max(3, Math.min(26, (room - LEFT - BAR) / columns.length, 460 / rows.length));
      const [w, h] = [cell * columns.length, cell * rows.length];
      const [width, height] = [LEFT + w + BAR, TOP + Math.max(h, 90) + 24];
      [canvas.width, canvas.height] = [width * ratio, height * ratio];
      [canvas.style.width, canvas.style.height] = [`${width}px`, `${height}px`];
      const context = canvas.getContext("2d"), colour = getComputedStyle(element).color;
      context.scale(ratio, ratio);
      values.forEach((line, i) => line.forEach((value, j) => {
        context.fillStyle = colourOf(value);
        context.fillRect(LEFT + j * cell, TOP + i * cell, cell + 0.3, cell + 0.3); // no seams between cells
      }));
      labels(context, colour, w, h);
      if (cell >= 7) rows.forEach((_, i) => marks(context, i));
      bar(context, colour, LEFT + w + 24);
      const outlined = (x, y, wide, high) => {
        for (const [ink, thick] of [["#fff", 5], [INK, 2.5]]) {
          [context.strokeStyle, context.lineWidth] = [ink, thick];
          context.strokeRect(x, y, wide, high);
        }
      };
      const at = rows.indexOf(row);
      if (at >= 0) outlined(LEFT, TOP + at * cell, w, cell);
      if (cursor) outlined(LEFT + cursor[1] * cell, TOP + cursor[0] * cell, cell, cell);
      const told = cursor || (at >= 0 ? [at, matrix.best[at]] : null);
      said.textContent = told ? sentence(...told) : `● best of its row${matrix.named ? ", right · ✕ best of its row, wrong · "
        + "□ the same region" : ""}. Point at a cell for its value.`;
    };

    const sentence = (i, j) => {
      const best = matrix.best[i] === j ? ", the best of its row" : "";
      const same = matrix.same[i] === j ? ", the same region" : "";
      const value = values[i][j].toFixed(3).replace("-", "−");
      return `${matrix.names[0]} region ${rows[i]} × ${matrix.names[1]} region ${columns[j]}: ${matrix.quantity} ${value}${best}${same}.`;
    };

    const labels = (context, colour, w, h) => {
      context.font = "11px system-ui, sans-serif";
      context.fillStyle = colour;
      context.textBaseline = "middle";
      const every = (needed) => Math.ceil(needed / cell);
      context.textAlign = "right";
      rows.forEach((r, i) => i % every(12) === 0 && context.fillText(r, LEFT - 5, TOP + (i + 0.5) * cell));
      context.textAlign = "center";
      columns.forEach((c, j) => j % every(18) === 0 && context.fillText(c, LEFT + (j + 0.5) * cell, TOP - 8));
      context.textAlign = "left";
      const below = `regions of ${matrix.names[1]} →`;
      context.fillText(context.measureText(below).width > w ? matrix.names[1] : below, LEFT, TOP + h + 14);
      context.save();
      context.translate(12, TOP + h);
      context.rotate(-Math.PI / 2);
      const name = `regions of ${matrix.names[0]} →`;
      context.fillText(context.measureText(name).width > h ? matrix.names[0] : name, 0, 0);
      context.restore();
    };

    /** The best of a row, and the same region, as in the figure. */
    const marks = (context, i) => {
      const middle = (j) => [LEFT + (j + 0.5) * cell, TOP + (i + 0.5) * cell];
      const [x, y] = middle(matrix.best[i]), r = Math.min(5, 0.26 * cell);
      const wrong = matrix.named && matrix.same[i] !== matrix.best[i];
      for (const [ink, thick] of [["#fff", 2.5], [INK, 0]]) {
        [context.strokeStyle, context.fillStyle, context.lineWidth] = [ink, ink, wrong ? thick + 2 : thick];
        context.beginPath();
        if (wrong) {
          for (const s of [-1, 1]) (context.moveTo(x - r, y - r * s), context.lineTo(x + r, y + r * s));
          context.stroke();
        } else {
          context.arc(x, y, r + thick / 2, 0, 2 * Math.PI);
          context.fill();
        }
      }
      if (matrix.same[i] === null) return;
      const [sx, sy] = middle(matrix.same[i]), side = 0.8 * cell;
      [context.strokeStyle, context.lineWidth] = [INK, 1.2];
      context.strokeRect(sx - side / 2, sy - side / 2, side, side);
    };

    const bar = (context, colour, x) => {
      const high = Math.max(90, Math.min(160, cell * rows.length)), n = matrix.colours.length;
      matrix.colours.forEach((c, i) => {
        context.fillStyle = c;
        context.fillRect(x, TOP + high * (1 - (i + 1) / n), 12, high / n + 0.5);
      });
      [context.fillStyle, context.textAlign] = [colour, "left"];
      context.fillText(matrix.quantity, x, TOP - 16);
      matrix.ticks.forEach((tick, i) => {
        const y = TOP + high * (1 - (tick - matrix.low) / (matrix.high - matrix.low));
        context.fillRect(x + 12, y - 0.5, 3, 1);
        context.fillText(matrix.labels[i], x + 18, y);
      });
    };

    const point = (at) => {
      cursor = at;
      draw();
    };
    canvas.addEventListener("pointermove", (event) => event.pointerType === "mouse" && point(cellAt(event)));
    canvas.addEventListener("pointerleave", () => point(null));
    canvas.addEventListener("blur", () => point(null));
    canvas.addEventListener("click", (event) => {
      const at = cellAt(event);
      if (at) choose(rows[at[0]]);
      if (at) point(at);
    });
    canvas.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
      const clamp = (v, n) => Math.min(n - 1, Math.max(0, v));
      const [i, j] = cursor || [Math.max(0, rows.indexOf(row)), 0];
      if (step && cursor) point([clamp(i + step[0], rows.length), clamp(j + step[1], columns.length)]);
      else if (step) point([i, j]);
      else if (event.key === "Enter" || event.key === " ") choose(rows[i]);
      else return;
      event.preventDefault();
    });
    return {
      show(region) {
        const key = [region, element.clientWidth, getComputedStyle(element).color].join();
        if (key === drawn) return; // the pointer moves over the pictures
        [row, drawn] = [region, key];
        draw();
      },
    };
  };
})();

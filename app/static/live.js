// Affinity maps without the server, as plrc.analysis makes them: plrc.live → {open, answer, difference, scaleOf}.
//
// A packed map, as app/scenes.py sends it once: {h, w, channels, cells, lengths, lost}. cells: h·w·channels halves in
// base64, row after row, of length 1 but for what their reduction to so many channels has lost; lengths: h·w floats,
// those of the features before they were normalised. All points are [x, y], shares of the image.
(() => {
  const { bytes, clamp } = plrc.common;
  const KEPT = 8; // answers to single points of a map, so that a new point costs one product

  /** The value of each half: browsers know Float16Array for a short while only. */
  let halves = null;
  const halfTable = () => (halves ||= Float32Array.from({ length: 65536 }, (_, bits) => {
    const sign = bits >> 15 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
    return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : fraction * 2 ** -24);
  }));

  /** A map to ask, of a packed one; extent: how far right and down it reaches, the image being 1. */
  const open = ({ h, w, channels, cells, lengths }, extent) => {
    const table = halfTable(), packed = new Uint16Array(bytes(cells));
    const map = { h, w, channels, extent, lengths: new Float32Array(bytes(lengths)), answers: new Map() };
    map.cells = new Float32Array(packed.length);
    for (let i = 0; i < packed.length; i++) map.cells[i] = table[packed[i]];
    return map;
  };

  /** Calls add(number of a cell, weight) for the cells that a bilinear sample mixes. */
  const mixed = ({ h, w, extent }, [x, y], add) => {
    const u = clamp((x / extent[0]) * w - 0.5, 0, w - 1), v = clamp((y / extent[1]) * h - 0.5, 0, h - 1);
    const j = Math.min(Math.floor(u), Math.max(0, w - 2)), i = Math.min(Math.floor(v), Math.max(0, h - 2));
    for (const [row, down] of [[i, 1 - v + i], [i + 1, v - i]]) {
      for (const [column, right] of [[j, 1 - u + j], [j + 1, u - j]]) {
        if (down * right) add(row * w + column, down * right);
      }
    }
  };

  /** Cosines of every cell with the feature at a point: a bilinear sample, normalised after sampling. */
  const cosines = (map, point) => {
    const key = point.join(), { channels, cells, lengths, answers } = map;
    const known = answers.get(key);
    if (known) return known;
    const mean = new Float32Array(channels), found = new Float32Array(map.h * map.w);
    mixed(map, point, (cell, weight) => {
      const by = weight * lengths[cell], from = cell * channels;
      for (let c = 0; c < channels; c++) mean[c] += by * cells[from + c];
    });
    const length = Math.max(Math.hypot(...mean), 1e-12), query = mean.map((v) => v / length); // as F.normalize
    for (let i = 0, at = 0; i < found.length; i++) {
      let sum = 0;
      for (let c = 0; c < channels; c++, at++) sum += query[c] * cells[at];
      found[i] = clamp(sum, -1, 1);
    }
    answers.set(key, found);
    if (answers.size > KEPT) answers.delete(answers.keys().next().value);
    return found;
  };

  /** h·w values of a map asked about points {x, y, negative}: those of plrc.analysis.prompt, or of its density. */
  const answer = (map, points, temperature) => {
    const most = (negative) => points.filter((p) => Boolean(p.negative) === negative)
      .map(({ x, y }) => cosines(map, [x, y]))
      .reduce((best, next) => (best ? best.map((v, i) => Math.max(v, next[i])) : next), null);
    const [like, unlike] = [most(false), most(true)];
    const values = unlike ? like.map((v, i) => v - unlike[i]) : like;
    if (!temperature) return values;
    const top = values.reduce((a, b) => Math.max(a, b)), shares = values.map((v) => Math.exp((v - top) / temperature));
    const even = shares.length / shares.reduce((a, b) => a + b, 0);
    return shares.map((v) => v * even);
  };

  /** Values over the cells of one map minus those over another's, on the grid that has more cells. */
  const difference = (a, over, b, overToo) => {
    const grid = overToo.h * overToo.w > over.h * over.w ? overToo : over, { h, w, extent } = grid;
    const at = (values, map, k) => {
      if (map === grid) return values[k];
      let sum = 0;
      const place = [(((k % w) + 0.5) / w) * extent[0], ((Math.floor(k / w) + 0.5) / h) * extent[1]];
      mixed(map, place, (cell, weight) => (sum += weight * values[cell]));
      return sum;
    };
    return Float32Array.from({ length: h * w }, (_, k) => at(a, over, k) - at(b, overToo, k));
  };

  /** Quantiles of the values of some maps, as NumPy has them: with what lies between two values. */
  const quantiles = (maps, ...shares) => {
    const values = new Float32Array(maps.reduce((n, of) => n + of.length, 0));
    maps.reduce((at, of) => (values.set(of, at), at + of.length), 0);
    values.sort();
    return shares.map((share) => {
      const at = share * (values.length - 1), k = Math.floor(at);
      return values[k] + (at - k) * ((values[k + 1] ?? values[k]) - values[k]);
    });
  };

  const extremes = (maps) => {
    let [low, high] = [Infinity, -Infinity];
    for (const values of maps) for (const v of values) [low, high] = [Math.min(low, v), Math.max(high, v)];
    return [low, high];
  };

  /** The one scale of some maps, as plrc.figures.scale_of finds it; limits: a range, a share, or null. */
  const scaleOf = (quantity, { limits, colours }, maps) => {
    const given = Array.isArray(limits);
    let [low, high] = given ? limits : limits ? quantiles(maps, limits, 1 - limits) : extremes(maps);
    if (!given) {
      if (plrc.look.signed.includes(quantity)) [low, high] = [-Math.max(-low, high), Math.max(-low, high)];
      if (high - low <= 1e-6 * Math.max(Math.abs(low), Math.abs(high))) {
        const around = Math.abs(high) / 2 || 1;
        [low, high] = [low - around, high + around];
        if (quantity === "cosine") [low, high] = [Math.max(low, -1), Math.min(high, 1)];
      }
    }
    return { quantity, low, high, colours: low === -high ? plrc.look.diverging : plrc.look.sequential[colours] };
  };

  plrc.live = { open, answer, difference, scaleOf };
})();

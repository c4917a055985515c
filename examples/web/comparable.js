// Whether an image can be compared with the good images of the fit, by the rules of comparable.py and turned.py in
// padim_edge_model, which give the reasons for them. A plane holds one number per patch, row by row.

const sum = (plane) => plane.reduce((total, each) => total + each, 0);
const mean = (plane) => sum(plane) / plane.length;
const dot = (one, other) => {
  let total = 0;
  for (let k = 0; k < one.length; k++) total += one[k] * other[k];
  return total;
};
const sorted = (values) => Float64Array.from(values).sort();

function deviationOf(plane) {
  const middle = mean(plane);
  return Math.sqrt(mean(plane.map((each) => (each - middle) ** 2)));
}

function bytes(text, unit = 1) {
  return Float64Array.from(atob(text), (each) => each.charCodeAt(0) * unit);
}

/** Prepare the look of the good images for many images. */
export function referenceOf({ reference, grid }) {
  const [h, w] = grid, good = bytes(reference.mean), deviation = bytes(reference.deviation ?? "", 0.25);
  if (good.length !== h * w) return null;
  return {
    ...reference,
    grid: { h, w },
    mean: good,
    deviation: deviation.length === h * w ? deviation : null,
    spectrum: Math.min(h, w) < 2 ? null : spectrum(good, { h, w }),
  };
}

/** Return the reasons why a frame is not comparable: `unlike`, `shift`, `turned`, `exposure`; mostly none. */
export function warningsOf(frame, patchDistance, reference) {
  const small = thumbnail(frame, reference.grid), moved = shift(small, reference);
  const quartile = sorted(patchDistance)[patchDistance.length >> 2];
  const far = Math.max(Math.abs(moved[0]), Math.abs(moved[1])) > reference.shift + 1;
  const found = {
    unlike: reference.unlike > 0 && quartile > reference.unlike,
    shift: reference.shift <= 2 && far && explains(moved, small, reference),
    turned: reference.deviation !== null && turned(small, reference),
    exposure: exposedOtherwise(small, reference),
  };
  return Object.keys(found).filter((each) => found[each]);
}

/** Mean grey levels of the patches. */
function thumbnail({ data, width, height }, { h, w }) {
  const small = new Float64Array(h * w);
  for (let i = 0; i < h; i++) {
    const top = Math.floor((i * height) / h), low = Math.floor(((i + 1) * height) / h);
    for (let j = 0; j < w; j++) {
      const left = Math.floor((j * width) / w), right = Math.floor(((j + 1) * width) / w);
      let total = 0;
      for (let y = top; y < low; y++) {
        for (let at = (y * width + left) * 3, end = (y * width + right) * 3; at < end; at++) total += data[at];
      }
      small[i * w + j] = total / (3 * (low - top) * (right - left));
    }
  }
  return small;
}

/** Slopes down and to the right; 0 where a side has one patch. */
function gradient(plane, { h, w }) {
  const down = new Float64Array(plane.length), right = new Float64Array(plane.length);
  if (Math.min(h, w) < 2) return [down, right];
  for (let i = 0; i < h; i++) {
    const up = Math.max(i - 1, 0), low = Math.min(i + 1, h - 1);
    for (let j = 0; j < w; j++) {
      const before = Math.max(j - 1, 0), behind = Math.min(j + 1, w - 1);
      down[i * w + j] = (plane[low * w + j] - plane[up * w + j]) / (low - up);
      right[i * w + j] = (plane[i * w + behind] - plane[i * w + before]) / (behind - before);
    }
  }
  return [down, right];
}

/** Fourier transform along one axis of a complex plane, in place. */
function along(real, imaginary, { count, length, apart, step }, sign) {
  const circle = Array.from({ length }, (_, k) => (sign * 2 * Math.PI * k) / length);
  const cos = circle.map(Math.cos), sin = circle.map(Math.sin);
  const re = new Float64Array(length), im = new Float64Array(length);
  for (let line = 0; line < count; line++) {
    for (let k = 0; k < length; k++) {
      let a = 0, b = 0;
      for (let x = 0, at = line * apart, turn = 0; x < length; x++, at += step, turn = (turn + k) % length) {
        a += real[at] * cos[turn] - imaginary[at] * sin[turn];
        b += real[at] * sin[turn] + imaginary[at] * cos[turn];
      }
      re[k] = a;
      im[k] = b;
    }
    for (let k = 0; k < length; k++) {
      real[line * apart + k * step] = re[k];
      imaginary[line * apart + k * step] = im[k];
    }
  }
}

function transform(real, imaginary, { h, w }, sign) {
  along(real, imaginary, { count: h, length: w, apart: w, step: 1 }, sign);
  along(real, imaginary, { count: w, length: h, apart: 1, step: w }, sign);
}

/** Spectrum of the edges, under a window against the pull of the borders. */
function spectrum(plane, grid) {
  const { h, w } = grid, [down, right] = gradient(plane, grid);
  const edges = down.map((each, k) => Math.hypot(each, right[k])), middle = mean(edges);
  const window = (k, length) => 0.5 - 0.5 * Math.cos((2 * Math.PI * (k + 1)) / (length + 1));
  const real = edges.map((each, k) => (each - middle) * window(Math.floor(k / w), h) * window(k % w, w));
  const imaginary = new Float64Array(h * w);
  transform(real, imaginary, grid, -1);
  return [real, imaginary];
}

/** Rows and columns by which a thumbnail has moved against the mean one: phase correlation. */
function shift(small, { grid, spectrum: other }) {
  if (!other) return [0, 0];
  const { h, w } = grid, [real, imaginary] = spectrum(small, grid);
  for (let k = 0; k < real.length; k++) {
    const a = real[k] * other[0][k] + imaginary[k] * other[1][k];
    const b = imaginary[k] * other[0][k] - real[k] * other[1][k];
    const length = Math.sqrt(Math.hypot(a, b) + 1e-12);
    real[k] = a / length;
    imaginary[k] = b / length;
  }
  transform(real, imaginary, grid, 1);
  const at = (i, j) => real[((i + h) % h) * w + ((j + w) % w)];
  const rows = Math.max(1, h >> 2), columns = Math.max(1, w >> 2);
  let best = [-rows, -columns];
  for (let i = -rows; i <= rows; i++) {
    for (let j = -columns; j <= columns; j++) if (at(i, j) > at(...best)) best = [i, j];
  }
  const peak = at(...best);
  return peak <= 0 || at(0, 0) > 0.9 * peak ? [0, 0] : best;
}

function explains([down, right], small, { grid: { h, w }, mean: good }) {
  const back = [], rest = [];
  for (let i = Math.max(0, down); i < h + Math.min(0, down); i++) {
    for (let j = Math.max(0, right); j < w + Math.min(0, right); j++) {
      back.push(small[i * w + j] - good[(i - down) * w + j - right]);
      rest.push(small[i * w + j] - good[i * w + j]);
    }
  }
  const spread = (values) => {
    const row = sorted(values), middle = (row[(row.length - 1) >> 1] + row[row.length >> 1]) / 2;
    return mean(row.map((each) => Math.abs(each - middle)));
  };
  return spread(back) < 0.9 * spread(rest);
}

function projectOut(plane, still) {
  for (const each of still) {
    const share = dot(plane, each);
    for (let k = 0; k < plane.length; k++) plane[k] -= share * each[k];
  }
}

/** Changes that are no turn, orthonormal: brightness, contrast, small moves. */
function stillOf(good, scale, grid) {
  const still = [];
  for (const change of [good.map(() => 1), good, ...gradient(good, grid)]) {
    const next = change.map((each, k) => each / scale[k]), before = Math.sqrt(dot(next, next));
    projectOut(next, still);
    projectOut(next, still);
    const length = Math.sqrt(dot(next, next));
    if (length > 1e-6 * before) still.push(next.map((each) => each / length));
  }
  return still;
}

function turned(small, { grid, mean: good, deviation, turned: limits = [] }) {
  if (!limits.some((limit) => limit > 0)) return false;
  const { h, w } = grid, scale = deviation.map((each) => Math.sqrt(each * each + 4));
  const still = stillOf(good, scale, grid);
  const from = [
    (i, j) => j * w + w - 1 - i,
    (i, j) => (h - 1 - i) * w + w - 1 - j,
    (i, j) => (h - 1 - j) * w + i,
  ];
  return limits.some((limit, k) => {
    if (!(limit > 0) || (h !== w && k !== 1)) return false;
    const towards = good.map((each, at) => (good[from[k](Math.floor(at / w), at % w)] - each) / scale[at]);
    const off = small.map((each, at) => {
      const most = Math.max(6, Math.abs(towards[at]));
      return Math.max(-most, Math.min(most, (each - good[at]) / scale[at]));
    });
    projectOut(towards, still);
    const length = dot(towards, towards);
    return length > 1e-9 * good.length && dot(off, towards) / length > limit;
  });
}

function exposedOtherwise(small, { mean: good, brightness, contrast }) {
  const inside = (value, [low, high]) => {
    const room = 0.5 * (high - low) + 3;
    return low - room <= value && value <= high + room;
  };
  if (deviationOf(small) < contrast[0] / 3) return true;
  const off = small.map((each, k) => Math.abs(each - good[k]));
  const most = sorted(off)[off.length - 1 - Math.floor(off.length / 10)];
  const rest = small.map((each, k) => (off[k] > most ? good[k] : each));
  return !(
    (inside(mean(small), brightness) || inside(mean(rest), brightness)) &&
    (inside(deviationOf(small), contrast) || inside(deviationOf(rest), contrast))
  );
}

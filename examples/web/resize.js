// The way of an image into the model's frame, to the same bytes as `padim_edge_runtime/image_files.py`: means of
// blocks, then Pillow's antialiased resize in whole numbers, each row first, then the centre crop.

/** Pixels side by side: `data` holds `height` rows of `width` pixels of three bytes, R, G and B. */
export const pixelsOf = (data, width, height) => ({ data, width, height });

const BINNED = "binned-";
/** Largest side of a block in pixels. */
const MOST_BINNED = 8;
/** Bits behind the point in Pillow's weights. */
const BITS = 22;

const KERNELS = {
  bilinear: { reach: 1, at: (x) => Math.max(0, 1 - Math.abs(x)) },
  bicubic: { reach: 2, at: bicubic },
};

/** Interpolations that are known; a model with another one is refused. */
export const INTERPOLATIONS = Object.keys(KERNELS).flatMap((name) => [name, BINNED + name]);

function bicubic(offset) {
  const a = -0.5, x = Math.abs(offset);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

/** Bring an image to the graph's input: the model's frame, or the camera's where the graph itself resizes. */
export function prepare(image, preprocessing) {
  const [height, width] = preprocessing.camera ?? preprocessing.resize;
  const kernel = KERNELS[preprocessing.interpolation.replace(BINNED, "")];
  const [down, across] = bins(image, preprocessing);
  let found = down * across === 1 ? image : binned(image, down, across);
  // The last block may stand for a part of one, so the filter sees a length with a fraction.
  if (found.width !== width) found = resizedAcross(found, width, image.width / across, kernel);
  if (found.height !== height) found = resizedDown(found, height, image.height / down, kernel);
  return preprocessing.camera || !preprocessing.crop ? found : cropped(found, preprocessing.crop);
}

/** Rows and columns of the blocks whose means take the place of pixels; 1 leaves them as they are. */
function bins(image, { interpolation, camera, resize }) {
  if (!interpolation.startsWith(BINNED)) return [1, 1];
  const [height, width] = camera ?? resize;
  const most = (given, wanted) => Math.min(MOST_BINNED, Math.max(1, Math.floor(given / wanted)));
  return [most(image.height, height), most(image.width, width)];
}

function binned(image, down, across) {
  const width = Math.ceil(image.width / across), height = Math.ceil(image.height / down);
  const data = new Uint8Array(width * height * 3);
  for (let i = 0; i < height; i++) {
    const top = i * down, low = Math.min(top + down, image.height);
    for (let j = 0; j < width; j++) {
      const left = j * across, right = Math.min(left + across, image.width);
      const count = (low - top) * (right - left);
      let red = count >> 1, green = red, blue = red;
      for (let y = top; y < low; y++) {
        for (let at = (y * image.width + left) * 3, end = at + (right - left) * 3; at < end; at += 3) {
          red += image.data[at];
          green += image.data[at + 1];
          blue += image.data[at + 2];
        }
      }
      const to = (i * width + j) * 3;
      data[to] = red / count; // stored without the fraction
      data[to + 1] = green / count;
      data[to + 2] = blue / count;
    }
  }
  return pixelsOf(data, width, height);
}

/** Weights of the pixels that each new pixel is made of, as Pillow computes them. */
function weightsOf(given, length, wanted, kernel) {
  const scale = Math.fround(length) / wanted; // Pillow keeps the length as a float
  const wide = Math.max(1, scale), support = kernel.reach * wide, room = Math.ceil(support) * 2 + 1;
  const first = new Int32Array(wanted), counts = new Int32Array(wanted), weights = new Int32Array(wanted * room);
  const row = new Float64Array(room);
  for (let i = 0; i < wanted; i++) {
    const centre = (i + 0.5) * scale;
    const low = Math.max(0, Math.trunc(centre - support + 0.5));
    const count = Math.min(given, Math.trunc(centre + support + 0.5)) - low;
    let sum = 0;
    for (let k = 0; k < count; k++) {
      row[k] = kernel.at((k + low - centre + 0.5) * (1 / wide));
      sum += row[k];
    }
    for (let k = 0; k < count; k++) {
      const weight = (sum === 0 ? row[k] : row[k] / sum) * (1 << BITS);
      weights[i * room + k] = Math.trunc(weight < 0 ? weight - 0.5 : weight + 0.5);
    }
    first[i] = low;
    counts[i] = count;
  }
  return { first, counts, weights, room };
}

const level = (sum) => { const value = sum >> BITS; return value < 0 ? 0 : value > 255 ? 255 : value; };

function resizedAcross(image, width, length, kernel) {
  const { first, counts, weights, room } = weightsOf(image.width, length, width, kernel);
  const { data: from, height } = image, data = new Uint8Array(width * height * 3);
  for (let y = 0, to = 0; y < height; y++) {
    for (let x = 0; x < width; x++, to += 3) {
      let at = (y * image.width + first[x]) * 3, red = 1 << (BITS - 1), green = red, blue = red;
      for (let k = x * room, end = k + counts[x]; k < end; k++, at += 3) {
        red += from[at] * weights[k];
        green += from[at + 1] * weights[k];
        blue += from[at + 2] * weights[k];
      }
      data[to] = level(red);
      data[to + 1] = level(green);
      data[to + 2] = level(blue);
    }
  }
  return pixelsOf(data, width, height);
}

function resizedDown(image, height, length, kernel) {
  const { first, counts, weights, room } = weightsOf(image.height, length, height, kernel);
  const row = image.width * 3, data = new Uint8Array(row * height), sums = new Int32Array(row);
  for (let y = 0; y < height; y++) {
    sums.fill(1 << (BITS - 1));
    for (let k = 0; k < counts[y]; k++) {
      const weight = weights[y * room + k];
      for (let x = 0, at = (first[y] + k) * row; x < row; x++, at++) sums[x] += image.data[at] * weight;
    }
    for (let x = 0, to = y * row; x < row; x++, to++) data[to] = level(sums[x]);
  }
  return pixelsOf(data, image.width, height);
}

function cropped(image, [height, width]) {
  const top = (image.height - height) >> 1, left = (image.width - width) >> 1;
  const data = new Uint8Array(width * height * 3);
  for (let y = 0; y < height; y++) {
    const from = ((top + y) * image.width + left) * 3;
    data.set(image.data.subarray(from, from + width * 3), y * width * 3);
  }
  return pixelsOf(data, width, height);
}

/** Part of an image that the model sees, in the image's pixels. */
export function judgedBox({ resize, crop }, width, height) {
  const size = crop ?? resize;
  const down = height / resize[0], across = width / resize[1];
  const top = (resize[0] - size[0]) >> 1, left = (resize[1] - size[1]) >> 1;
  return { left: left * across, top: top * down, width: size[1] * across, height: size[0] * down };
}

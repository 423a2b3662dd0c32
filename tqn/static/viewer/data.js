// The attention viewer, a lane of attention for each question under the film: its numbers, without a page.

/** The clip or column of a frame; spans are [first, last) pairs. */
export const clipAt = (spans, frame) => lastAtMost(spans, frame, 2)

/** 0 for uniform attention, 1 for all on one clip. */
export function focus(a) {
  const s = sum(a)
  let h = 0
  if (!(s > 0) || a.length < 2) return 0
  for (const v of a) if (v > 0) h -= v / s * log(v / s)
  return 1 - h / log(a.length)
}

/** Local peaks at least a quarter as high as the highest. */
export function peaks(a) {
  const found = [], least = a[argmax(a)] / 4
  for (let i = 0; i < a.length;) {
    let j = i
    while (j + 1 < a.length && a[j + 1] === a[i]) j++
    if (a[i] > 0 && a[i] >= least && !(a[i - 1] > a[i]) && !(a[j + 1] > a[i])) found.push(i + j >> 1)
    i = j + 1
  }
  return found
}

/** The next peak after (1) or before (-1) i, or -1. */
export function nextPeak(a, i, dir) {
  const all = peaks(a).filter(p => (p - i) * dir > 0)
  return all.length ? all[dir > 0 ? 0 : all.length - 1] : -1
}

/** The order of lanes [{p, peak, focus}] as indices. */
export function order(lanes, by) {
  const key = {probability: l => -(l.p ?? -1), peak: l => l.peak, focus: l => -l.focus}[by]
  const all = lanes.map((_, i) => i)
  return key ? all.sort((a, b) => key(lanes[a]) - key(lanes[b]) || a - b) : all
}

/** Ranges [first, last) in order, touching ones joined, within n. */
export function merge(ranges, n = Infinity) {
  const out = []
  for (const [a, b] of ranges.map(([a, b]) => [max(0, a), min(n, b)]).filter(([a, b]) => a < b).sort((x, y) => x[0] - y[0])) {
    const end = out.at(-1)
    if (end && a <= end[1]) end[1] = max(end[1], b); else out.push([a, b])
  }
  return out
}

/** Which clips the model does not see: the ranges, or all but them. */
export function unseen(ranges, keep, n) {
  const m = merge(ranges, n)
  if (!keep || !m.length) return m
  const edges = [0, ...m.flat(), n], out = []
  for (let i = 0; i < edges.length; i += 2) if (edges[i] < edges[i + 1]) out.push([edges[i], edges[i + 1]])
  return out
}

/** Round times for an axis, at most `most`. */
export function ticks(t0, t1, most) {
  const step = [.05, .1, .2, .5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600].find(s => (t1 - t0) / s <= most) ?? 7200
  const out = []
  for (let k = ceil(t0 / step - 1e-9); k * step <= t1 + step * 1e-9; k++) out.push(+(k * step).toFixed(2))
  return out
}

/** What '1:04.5', '64.5 s', 'f137' and 'c12' ask for: {time}, {frame} or {clip}; null for anything else. */
export function parsePlace(text) {
  const m = /^\s*(?:(f|c)[a-z]*\s*(\d+)|(?:(?:(\d+):)?(\d+):)?(\d+\.?\d*|\.\d+)\s*s?)\s*$/i.exec(text)
  if (!m) return null
  return m[1] ? {[m[1].toLowerCase() === 'f' ? 'frame' : 'clip']: +m[2]} : {time: 3600 * (m[3] ?? 0) + 60 * (m[4] ?? 0) + +m[5]}
}

/** Which lanes are on show, in which order: pinned ones first, then those whose name or answer holds the text. lanes: [{name, said}]. */
export function shownLanes(order, lanes, pinned, text) {
  const has = s => String(s).toLowerCase().includes(text.trim().toLowerCase()), pin = i => pinned.includes(lanes[i].name)
  return [...order.filter(pin), ...order.filter(i => !pin(i) && (has(lanes[i].name) || has(lanes[i].said)))]
}

/** Heights for film and lanes in the room that is left: lanes compact only where they must be, the film as high as it can. */
export function share(room, tall, compact, [least, most], film = 0) {
  const dense = (film || 220) + tall > room, lanes = dense ? compact : tall
  const top = film || clamp(room - lanes, least, most)
  return {dense, film: top, lanes: min(lanes, max(96, room - top))}
}

/** The share of a map that lies inside frames [first, last); columns are the frames [first, last) of each value. */
export const inside = (a, columns, [first, last]) => sum(Array.from(a, (x, c) => {
  const f = columns[2 * c], l = columns[2 * c + 1]
  return x * max(0, min(l, last) - max(f, first)) / (l - f)
})) / (sum(a) || 1)

/** A span whose beginning (0) or end (1) is moved to a frame, as far as there is room among n frames: at least one frame is left. */
export const moveEnd = ([a, b], end, frame, n) => end ? [a, clamp(frame, a + 1, n)] : [clamp(frame, 0, b - 1), b]

/** A change of probability. */
export const change = d => abs(d) < .005 ? 'no change' : (d < 0 ? '−' : '+') + abs(d).toFixed(2)

/** Rows as CSV; no text becomes a formula. */
export function csv(rows) {
  const cell = v => typeof v === 'number' ? String(v) : `"${(/^[=+\-@\t\r]/.test(v) ? "'" : '') + String(v).replaceAll('"', '""')}"`
  return rows.map(r => r.map(cell).join(',')).join('\r\n') + '\r\n'
}

/** What the traits say, as numbers that fit each other. */
export function read(model) {
  const meta = model.get('meta') ?? {}, wrong = s => { throw new Error(s) }
  const Q = meta.questions?.length ?? 0, N = meta.n_clips ?? 0
  if (!meta.n_frames || !N) wrong('This video has no frames.')
  const times = typed(model.get('times'), 'float64'), spans = typed(model.get('spans'), 'int32')
  const bin = meta.bin || 1, cols = ceil(N / bin)
  const attn = typed(model.get('attn'), meta.attn_dtype || 'float32'), roll = typed(model.get('rollout'), 'float32')
  if (!Q || !attn.length) wrong('No attention was captured for this video.')
  if (times.length !== meta.n_frames) wrong(`The film has times for ${times.length} frames, but ${meta.n_frames} were expected.`)
  if (spans.length !== 2 * N) wrong(`The attention has ${N} clips, but ${spans.length / 2} have a place in the film.`)
  if (spans[2 * N - 1] > times.length) wrong(`The attention reaches frame ${spans[2 * N - 1]}, but the film has ${times.length}.`)
  const shape = [meta.layers, meta.heads, Q, cols], want = shape.reduce((a, b) => a * b)
  if (attn.length !== want) wrong(`Expected ${want} attention values (layers, heads, questions, clips = ${shape.join(', ')}), got ${attn.length}.`)
  const end = times.at(-1) + 1 / (meta.fps || 25), at = f => f < times.length ? times[f] : end
  const columns = new Int32Array(2 * cols), edges = new Float64Array(cols + 1)
  for (let c = 0; c < cols; c++) {
    columns[2 * c] = spans[2 * c * bin]
    columns[2 * c + 1] = spans[2 * min(N, (c + 1) * bin) - 1]
    edges[c] = at(columns[2 * c])
  }
  edges[cols] = at(columns[2 * cols - 1])
  const ratio = meta.width && meta.height ? meta.width / meta.height : 16 / 9
  return {meta, times, spans, bin, cols, columns, edges, attn, shape, end, at, ratio, roll: roll.length === Q * cols ? roll : null, uniform: 1 / N}
}

// The attention viewer: one lane of attention a question, under the film it looks at.
// Plain functions first (numbers in, numbers out; tested under node), then the parts that touch the page.

// ---------------------------------------------------------------- numbers

const SIZES = {float16: 2, float32: 4, float64: 8, int32: 4}
const KINDS = {float32: Float32Array, float64: Float64Array, int32: Int32Array}

/** One IEEE half, from its 16 bits. */
export function half(u) {
  const s = u & 0x8000 ? -1 : 1, e = u >> 10 & 31, f = u & 1023
  return e === 31 ? (f ? NaN : s * Infinity) : e ? s * (1 + f / 1024) * 2 ** (e - 15) : s * f * 2 ** -24
}

/** Little-endian bytes, however they came, as numbers in memory of their own. */
export function typed(v, kind) {
  const b = !v ? new Uint8Array(0) : v instanceof ArrayBuffer ? new Uint8Array(v) : new Uint8Array(v.buffer, v.byteOffset, v.byteLength)
  if (!(kind in SIZES)) throw new Error(`expected float16, float32, float64 or int32 numbers, got ${kind}`)
  if (b.length % SIZES[kind]) throw new Error(`expected whole ${kind} numbers, got ${b.length} bytes`)
  const own = b.slice().buffer
  return kind === 'float16' ? Float32Array.from(new Uint16Array(own), half) : new KINDS[kind](own)
}

/** The last i with a[i*step] <= x, at least 0; a ascends. */
export function lastAtMost(a, x, step = 1) {
  let lo = 0, hi = a.length / step - 1
  while (lo < hi) { const m = lo + hi + 1 >> 1; if (a[m * step] <= x) lo = m; else hi = m - 1 }
  return lo
}

/** The frame on show at time t: the last whose time has come. */
export const frameAt = (times, t) => lastAtMost(times, t + 1e-4)

/** Where to seek so that frame i is shown, whatever the browser rounds: its middle. */
export const seekTime = (times, i, end) => (times[i] + (i + 1 < times.length ? times[i + 1] : Math.max(end, times[i]))) / 2

/** The clip (or column) that holds a frame; spans are [first, last) pairs. */
export const clipAt = (spans, frame) => lastAtMost(spans, frame, 2)

/** Attention (layers, heads, questions, n) as one map a question. layer -1: mean; head -1: mean, -2: max of heads. */
export function combine(attn, [L, H, Q, N], layer = -1, head = -1) {
  const out = new Float32Array(Q * N), top = new Float32Array(head === -2 ? Q * N : 0)
  const layers = layer < 0 ? [...Array(L).keys()] : [layer], heads = head < 0 ? [...Array(H).keys()] : [head]
  for (const l of layers) {
    if (head === -2) top.fill(-Infinity)
    for (const h of heads) {
      const o = (l * H + h) * Q * N
      if (head === -2) { for (let i = 0; i < Q * N; i++) if (attn[o + i] > top[i]) top[i] = attn[o + i] }
      else for (let i = 0; i < Q * N; i++) out[i] += attn[o + i]
    }
    if (head === -2) for (let i = 0; i < Q * N; i++) out[i] += top[i]
  }
  const k = layers.length * (head === -2 ? 1 : heads.length)
  if (k > 1) for (let i = 0; i < Q * N; i++) out[i] /= k
  return out
}

/** The highest value under each of px columns over [t0, t1); NaN where there is none. edges: n + 1 times. */
export function pool(a, edges, t0, t1, px) {
  const out = new Float32Array(px).fill(NaN), n = a.length, s = (t1 - t0) / px
  let i = Math.min(lastAtMost(edges, t0), n - 1)
  for (let x = 0; x < px; x++) {
    const from = t0 + x * s, to = from + s, e = s * 1e-6
    while (i < n - 1 && edges[i + 1] <= from + e) i++
    if (edges[i] >= to || edges[n] <= from + e) continue
    let m = a[i]
    for (let j = i + 1; j < n && edges[j] < to - e; j++) if (a[j] > m) m = a[j]
    out[x] = m
  }
  return out
}

export function argmax(a, from = 0, to = a.length) {
  let m = from
  for (let i = from + 1; i < to; i++) if (a[i] > a[m]) m = i
  return m
}

/** How far from uniform a map is: 0 everywhere alike, 1 all on one clip. */
export function focus(a) {
  let s = 0, h = 0
  for (const v of a) s += v
  if (!(s > 0) || a.length < 2) return 0
  for (const v of a) if (v > 0) h -= v / s * Math.log(v / s)
  return 1 - h / Math.log(a.length)
}

/** Local peaks at least a quarter as high as the highest, first to last. */
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

/** The nearest peak after (dir 1) or before (dir -1) column i; -1 if there is none. */
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
  for (const [a, b] of ranges.map(([a, b]) => [Math.max(0, a), Math.min(n, b)]).filter(([a, b]) => a < b).sort((x, y) => x[0] - y[0])) {
    const end = out.at(-1)
    if (end && a <= end[1]) end[1] = Math.max(end[1], b); else out.push([a, b])
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
  const step = [.01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200].find(s => (t1 - t0) / s <= most) ?? 14400
  const out = []
  for (let k = Math.ceil(t0 / step - 1e-9); k * step <= t1 + step * 1e-9; k++) out.push(+(k * step).toFixed(2))
  return out
}

/** Seconds for people: 4.80 s, 1:04.80, 1:02:03.00. */
export function clock(t, digits = 2) {
  const k = 10 ** digits, all = Math.max(0, Math.round(t * k)), s = all / k
  if (s < 60) return `${s.toFixed(digits)} s`
  const two = x => String(x).padStart(2, '0'), m = Math.floor(s / 60)
  const rest = (all % (60 * k) / k).toFixed(digits).padStart(digits ? digits + 3 : 2, '0')
  return m < 60 ? `${m}:${rest}` : `${Math.floor(m / 60)}:${two(m % 60)}:${rest}`
}

export const prob = p => p == null || Number.isNaN(p) ? '' : p >= .995 && p < 1 ? '>0.99' : p > 0 && p < .005 ? '<0.01' : p.toFixed(2)
export const times_ = r => `${r >= 9.95 ? Math.round(r) : r.toFixed(1)}×`
export const number = v => v === 0 ? '0' : v >= .1 ? v.toFixed(3) : v >= 1e-4 ? v.toFixed(Math.min(6, 2 - Math.floor(Math.log10(v)))) : v.toExponential(1)
export const change = d => (d < 0 ? '−' : '+') + Math.abs(d).toFixed(2)

/** Rows as CSV; text that a spreadsheet would run as a formula is defused. */
export function csv(rows) {
  const cell = v => typeof v === 'number' ? String(v) : `"${(/^[=+\-@\t\r]/.test(v) ? "'" : '') + String(v).replaceAll('"', '""')}"`
  return rows.map(r => r.map(cell).join(',')).join('\r\n') + '\r\n'
}

const RAMPS = {light: ['c4deeb', '7db5d3', '3a86b4', '155a8a', '082f54'], dark: ['1b4058', '23658d', '3f9aca', '8bcdec', 'e6f6ff']}

/** 256 colours from faint to strong against the ground of a theme. */
export function ramp(theme) {
  const stops = RAMPS[theme].map(s => [0, 2, 4].map(i => parseInt(s.slice(i, i + 2), 16)))
  return Array.from({length: 256}, (_, i) => {
    const x = i / 255 * (stops.length - 1), k = Math.min(stops.length - 2, Math.floor(x))
    return `rgb(${stops[k].map((a, c) => Math.round(a + (stops[k + 1][c] - a) * (x - k))).join(',')})`
  })
}

/** Everything the traits say, as numbers, checked against each other. */
export function read(model) {
  const meta = model.get('meta') ?? {}, wrong = s => { throw new Error(s) }
  const Q = meta.questions?.length ?? 0, N = meta.n_clips ?? 0
  if (!meta.n_frames || !N) wrong('This video has no frames, so there is nothing to show.')
  const times = typed(model.get('times'), 'float64'), spans = typed(model.get('spans'), 'int32')
  const bin = meta.bin || 1, cols = Math.ceil(N / bin)
  const attn = typed(model.get('attn'), meta.attn_dtype || 'float32'), roll = typed(model.get('rollout'), 'float32')
  if (!Q || !attn.length) wrong('No attention was captured: the model returned none for this video.')
  if (times.length !== meta.n_frames) wrong(`The film has ${times.length} frames, but ${meta.n_frames} were expected; make the viewer again.`)
  if (spans.length !== 2 * N) wrong(`The attention covers ${N} clips, but ${spans.length / 2} have a place in the film; make the viewer again.`)
  if (spans[2 * N - 1] > times.length) wrong(`The attention reaches frame ${spans[2 * N - 1]}, but the film has ${times.length}: they belong to different films.`)
  const shape = [meta.layers, meta.heads, Q, cols], want = shape.reduce((a, b) => a * b)
  if (attn.length !== want) wrong(`Expected ${want} attention values (layers, heads, questions, clips = ${shape.join(', ')}), got ${attn.length}.`)
  const more = meta.fps > 0 ? 1 / meta.fps : times.length > 1 ? times.at(-1) - times.at(-2) : .04
  const end = times.at(-1) + more, at = f => f < times.length ? times[f] : end
  const columns = new Int32Array(2 * cols), edges = new Float64Array(cols + 1)
  for (let c = 0; c < cols; c++) {
    columns[2 * c] = spans[2 * c * bin]
    columns[2 * c + 1] = spans[2 * Math.min(N, (c + 1) * bin) - 1]
    edges[c] = at(columns[2 * c])
  }
  edges[cols] = at(columns[2 * cols - 1])
  return {meta, times, spans, bin, cols, columns, edges, attn, shape, end, at, roll: roll.length === Q * cols ? roll : null, uniform: 1 / N}
}

// ---------------------------------------------------------------- page

/** An element with attributes, listeners (on...) and children; text stays text. */
function h(tag, props = {}, ...kids) {
  const svg = tag === 'svg' || tag === 'path'
  const e = svg ? document.createElementNS('http://www.w3.org/2000/svg', tag) : document.createElement(tag)
  for (const [k, v] of Object.entries(props)) {
    if (v == null || v === false) continue
    if (k === 'text') e.textContent = v
    else if (k in e && !svg && typeof v !== 'string') e[k] = v
    else e.setAttribute(k, v === true ? '' : v)
  }
  e.append(...kids.filter(k => k != null && k !== false))
  return e
}

const ICONS = {
  play: 'M4 2.5v11l9-5.5z', pause: 'M4 3h3v10H4zM9 3h3v10H9z', frameBack: 'M10.5 3.5 5 8l5.5 4.5z', frameOn: 'M5.5 3.5 11 8l-5.5 4.5z',
  clipBack: 'M3 3.5h1.6v9H3zM13 3.5v9L6 8z', clipOn: 'M11.4 3.5H13v9h-1.6zM3 3.5v9L10 8z', close: 'm4 4 8 8m0-8-8 8',
}
const icon = name => h('svg', {viewBox: '0 0 16 16', width: 16, height: 16, 'aria-hidden': 'true', class: `tqn-icon tqn-icon-${name}`}, h('path', {d: ICONS[name]}))
const MARKS = {true: ['✓', 'right', 'right'], false: ['✗', 'wrong', 'wrong'], none: ['', '', '']}
const SPEEDS = [.1, .25, .5, 1, 1.5, 2, 4]
const KEYS = [
  ['Space', 'play or pause'], ['← →', 'one frame back or on'], ['Shift ← →', 'one clip back or on'], ['Home End', 'first or last frame'],
  ['P N', 'previous or next peak of the lane'], ['↑ ↓', 'lane above or below'], ['< >', 'slower or faster'], ['+ − 0', 'zoom in, out, whole film'],
  ['[ ]', 'begin or end a range at this clip'], ['H K', 'hide the range, or keep only it'], ['U', 'undo'], ['C', 'show everything again'], ['T', 'table of numbers'],
  ['D', 'deletion and insertion curves'], ['Esc', 'close'], ['?', 'these keys'],
]
const POINTER = ['Click a lane or the film to go there. Drag along the film to scrub; drag along a lane to choose a range. Ctrl and wheel zooms.']
const SLOW = 5000

function message(text, kind = 'alert') { return h('div', {class: 'tqn-message', role: kind, text}) }

/** Follows the page's theme, or the one asked for; calls back with 'light' or 'dark'. */
function themes(model, done, signal) {
  const media = matchMedia('(prefers-color-scheme: dark)')
  const look = () => {
    const own = model.get('theme'), body = document.body, jp = body.dataset.jpThemeLight, html = document.documentElement
    const colab = html.getAttribute('theme')
    done(own === 'light' || own === 'dark' ? own : jp ? (jp === 'true' ? 'light' : 'dark') : colab ? (colab === 'dark' ? 'dark' : 'light')
      : body.classList.contains('vscode-dark') || body.classList.contains('vscode-high-contrast') ? 'dark' : body.classList.contains('vscode-light') ? 'light'
      : media.matches ? 'dark' : 'light')
  }
  const seen = new MutationObserver(look)
  seen.observe(document.body, {attributes: true, attributeFilter: ['data-jp-theme-light', 'class']})
  seen.observe(document.documentElement, {attributes: true, attributeFilter: ['theme']})
  media.addEventListener('change', look, {signal})
  signal.addEventListener('abort', () => seen.disconnect())
  look()
  return look
}

/** The film: fetched in parts, shown frame by frame. Tells `on` what happens; works as a clock where there is none. */
function makeFilm(model, data, on, signal) {
  const video = h('video', {class: 'tqn-video', muted: true, playsInline: true, preload: 'auto', 'aria-hidden': 'true', tabindex: '-1', disablePictureInPicture: true})
  const spy = h('video', {muted: true, playsInline: true, preload: 'auto'})  // looks ahead for previews
  const {times, end} = data
  const film = {video, spy, state: 'none', frame: 0, shown: -1, playing: false, speed: 1}
  let parts = [], url = '', timer = 0, pending = -1, clockAt = 0, loop = 0, jobs = [], job = null
  const listen = (e, name, f) => e.addEventListener(name, f, {signal})
  const status = (s, text, share) => { film.state = s; on.status(s, text, share) }

  film.load = () => {
    if (data.meta.video === false) return status('none', '')
    parts = []; ask(0)
  }
  const ask = part => {
    clearTimeout(timer)
    timer = setTimeout(() => status('late', 'The film has not come yet: the kernel is busy or has stopped. Everything else works.'), SLOW)
    if (!part) status('loading', 'Loading the film', 0)
    model.send({type: 'video', part})
  }
  film.receive = (m, buffers) => {
    if (m.error) { clearTimeout(timer); return status('error', m.error) }
    if (film.state === 'ready' || m.part !== parts.length || !buffers?.length) return
    parts.push(buffers[0])
    status('loading', 'Loading the film', parts.length / m.parts)
    if (parts.length < m.parts) return ask(parts.length)
    clearTimeout(timer)
    url = URL.createObjectURL(new Blob(parts, {type: m.mime || 'video/mp4'}))
    parts = []
    video.src = spy.src = url
  }
  const go = () => {
    if (video.seeking) { pending = film.frame; return }
    pending = -1
    video.currentTime = seekTime(times, film.frame, end)
  }
  const show = i => { if (i !== film.shown) { film.shown = i; on.shown(i) } }
  const tell = i => { if (i !== film.frame) { film.frame = i; on.frame(i) } }
  const presented = (_, m) => {
    const i = frameAt(times, m.mediaTime)
    show(i)
    if (film.playing && !video.paused && !video.seeking) tell(i)
    video.requestVideoFrameCallback(presented)
  }
  listen(video, 'loadeddata', () => {
    if (film.state === 'ready') return
    status('ready', '')
    video.playbackRate = film.speed
    go()
    if (film.playing) { stopClock(); video.play().catch(() => film.pause()) }
  })
  listen(video, 'seeked', () => {
    if (pending >= 0) return go()
    if (!video.requestVideoFrameCallback) show(frameAt(times, video.currentTime))
  })
  listen(video, 'error', () => url && status('error', 'This browser cannot play the film. Everything else works.'))
  listen(video, 'ended', () => { tell(times.length - 1); film.pause() })
  if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(presented)
  else listen(video, 'timeupdate', () => { const i = frameAt(times, video.currentTime); show(i); if (film.playing) tell(i) })

  film.seek = i => {
    film.frame = Math.max(0, Math.min(times.length - 1, Math.round(i)))
    if (film.state === 'ready') go()
    clockAt = 0
    on.frame(film.frame)
  }
  const tick = now => {  // time passes without a film, too
    if (clockAt) {
      const t = film.t + (now - clockAt) / 1000 * film.speed
      if (t >= end) { tell(times.length - 1); clockAt = 0; return film.pause() }
      film.t = t; tell(frameAt(times, t))
    } else film.t = times[film.frame]
    clockAt = now
    loop = requestAnimationFrame(tick)
  }
  const stopClock = () => { cancelAnimationFrame(loop); loop = clockAt = 0 }
  film.play = () => {
    if (film.playing) return
    if (film.frame >= times.length - 1) film.seek(0)
    film.playing = true
    if (film.state === 'ready') video.play().catch(() => film.pause()); else loop = requestAnimationFrame(tick)
    on.playing(true)
  }
  film.pause = () => {
    if (!film.playing) return
    film.playing = false
    stopClock()
    if (film.state === 'ready') { video.pause(); if (film.shown >= 0 && !video.ended) tell(film.shown); go() }
    on.playing(false)
  }
  film.rate = s => { film.speed = s; if (film.state === 'ready') video.playbackRate = s }

  // Pictures of other moments, one after the other; an urgent one goes first and drops older urgent ones
  film.picture = (frame, draw, urgent = false) => {
    if (film.state !== 'ready') return
    if (urgent) { jobs = jobs.filter(j => !j.urgent); jobs.unshift({frame, draw, urgent}) } else jobs.push({frame, draw, urgent})
    if (!job) next()
  }
  film.forget = () => { jobs = jobs.filter(j => j.urgent) }
  const next = () => { job = jobs.shift() ?? null; if (job) spy.currentTime = seekTime(times, job.frame, end) }
  listen(spy, 'seeked', () => { const j = job; next(); if (j) j.draw(spy) })
  signal.addEventListener('abort', () => {
    clearTimeout(timer); stopClock(); jobs = []; job = null
    for (const v of [video, spy]) { v.pause(); v.removeAttribute('src'); v.load() }
    if (url) URL.revokeObjectURL(url)
  })
  return film
}

/** Questions to the kernel: one of a kind on its way, the latest waits, a late one is reported. */
function makeAsk(model, late, signal) {
  let id = Math.floor(Math.random() * 1e6) * 1000
  const kinds = {}
  const send = k => {
    k.sent = {...k.next, id: ++id}; k.next = null
    clearTimeout(k.timer)
    k.timer = setTimeout(() => { k.sent = null; k.late = id; late(true); if (k.next) send(k) }, SLOW)
    model.send(k.sent)
  }
  signal.addEventListener('abort', () => Object.values(kinds).forEach(k => clearTimeout(k.timer)))
  return {
    put(m) { const k = kinds[m.type] ??= {}; k.next = m; if (!k.sent) send(k) },
    drop(type) { const k = kinds[type]; if (k) { clearTimeout(k.timer); k.sent = k.next = k.late = null } },
    take(m) {  // whether this is an answer we wait for
      const k = kinds[m.type], mine = k && (k.sent?.id === m.id || k.late === m.id)
      if (!mine) return false
      clearTimeout(k.timer); k.sent = k.late = null; late(false)
      if (k.next) send(k)
      return true
    },
  }
}

const STATE = {frame: 0, playing: false, speed: 1, layer: -1, head: -1, how: 'attn', scale: 'lane', order: 'given', lane: 0, hidden: [], keep: false}

/** One viewer in one element. Returns what takes it away again. */
function mount(model, el) {
  const data = read(model), {meta, times, spans, bin, cols, columns, edges, end, at} = data
  const Q = meta.questions.length, N = meta.n_clips, t0 = times[0]
  const stop = new AbortController(), signal = stop.signal
  const on = (e, names, f, options) => { for (const n of names.split(' ')) e.addEventListener(n, f, {signal, ...options}) }
  const get = k => model.get(k) ?? STATE[k]
  const s = {frame: 0, view: [t0, end], theme: 'light', maps: null, info: [], rows: [], range: null, answers: null, undo: [], panel: '', sprite: null, curves: {}}
  const bits = {}  // the elements that change

  // ---- state shared with Python
  let saving = 0, quiet = 0
  const set = (k, value, slow = false) => {
    if (JSON.stringify(model.get(k)) === JSON.stringify(value)) return
    model.set(k, value)
    if (!slow) { clearTimeout(saving); saving = 0; model.save_changes() }
    else saving ||= setTimeout(() => { saving = 0; model.save_changes() }, 250)
  }
  const say = text => { if (bits.live.textContent !== text) bits.live.textContent = text }

  // ---- small builders
  const button = (label, act, props = {}, ...kids) => {
    const b = h('button', {type: 'button', 'aria-label': label, title: label, ...props}, ...kids)
    on(b, 'click', act)
    return b
  }
  const choose = (label, key, options) => {
    const list = h('select', {'aria-label': label}, ...options.map(([v, text]) => h('option', {value: String(v), text})))
    on(list, 'change', () => { const v = options[list.selectedIndex][0]; set(key, v); changed(key) })
    bits[key] = list
    list.pick = () => { list.selectedIndex = options.findIndex(o => o[0] === get(key)) }
    list.pick()
    return h('label', {class: 'tqn-choice'}, h('span', {text: label}), list)
  }
  const canvas = (height, props = {}) => h('canvas', {height, ...props})

  // ---- film
  const film = makeFilm(model, data, {
    frame: i => { s.frame = i; root.dataset.frame = i; moved(); set('frame', i, film?.playing) },
    shown: i => { root.dataset.shown = i },
    playing: p => { root.classList.toggle('is-playing', p); bits.play.setAttribute('aria-label', p ? 'Pause' : 'Play'); bits.play.title = p ? 'Pause (space)' : 'Play (space)'
      set('frame', s.frame); set('playing', p) },
    status: (state, text, share) => {
      root.dataset.video = state
      bits.status.textContent = text ? (share > 0 ? `${text}: ${Math.round(share * 100)} %` : text) : ''
      bits.again.hidden = state !== 'late' && state !== 'error'
      bits.stage.hidden = state === 'none'
      if (state === 'ready') { moments(); say('The film is ready.') }
    },
  }, signal)
  const ask = makeAsk(model, late => { s.late = late; what() }, signal)
  const go = (i, word = true) => { film.seek(i); follow(); if (word) say(where(s.frame)) }
  const where = i => `frame ${i + 1 > times.length ? times.length : i}, ${clock(times[i] - t0)}, clip ${clipAt(spans, i)}`

  // ---- the parts of the page
  const root = h('div', {class: 'tqn-viewer', role: 'group', 'aria-label': `Attention viewer: ${meta.name}`, tabindex: '-1', 'data-lm-suppress-shortcuts': 'true', 'data-frame': '0'})
  const facts = [`${times.length.toLocaleString('en')} frames`, meta.fps ? `${+meta.fps.toFixed(2)} fps` : '', clock(end - t0), `${N.toLocaleString('en')} clips`,
                 `${meta.layers} layers × ${meta.heads} heads`].filter(Boolean).join('  ·  ')
  const header = h('div', {class: 'tqn-header'}, h('strong', {text: meta.name, title: meta.name}), h('span', {class: 'tqn-facts', text: facts}))
  bits.stage = h('div', {class: 'tqn-stage', style: `--ratio:${meta.width && meta.height ? meta.width / meta.height : 16 / 9}`}, film.video, h('div', {class: 'tqn-status'},
    bits.status = h('span', {role: 'status'}), bits.again = button('Load the film again', () => film.load(), {class: 'tqn-plain', hidden: true, text: 'Try again'})))
  bits.detail = h('div', {class: 'tqn-detail'})
  const nav = (label, name, act) => button(label, act, {class: 'tqn-nav'}, icon(name))
  bits.play = button('Play', () => toggle(), {class: 'tqn-nav tqn-play', title: 'Play (space)'}, icon('play'), icon('pause'))
  const bar = h('div', {class: 'tqn-bar'},
    h('div', {class: 'tqn-transport', role: 'group', 'aria-label': 'Play'}, nav('Previous clip', 'clipBack', () => clip(-1)), nav('Previous frame', 'frameBack', () => go(s.frame - 1)),
      bits.play, nav('Next frame', 'frameOn', () => go(s.frame + 1)), nav('Next clip', 'clipOn', () => clip(1))),
    bits.clock = h('div', {class: 'tqn-clock'}, bits.time = h('b'), bits.place = h('span')),
    h('div', {class: 'tqn-choices'},
      choose('Speed', 'speed', SPEEDS.map(x => [x, `${x}×`])),
      choose('Show', 'how', [['attn', 'attention'], ...(data.roll ? [['rollout', 'rollout']] : [])]),
      choose('Layer', 'layer', [[-1, 'mean'], ...Array.from({length: meta.layers}, (_, i) => [i, `${i + 1} of ${meta.layers}`])]),
      choose('Head', 'head', [[-1, 'mean'], [-2, 'max'], ...Array.from({length: meta.heads}, (_, i) => [i, `${i + 1} of ${meta.heads}`])]),
      choose('Scale', 'scale', [['lane', 'each lane'], ['shared', 'shared']]),
      choose('Order', 'order', [['given', 'as given'], ['probability', 'probability'], ['peak', 'time of peak'], ['focus', 'focus']])))
  const film_ = h('div', {class: 'tqn-track', role: 'slider', tabindex: '0', 'aria-label': 'Frame', 'aria-valuemin': '0', 'aria-valuemax': String(times.length - 1)}, bits.film = canvas(60))
  bits.slider = film_
  bits.lanes = h('div', {class: 'tqn-lanes', role: 'listbox', 'aria-label': 'Questions'})
  bits.head = h('div', {class: 'tqn-playhead'}); bits.hover = h('div', {class: 'tqn-hover', hidden: true})
  bits.over = h('div', {class: 'tqn-over'}, bits.veil = h('div', {class: 'tqn-veil'}), bits.range = h('div', {class: 'tqn-range', hidden: true}), bits.hover, bits.head)
  bits.axis = canvas(22, {'aria-hidden': 'true'})
  const tools = h('div', {class: 'tqn-tools'}, ...[['curves', 'Curves', meta.has_kernel], ['table', 'Table', true], ['help', '?', true]].filter(x => x[2]).map(([k, text]) =>
    bits[`b_${k}`] = button({curves: 'Deletion and insertion curves (D)', table: 'Table of numbers (T)', help: 'Keys (?)'}[k], () => panel(k), {class: 'tqn-plain', text, 'aria-expanded': 'false'})))
  bits.whole = button('Show the whole film (0)', () => zoom(t0, end), {class: 'tqn-plain', text: 'Whole film', hidden: true})
  bits.board = h('div', {class: 'tqn-board'},
    h('div', {class: 'tqn-row tqn-filmrow'}, h('div', {class: 'tqn-name tqn-key'}), film_, h('div', {class: 'tqn-said tqn-zoom'}, bits.whole)),
    bits.lanes, h('div', {class: 'tqn-row tqn-axisrow'}, h('div', {class: 'tqn-name'}), h('div', {class: 'tqn-track tqn-axis'}, bits.axis), h('div', {class: 'tqn-said'}, tools)), bits.over)
  bits.tip = h('div', {class: 'tqn-tip', hidden: true, 'aria-hidden': 'true'}, bits.look = canvas(90, {width: 160}), bits.tip1 = h('b'), bits.tip2 = h('span'), bits.tip3 = h('span'))
  bits.pop = h('div', {class: 'tqn-pop', role: 'group', 'aria-label': 'Chosen range', hidden: true})
  bits.what = h('div', {class: 'tqn-what', hidden: true})
  bits.panel = h('div', {class: 'tqn-panel', role: 'region', hidden: true})
  bits.live = h('div', {class: 'tqn-live', 'aria-live': 'polite', role: 'status'})
  root.append(header, h('div', {class: 'tqn-top'}, bits.stage, bits.detail), bar, bits.board, bits.what, bits.panel,
    ...(meta.notes?.length ? [h('div', {class: 'tqn-notes'}, ...meta.notes.map(text => h('p', {text})))] : []), bits.tip, bits.pop, bits.live)

  // ---- one row a question
  s.rows = meta.questions.map((q, i) => {
    const r = {q, i}
    r.el = h('div', {class: 'tqn-row tqn-lane', role: 'option', tabindex: '-1', 'data-name': q.name},
      h('div', {class: 'tqn-name'}, h('b', {text: q.name, title: q.name}), r.note = h('span')),
      r.track = h('div', {class: 'tqn-track'}, r.canvas = canvas(36, {'aria-hidden': 'true'})),
      h('div', {class: 'tqn-said'}, r.mark = h('i', {class: 'tqn-mark'}), h('div', {}, r.first = h('div', {class: 'tqn-first'}, r.answer = h('span'), r.p = h('b')), r.second = h('div', {class: 'tqn-second'}))))
    on(r.el, 'focus', () => pick(i))
    on(r.el, 'pointerdown', e => { if (!r.track.contains(e.target)) pick(i, true) })
    return r
  })

  /** What a lane says now: its own answer, or the one under the what-if. */
  function said(i) {
    const q = meta.questions[i], w = s.answers?.[q.name]
    const text = w ? w.said : q.said, p = w ? w.p : q.p
    const same = w && String(w.said) === String(q.said)
    return {text: String(text), p, ranked: (w?.ranked ?? q.ranked) || [], was: w ? q : null, same, right: q.truth == null ? null : w ? String(w.said) === String(q.truth) : q.right}
  }
  function labels() {
    for (const r of s.rows) {
      const {text, p, was, same, right, ranked} = said(r.i), q = r.q, [sign, name] = MARKS[right ?? 'none'], m = s.info[r.i]
      r.answer.textContent = r.answer.title = text; r.p.textContent = prob(p)
      r.mark.textContent = sign; r.mark.className = `tqn-mark ${name && `is-${name}`}`
      const truth = right === false ? `truth: ${q.truth}` : ''
      r.second.textContent = was ? (same ? (p == null || was.p == null ? 'no change' : `${change(p - was.p)}  from ${prob(was.p)}`) : `was ${was.said} ${prob(was.p)}`) : truth || (ranked[1] ? `then ${ranked[1][0]} ${prob(ranked[1][1])}` : '')
      r.second.title = truth || r.second.textContent
      r.el.classList.toggle('is-changed', !!was && !same)
      r.note.textContent = `peak ${times_(m.top / data.uniform)}`
      r.note.title = `Its highest attention is ${number(m.top)}, ${times_(m.top / data.uniform)} what every clip would get if all were alike`
      r.el.setAttribute('aria-label', [`${q.name}: ${text}`, prob(p) && `probability ${prob(p)}`, name, truth, was && !same && `was ${was.said}`,
        `attention peaks at ${clock(edges[m.at] - t0)}, ${times_(m.top / data.uniform)} uniform`].filter(Boolean).join(', '))
    }
  }

  // ---- maps
  function map(i) { return s.maps.subarray(i * cols, (i + 1) * cols) }
  function remap() {
    const how = get('how')
    for (const k of ['layer', 'head']) bits[k].disabled = how === 'rollout'
    s.maps = how === 'rollout' && data.roll ? data.roll : combine(data.attn, data.shape, get('layer'), get('head'))
    s.info = meta.questions.map((q, i) => { const a = map(i), k = argmax(a); return {at: k, top: a[k], peak: edges[k], p: q.p, focus: focus(a)} })
    s.all = Math.max(...s.info.map(m => m.top))
    arrange()
  }
  function arrange() {
    s.order = order(s.info, get('order'))
    const held = bits.lanes.contains(document.activeElement) ? document.activeElement : null
    bits.lanes.replaceChildren(...s.order.map(i => s.rows[i].el))
    held?.focus()
    labels(); pick(get('lane'), false, true); redraw()
  }
  const lane = () => Math.max(0, Math.min(Q - 1, get('lane')))
  function pick(i, focus = false, silent = false) {
    i = Math.max(0, Math.min(Q - 1, i))
    const same = s.lane === i
    s.lane = i
    if (!silent) set('lane', i)
    for (const r of s.rows) { r.el.setAttribute('aria-selected', String(r.i === i)); r.el.tabIndex = r.i === i ? 0 : -1 }
    if (focus) s.rows[i].el.focus({preventScroll: true})
    if (!same || silent) { detail(); if (s.panel === 'curves') curves() }
    if (s.range && !same) popover()
  }

  // ---- the selected question in full
  function detail() {
    const i = lane(), q = meta.questions[i], {ranked, right, was, text} = said(i), [sign, name] = MARKS[right ?? 'none']
    const before = Object.fromEntries(was ? q.ranked : [])
    const bars = ranked.slice(0, 6).map(([answer, p]) => h('div', {class: `tqn-answer${String(answer) === text ? ' is-said' : ''}`, role: 'listitem'},
      h('span', {text: answer, title: answer}), h('div', {class: 'tqn-gauge'}, h('div', {style: `width:${100 * p}%`}), answer in before && h('em', {style: `left:${100 * before[answer]}%`, title: `was ${prob(before[answer])}`})),
      h('b', {text: prob(p)}), String(answer) === String(q.truth) ? h('i', {text: 'truth', class: 'tqn-truth'}) : h('i')))
    const how = q.name === 'class' && meta.reading ? h('span', {class: 'tqn-soft', text: `read by ${meta.reading}`}) : q.kind && q.kind !== 'one' ? h('span', {class: 'tqn-soft', text: {many: 'several answers', count: 'a count'}[q.kind] ?? q.kind}) : null
    const verdict = sign && h('span', {class: `tqn-verdict is-${name}`}, h('i', {class: `tqn-mark is-${name}`, text: sign}), name === 'wrong' ? `wrong: it is ${q.truth}` : 'right')
    bits.detail.replaceChildren(h('div', {class: 'tqn-title'}, h('strong', {text: q.name}), how, verdict), h('div', {role: 'list', class: 'tqn-answers', 'aria-label': `Answers to ${q.name}`}, ...bars),
      h('div', {class: 'tqn-caption', text: 'Looked at most'}), bits.moments = h('div', {class: 'tqn-moments'}))
    moments()
  }
  function moments() {
    if (!bits.moments) return
    film.forget()
    const a = map(lane()), ratio = meta.width && meta.height ? meta.width / meta.height : 16 / 9
    const best = peaks(a).sort((x, y) => a[y] - a[x]).slice(0, 3)
    bits.moments.replaceChildren(...best.map(c => {
      const f = middle(c), pic = canvas(96, {width: Math.round(96 * Math.min(ratio, 1.78))})
      paint(pic, sprite(times[f]))
      film.picture(f, v => paint(pic, v))
      return button(`Go to the peak at ${clock(times[f] - t0)}, ${times_(a[c] / data.uniform)} uniform`, () => go(f), {class: 'tqn-moment'}, pic, h('span', {}, `${clock(times[f] - t0, 1)} `, h('b', {text: times_(a[c] / data.uniform)})))
    }))
  }
  const middle = c => columns[2 * c] + columns[2 * c + 1] >> 1

  // ---- pictures
  /** Draw a picture (video, or a part of the sprite) so that it fills a canvas. */
  function paint(c, pic) {
    if (!pic) return
    const [img, sx, sy, sw, sh] = Array.isArray(pic) ? pic : [pic, 0, 0, pic.videoWidth, pic.videoHeight]
    if (!sw || !sh) return
    const k = Math.min(sw / c.width, sh / c.height), w = c.width * k, hh = c.height * k, g = c.getContext('2d')
    g.imageSmoothingQuality = 'high'
    g.drawImage(img, sx + (sw - w) / 2, sy + (sh - hh) / 2, w, hh, 0, 0, c.width, c.height)
  }
  function sprite(t) {
    if (!s.sprite) return null
    const {img, when} = s.sprite, w = img.width / when.length
    let i = lastAtMost(when, t)
    if (i + 1 < when.length && when[i + 1] - t < t - when[i]) i++
    return [img, i * w, 0, w, img.height]
  }
  async function openSprite() {
    const strip = model.get('strip'), when = typed(model.get('strip_times'), 'float64')
    if (!strip?.byteLength || !when.length) return
    try {
      const img = await createImageBitmap(new Blob([strip], {type: 'image/jpeg'}))
      if (signal.aborted) return img.close()
      s.sprite = {img, when}; signal.addEventListener('abort', () => img.close())
      moments(); redraw()
    } catch { bits.film.parentNode.classList.add('is-empty') }
  }

  // ---- drawing
  let frameAsked = 0
  const redraw = () => { frameAsked ||= requestAnimationFrame(() => { frameAsked = 0; draw() }) }
  const x = t => (t - s.view[0]) / (s.view[1] - s.view[0])
  /** A canvas at the screen's own resolution; its width and height in device pixels. */
  function sharp(c, height) {
    const k = devicePixelRatio || 1, W = Math.max(1, Math.round(c.clientWidth * k)), H = Math.round(height * k)
    if (c.width !== W || c.height !== H) { c.width = W; c.height = H } else c.getContext('2d').clearRect(0, 0, W, H)
    return [c.getContext('2d'), W, H, k]
  }
  function draw() {
    if (!root.isConnected || !bits.film.clientWidth) return
    const css = getComputedStyle(root), ink = css.getPropertyValue('--ink').trim(), soft = css.getPropertyValue('--soft').trim(), ground = css.getPropertyValue('--bg').trim()
    s.ramp = ramp(s.theme)
    for (const i of s.order) drawLane(s.rows[i], ink, soft, ground)
    drawFilm(ground); drawAxis(soft, css.fontFamily); veil(); moved()
    root.dataset.ready = '1'
  }
  function drawLane(r, ink, soft, ground) {
    const [g, W, H, k] = sharp(r.canvas, 36), top = get('scale') === 'shared' ? s.all : s.info[r.i].top, room = H - 4 * k
    const e = r.q.extent
    if (e) { g.fillStyle = ink; g.globalAlpha = .07; const a = x(at(e[0])) * W; g.fillRect(a, 0, x(at(e[1])) * W - a, H); g.globalAlpha = 1 }
    const a = pool(map(r.i), edges, ...s.view, W)
    for (let c = 0; c < W;) {
      let d = c + 1
      while (d < W && a[d] === a[c]) d++
      if (a[c] > 0 && top > 0) {
        const v = Math.min(1, a[c] / top), tall = Math.max(k, v * room)
        g.fillStyle = s.ramp[Math.round(v * 255)]
        g.fillRect(c, H - tall, d - c, tall)
      }
      c = d
    }
    const level = H - data.uniform / top * room
    if (level > 0) { g.strokeStyle = soft; g.lineWidth = k; g.setLineDash([k, 3 * k]); g.beginPath(); g.moveTo(0, Math.round(level) + .5); g.lineTo(W, Math.round(level) + .5); g.stroke(); g.setLineDash([]) }
    if (e) for (const [width, colour] of [[4.5, ground], [1.8, ink]]) {
      g.strokeStyle = colour; g.lineWidth = width * k; g.lineJoin = 'miter'
      const a = x(at(e[0])) * W, b = x(at(e[1])) * W, n = Math.min(5 * k, (b - a) / 3), o = 1.2 * k
      g.beginPath()
      g.moveTo(a + n, o); g.lineTo(a, o); g.lineTo(a, H - o); g.lineTo(a + n, H - o)
      g.moveTo(b - n, o); g.lineTo(b, o); g.lineTo(b, H - o); g.lineTo(b - n, H - o)
      g.stroke()
    }
  }
  function drawFilm(ground) {
    const [g, W, H, k] = sharp(bits.film, 60)
    if (!s.sprite) return
    const ratio = s.sprite.img.width / s.sprite.when.length / s.sprite.img.height, n = Math.max(1, Math.round(W / (H * Math.min(1.78, Math.max(.6, ratio)))))
    g.imageSmoothingQuality = 'high'
    for (let j = 0; j < n; j++) {
      const a = Math.round(j * W / n), b = Math.round((j + 1) * W / n) - (j < n - 1 ? k : 0)
      const [img, sx, , sw, sh] = sprite(s.view[0] + (j + .5) / n * (s.view[1] - s.view[0]))
      const z = Math.min(sw / (b - a), sh / H), w = (b - a) * z, hh = H * z
      g.drawImage(img, sx + (sw - w) / 2, (sh - hh) / 2, w, hh, a, 0, b - a, H)
    }
  }
  function drawAxis(soft, font) {
    const [g, W, H, k] = sharp(bits.axis, 22)
    g.fillStyle = g.strokeStyle = soft; g.lineWidth = k; g.font = `${11 * k}px ${font}`; g.textBaseline = 'top'
    const [a, b] = s.view.map(t => t - t0), all = ticks(a, b, Math.max(2, W / k / 78)), step = all.length > 1 ? all[1] - all[0] : 1, digits = step < .1 ? 2 : step < 1 ? 1 : 0
    for (const t of all) {
      const p = Math.min(W - k, Math.round(x(t + t0) * W)), text = clock(t, digits), w = g.measureText(text).width
      g.fillRect(p, 0, k, 4 * k)
      g.fillText(text, Math.max(0, Math.min(W - w, p - w / 2)), 7 * k)
    }
  }
  function veil() {
    bits.veil.replaceChildren(...unseen(get('hidden'), get('keep'), N).map(([a, b]) => band(h('div', {class: 'tqn-hidden'}), a, b)))
  }
  const band = (e, a, b) => {  // over clips [a, b)
    const l = Math.max(0, x(at(spans[2 * a]))), r = Math.min(1, x(at(spans[2 * b - 1])))
    e.style.left = `${100 * l}%`; e.style.width = `${100 * Math.max(0, r - l)}%`
    return e
  }
  /** What follows the play head; nothing is painted anew. */
  function moved() {
    const i = s.frame, p = x(times[i] + (i + 1 < times.length ? times[i + 1] - times[i] : end - times[i]) / 2), text = clock(times[i] - t0)
    bits.head.style.transform = `translateX(${(p * s.width).toFixed(2)}px)`
    bits.head.hidden = p < 0 || p > 1
    bits.time.textContent = text
    bits.place.textContent = `frame ${i} of ${times.length - 1}   clip ${clipAt(spans, i)} of ${N - 1}`
    bits.slider.setAttribute('aria-valuenow', i); bits.slider.setAttribute('aria-valuetext', where(i))
    if (film.playing) follow()
    if (s.panel === 'table') bits.mark?.(i)
  }
  function measure() {
    const b = bits.board.getBoundingClientRect(), f = bits.film.getBoundingClientRect()
    s.left = f.left - b.left; s.width = f.width
    Object.assign(bits.over.style, {left: `${s.left}px`, width: `${f.width}px`, top: `${f.top - b.top}px`, bottom: `${b.bottom - bits.axis.getBoundingClientRect().top}px`})
  }
  function zoom(a, b) {
    const least = Math.min(end - t0, 8 * (end - t0) / times.length), len = Math.max(least, Math.min(end - t0, b - a)), from = Math.max(t0, Math.min(end - len, (a + b - len) / 2))
    s.view = len >= (end - t0) * .999 ? [t0, end] : [from, from + len]
    bits.whole.hidden = s.view[0] === t0 && s.view[1] === end
    shade(); redraw()
  }
  function scale(k, t) { zoom(t - (t - s.view[0]) * k, t + (s.view[1] - t) * k) }
  function follow() {
    const [a, b] = s.view, t = times[s.frame]
    if (t < a || t > b) zoom(t - (b - a) * (film.playing ? .05 : .5), t + (b - a) * (film.playing ? .95 : .5))
  }

  // ---- pointing: hover, click, scrub, choose a range
  /** What lies under x (in the track): a time, a frame, and in a lane the clip drawn there (the highest, where several share a pixel). */
  function under(px, r) {
    const per = (s.view[1] - s.view[0]) / s.width, t = Math.max(t0, Math.min(end, s.view[0] + px * per))
    let frame = frameAt(times, t), c = Math.min(cols - 1, lastAtMost(columns, frame, 2))
    if (r) {
      const a = lastAtMost(edges, s.view[0] + Math.floor(px) * per + per * 1e-6), b = lastAtMost(edges, s.view[0] + (Math.floor(px) + 1) * per - per * 1e-6)
      if (b - a > 1) { c = argmax(map(r.i), Math.min(a, cols - 1), Math.min(b + 1, cols)); frame = middle(c) }
    }
    return {t, frame, c, clip: clipAt(spans, frame)}
  }
  const rowAt = e => s.rows.find(r => r.track.contains(e.target))
  const frames = (a, b) => b - a > 1 ? `frames ${a}–${b - 1}` : `frame ${a}`
  function tip(e, r) {
    const px = e.clientX - bits.film.getBoundingClientRect().left, u = under(px, r), c = u.c, v = r && map(r.i)[c], box = root.getBoundingClientRect()
    const several = bin > 1 ? `highest of clips ${c * bin}–${Math.min(N, (c + 1) * bin) - 1}` : `clip ${c}`
    bits.tip1.textContent = r ? `${number(v)}   ${times_(v / data.uniform)} uniform` : `frame ${u.frame}`
    bits.tip2.textContent = r ? `${several}, ${frames(columns[2 * c], columns[2 * c + 1])}` : `clip ${u.clip}`
    bits.tip3.textContent = r ? `${clock(edges[c] - t0)} – ${clock(edges[c + 1] - t0)}` : clock(times[u.frame] - t0)
    bits.hover.hidden = bits.tip.hidden = false
    bits.hover.style.transform = `translateX(${px}px)`
    if (s.tipped !== u.frame) {
      s.tipped = u.frame
      const g = bits.look, ratio = meta.width && meta.height ? meta.width / meta.height : 16 / 9
      if (g.height !== 180) { g.height = 180; g.width = Math.round(180 * Math.min(1.78, Math.max(.6, ratio))); g.style.aspectRatio = `${g.width} / 180` }
      g.hidden = !s.sprite && film.state !== 'ready'
      paint(g, sprite(times[u.frame]))
      film.picture(u.frame, v => { if (s.tipped === u.frame) { paint(g, v); root.dataset.preview = u.frame } }, true)
    }
    const w = bits.tip.offsetWidth, tall = bits.tip.offsetHeight, y = (r ? r.track : film_).getBoundingClientRect().top - box.top, left = e.clientX - box.left
    bits.tip.style.transform = `translate(${Math.max(4, Math.min(box.width - w - 4, left - w / 2))}px, ${y - tall - 8 > -60 ? y - tall - 8 : y + (r ? 44 : 70)}px)`
  }
  const untip = () => { bits.tip.hidden = bits.hover.hidden = true; s.tipped = -1 }
  let drag = null
  on(bits.board, 'pointerdown', e => {
    const r = rowAt(e), strip = film_.contains(e.target)
    if (e.button || (!r && !strip)) return
    const px = e.clientX - bits.film.getBoundingClientRect().left
    drag = {r, strip, px, from: under(px).clip, id: e.pointerId}
    e.target.setPointerCapture(e.pointerId)
    if (r) { e.preventDefault(); pick(r.i, true) }
    else { film_.focus({preventScroll: true}); go(under(px).frame, false) }
  })
  on(bits.board, 'pointermove', e => {
    const px = e.clientX - bits.film.getBoundingClientRect().left
    if (!drag) { const r = rowAt(e); return r || film_.contains(e.target) ? tip(e, r) : untip() }
    if (drag.strip) return go(under(px).frame, false)
    if (!drag.moved && Math.abs(px - drag.px) < 5) return
    drag.moved = true; untip()
    const to = under(px).clip
    choose_(Math.min(drag.from, to), Math.max(drag.from, to) + 1)
  })
  on(bits.board, 'pointerup', e => {
    if (!drag) return
    const d = drag; drag = null
    if (d.moved) return popover()
    if (d.r) { choose_(null); go(under(d.px, d.r).frame) } else say(where(s.frame))
  })
  on(bits.board, 'pointercancel', () => { drag = null; choose_(null) })
  on(bits.board, 'pointerleave', untip)
  on(bits.board, 'wheel', e => {
    const per = (s.view[1] - s.view[0]) / s.width
    if (e.ctrlKey || e.metaKey) { e.preventDefault(); scale(Math.exp(Math.max(-50, Math.min(50, e.deltaY)) / 100), under(e.clientX - bits.film.getBoundingClientRect().left).t) }
    else if (!bits.whole.hidden && Math.abs(e.deltaX) > Math.abs(e.deltaY)) { e.preventDefault(); zoom(s.view[0] + e.deltaX * per, s.view[1] + e.deltaX * per) }
  }, {passive: false})

  /** Choose clips [a, b), or nothing; while it changes, the model is asked what it would say without them. */
  function choose_(a, b) {
    const had = s.range
    s.range = a == null ? null : [a, b]
    if (!s.range) { bits.pop.hidden = true; bits.range.hidden = true; if (had) revise(); return }
    if (String(had) === String(s.range)) return
    shade()
    if (meta.has_kernel) ask.put({type: 'whatif', hidden: merge([...(get('keep') ? [] : get('hidden')), s.range], N), keep: false})
  }
  function shade() { bits.range.hidden = !s.range; if (s.range) { band(bits.range, ...s.range); if (!bits.pop.hidden) popover() } }
  function popover() {
    const [a, b] = s.range, i = lane(), q = meta.questions[i], m = map(i), f = [spans[2 * a], spans[2 * b - 1]]
    let part = 0, all = 0
    for (let c = 0; c < cols; c++) { all += m[c]; if (c >= Math.floor(a / bin) && c < Math.ceil(b / bin)) part += m[c] }
    bits.pop.replaceChildren(h('div', {class: 'tqn-poptext'}, h('b', {text: `${frames(...f)}`}), h('span', {text: `${b - a} ${b - a > 1 ? 'clips' : 'clip'}, ${clock(at(f[1]) - at(f[0]))}`}),
      h('span', {text: `${Math.round(100 * part / all)} % of the attention of ${q.name}`})),
      h('div', {class: 'tqn-popacts'}, meta.has_kernel && button('Hide this range from the model (H)', () => hide(false), {class: 'tqn-plain', text: 'Hide'}),
        meta.has_kernel && button('Show the model only this range (K)', () => hide(true), {class: 'tqn-plain', text: 'Keep only'}),
        button('Zoom in', () => { zoom(at(f[0]), at(f[1])); choose_(null) }, {class: 'tqn-plain', text: 'Zoom'}), button('Close (Escape)', () => choose_(null), {class: 'tqn-nav'}, icon('close'))))
    bits.pop.hidden = false
    const box = root.getBoundingClientRect(), p = bits.range.getBoundingClientRect(), r = s.rows[i].track.getBoundingClientRect(), w = bits.pop.offsetWidth
    bits.pop.style.transform = `translate(${Math.max(6, Math.min(box.width - w - 6, (p.left + p.right) / 2 - box.left - w / 2))}px, ${r.bottom - box.top + 6}px)`
    say(`Chosen: ${frames(...f)}, ${b - a} clips`)
  }

  // ---- what if
  function hide(keep) {
    if (!meta.has_kernel) return say('What-if needs a running notebook.')
    const c = clipAt(spans, s.frame), range = s.range ?? [c, c + 1]
    rule(keep === get('keep') || !get('hidden').length ? [...get('hidden'), range] : [range], keep)
    choose_(null)
  }
  /** A new rule for what the model sees; the old one can be had back. */
  function rule(hidden, keep, undo = false) {
    if (!undo) s.undo.push([get('hidden'), get('keep')])
    set('hidden', merge(hidden, N)); set('keep', keep)
    revise(); redraw()
  }
  const back = () => { const u = s.undo.pop(); if (u) rule(...u, true) }
  function revise() {
    if (get('hidden').length) ask.put({type: 'whatif', hidden: get('hidden'), keep: get('keep')})
    else { ask.drop('whatif'); s.late = false; s.answers = null; labels(); detail() }
    what()
  }
  function what() {
    const ranges = get('hidden'), keep = get('keep'), changed = s.answers ? s.rows.filter(r => !said(r.i).same).length : 0
    bits.what.hidden = !ranges.length && !s.late && !s.trouble
    bits.what.replaceChildren(...(ranges.length ? [h('b', {text: keep ? 'Only' : 'Without'}), ...ranges.map(([a, b], i) => {
      const text = frames(spans[2 * a], spans[2 * b - 1])
      return h('span', {class: 'tqn-chip'}, text, button(`Undo for ${text}`, () => rule(ranges.filter((_, j) => j !== i), keep), {class: 'tqn-nav'}, icon('close')))
    }), h('span', {class: 'tqn-soft', text: s.answers ? `${changed} of ${Q} answers ${changed === 1 ? 'changes' : 'change'}` : ''}),
      s.undo.length > 0 && button('Undo (U)', back, {class: 'tqn-plain', text: 'Undo'}), button('Show the model everything (C)', () => rule([], false), {class: 'tqn-plain', text: 'Show all'})] : []),
      h('span', {class: 'tqn-trouble', role: 'status', text: s.trouble || (s.late ? 'The kernel has not answered for 5 s: it is busy or has stopped. The rest of the viewer works.' : '')}))
  }

  // ---- panels: curves, numbers, keys
  function panel(k) {
    s.panel = s.panel === k ? '' : k
    for (const n of ['curves', 'table', 'help']) bits[`b_${n}`]?.setAttribute('aria-expanded', String(s.panel === n))
    bits.panel.hidden = !s.panel; bits.mark = null
    if (s.panel) { ({curves, table, help})[s.panel](); bits.panel.scrollIntoView({block: 'nearest'}) }
  }
  function fill(title, extra, ...kids) {
    bits.panel.setAttribute('aria-label', title)
    bits.panel.replaceChildren(h('div', {class: 'tqn-title'}, h('strong', {text: title}), extra, button('Close (Escape)', () => panel(s.panel), {class: 'tqn-nav tqn-end'}, icon('close'))), ...kids)
  }
  const help = () => fill('Keys', null, h('dl', {class: 'tqn-keys'}, ...KEYS.map(([k, text]) => h('div', {}, h('dt', {}, ...k.split(' ').map(k => h('kbd', {text: k}))), h('dd', {text})))), h('p', {class: 'tqn-soft', text: POINTER}))
  function curves() {
    const q = meta.questions[lane()], c = s.curves[q.name]
    if (!c) ask.put({type: 'curves', question: q.name})
    fill(`Does ${q.name} need what it looked at?`, null, c ? plot(c) : h('p', {class: 'tqn-soft', role: 'status', text: 'Asking the model' }),
      h('p', {class: 'tqn-soft', text: 'Clips are taken out of the film (deletion) or put into an empty one (insertion), most attended first. If attention explains the answer, deletion falls fast and insertion rises fast; random is the same with clips in random order.'}))
  }
  function plot(c) {
    const box = h('div', {class: 'tqn-curves', role: 'img', 'aria-label': `Probability of the answer. ${['deletion', 'insertion', 'random'].filter(k => c[k]?.length).map(k => `${k}: ${c[k].map(v => v.toFixed(2)).join(', ')}`).join('; ')}`})
    const W = 560, H = 190, L = 34, R = 96, T = 10, B = 30, px = v => L + v * (W - L - R), py = v => T + (1 - v) * (H - T - B), mean = a => a.reduce((x, y) => x + y, 0) / a.length
    const add = (tag, props, text) => { const e = document.createElementNS('http://www.w3.org/2000/svg', tag); for (const k in props) e.setAttribute(k, props[k]); if (text) e.textContent = text; return e }
    const svg = add('svg', {viewBox: `0 0 ${W} ${H}`})
    for (const v of [0, .5, 1]) svg.append(add('line', {x1: px(0), x2: px(1), y1: py(v), y2: py(v), class: 'tqn-grid'}), add('text', {x: L - 6, y: py(v) + 4, 'text-anchor': 'end'}, String(v)), add('text', {x: px(v), y: H - B + 16, 'text-anchor': 'middle'}, `${100 * v} %`))
    svg.append(add('text', {x: px(.5), y: H - 1, 'text-anchor': 'middle'}, 'of the clips, most attended first'))
    const ends = ['insertion', 'deletion', 'random'].filter(k => c[k]?.length).map(k => {
      svg.append(add('polyline', {points: c[k].map((v, i) => `${px(c.share[i])},${py(v)}`).join(' '), class: `tqn-${k}`}))
      return {k, y: py(c[k].at(-1)), area: mean(c[k])}
    }).sort((a, b) => a.y - b.y)
    ends.forEach((e, i) => { if (i && e.y < ends[i - 1].y + 14) e.y = ends[i - 1].y + 14 })
    const over = Math.max(0, ends.at(-1)?.y - (H - B)) || 0
    for (const e of ends) svg.append(add('text', {x: px(1) + 6, y: e.y - over + 4, class: `tqn-label tqn-${e.k}`}, `${e.k} ${e.area.toFixed(2)}`))
    box.append(svg)
    return box
  }
  function table() {
    const TALL = 24, head = ['clip', 'frames', 'from', 'to', ...s.order.map(i => meta.questions[i].name)]
    const row = c => [bin > 1 ? `${c * bin}–${Math.min(N, (c + 1) * bin) - 1}` : c, `${columns[2 * c]}–${columns[2 * c + 1] - 1}`, clock(edges[c] - t0), clock(edges[c + 1] - t0), ...s.order.map(i => number(map(i)[c]))]
    const body = h('tbody'), over = h('tr', {'aria-hidden': 'true'}), under_ = h('tr', {'aria-hidden': 'true'})
    const scroll = h('div', {class: 'tqn-scroll', tabindex: '0', role: 'group', 'aria-label': 'Numbers'}, h('table', {'aria-rowcount': cols + 1}, h('thead', {}, h('tr', {}, ...head.map(text => h('th', {scope: 'col', text})))), body))
    let first = -1, here = -1
    const show = () => {
      const n = 24, k = Math.max(0, Math.min(cols - n, Math.floor(scroll.scrollTop / TALL) - 6)), now = lastAtMost(columns, s.frame, 2)
      if (k === first && now === here) return
      first = k; here = now
      over.style.height = `${k * TALL}px`; under_.style.height = `${Math.max(0, cols - k - n) * TALL}px`
      body.replaceChildren(over, ...Array.from({length: Math.min(n, cols)}, (_, j) => {
        const c = k + j, tr = h('tr', {'aria-rowindex': c + 2, class: c === now ? 'is-now' : ''}, ...row(c).map(v => h('td', {text: String(v)})))
        tr.onclick = () => go(middle(c))
        return tr
      }), under_)
    }
    on(scroll, 'scroll', show)
    bits.mark = show
    const save = () => {
      const rows = Array.from({length: cols}, (_, c) => [bin > 1 ? String(row(c)[0]) : c, columns[2 * c], columns[2 * c + 1] - 1, edges[c] - t0, edges[c + 1] - t0, ...s.order.map(i => map(i)[c])])
      const url = URL.createObjectURL(new Blob([csv([['clip', 'first frame', 'last frame', 'from (s)', 'to (s)', ...head.slice(4)], ...rows])], {type: 'text/csv'}))
      h('a', {href: url, download: `${meta.name}.attention.csv`}).click()
      setTimeout(() => URL.revokeObjectURL(url), 1000)
    }
    fill('Attention', button('Save these numbers as a CSV file', save, {class: 'tqn-plain', text: 'Save CSV'}), scroll)
    scroll.scrollTop = Math.max(0, lastAtMost(columns, s.frame, 2) - 4) * TALL
    show()
  }

  // ---- keys
  const toggle = () => film.playing ? film.pause() : film.play()
  const clip = d => { const c = clipAt(spans, s.frame), inside = s.frame > spans[2 * c]; go(spans[2 * Math.max(0, Math.min(N - 1, d < 0 && inside ? c : c + d))]) }
  const peak = d => { const c = nextPeak(map(lane()), lastAtMost(columns, s.frame, 2), d); c < 0 ? say('No more peaks this way') : go(middle(c)) }
  const step = d => { const k = s.order.indexOf(lane()) + d; if (k >= 0 && k < Q) { pick(s.order[k], true); s.rows[s.order[k]].el.scrollIntoView({block: 'nearest'}) } }
  const speed = d => { const k = SPEEDS.indexOf(get('speed')); const v = SPEEDS[Math.max(0, Math.min(SPEEDS.length - 1, (k < 0 ? 3 : k) + d))]; set('speed', v); changed('speed'); say(`Speed ${v}×`) }
  const border = last => { const c = clipAt(spans, s.frame), [a, b] = s.range ?? [c, c + 1]; last ? choose_(Math.min(a, c), c + 1) : choose_(c, Math.max(b, c + 1)); popover() }
  const ACTS = {
    ' ': toggle, ArrowLeft: e => e.shiftKey ? clip(-1) : go(s.frame - 1), ArrowRight: e => e.shiftKey ? clip(1) : go(s.frame + 1), Home: () => go(0), End: () => go(times.length - 1),
    p: () => peak(-1), n: () => peak(1), ArrowUp: () => step(-1), ArrowDown: () => step(1), '<': () => speed(-1), '>': () => speed(1), '+': () => scale(.5, times[s.frame]), '=': () => scale(.5, times[s.frame]),
    '-': () => scale(2, times[s.frame]), 0: () => zoom(t0, end), '[': () => border(false), ']': () => border(true), h: () => hide(false), k: () => hide(true), u: back, c: () => get('hidden').length && rule([], false),
    t: () => panel('table'), d: () => meta.has_kernel && panel('curves'), '?': () => panel('help'), Escape: () => { s.range ? choose_(null) : s.panel && panel(s.panel); untip() },
  }
  on(root, 'keydown', e => {
    const tag = e.target.tagName, key = e.key.length === 1 ? e.key.toLowerCase() : e.key, act = ACTS[key]
    if (!act || e.ctrlKey || e.metaKey || e.altKey || (tag === 'SELECT' && (key === ' ' || key.startsWith('Arrow') || /^[a-z]$/.test(key))) || (tag === 'BUTTON' && key === ' ') || bits.panel.contains(e.target) && key.startsWith('Arrow')) return
    e.preventDefault(); e.stopPropagation()
    act(e)
  })
  on(bits.stage, 'click', e => { if (e.target === film.video) toggle() })

  // ---- what comes from Python
  function changed(k) {
    if (bits[k]?.pick) bits[k].pick()
    if (['layer', 'head', 'how'].includes(k)) { remap(); if (s.panel === 'table') table() }
    else if (k === 'order') { arrange(); if (s.panel === 'table') table() }
    else if (k === 'scale') redraw()
    else if (k === 'lane') get('lane') !== s.lane && pick(get('lane'))
    else if (k === 'speed') film.rate(get('speed'))
    else if (k === 'frame') get('frame') !== s.frame && !film.playing && go(get('frame'), false)
    else if (k === 'playing') get('playing') !== film.playing && toggle()
    else if (k === 'theme') theme()
    else if (String(get('hidden')) !== s.seen || get('keep') !== s.kept) revise()
    s.seen = String(get('hidden')); s.kept = get('keep')
    if (k === 'hidden' || k === 'keep') redraw()
  }
  const heard = [...Object.keys(STATE), 'theme'].map(k => [`change:${k}`, () => changed(k)])
  heard.push(['msg:custom', (m, buffers) => {
    if (m.type === 'video') return film.receive(m, buffers)
    if (!ask.take(m)) return
    s.trouble = m.error ?? ''
    if (m.type === 'whatif' && !m.error) { s.answers = Object.fromEntries(m.answers.map(a => [a.name, a])); labels(); detail() }
    if (m.type === 'curves') { if (!m.error) s.curves[m.question] = m; if (s.panel === 'curves' && !m.error) curves() }
    what()
    if (m.type === 'whatif' && !m.error && !drag) say(bits.what.textContent)
  }])
  for (const [name, f] of heard) model.on(name, f)

  // ---- begin, and end
  el.append(root)
  const theme = themes(model, name => { s.theme = name; root.classList.toggle('is-dark', name === 'dark'); redraw() }, signal)
  const watch = new ResizeObserver(() => { measure(); draw(); if (s.range && !bits.pop.hidden) popover() })
  watch.observe(root); watch.observe(bits.board)
  remap(); openSprite()
  film.rate(get('speed')); film.load()
  go(get('frame'), false)
  if (get('hidden').length) revise()
  s.seen = String(get('hidden')); s.kept = get('keep')
  if (get('playing')) film.play()
  return () => {
    stop.abort(); watch.disconnect(); clearTimeout(saving); cancelAnimationFrame(frameAsked)
    for (const [name, f] of heard) model.off(name, f)
    root.remove()
  }
}

/** What anywidget calls, and the page. */
export function render({model, el}) {
  let end = null, due = false
  const start = () => {
    due = false; end?.(); end = null
    el.replaceChildren()
    const error = model.get('error')
    if (error) return void el.append(h('div', {class: 'tqn-viewer'}, message(error)))
    try { end = mount(model, el) } catch (e) { el.replaceChildren(h('div', {class: 'tqn-viewer'}, message(e.message))) }
  }
  const again = () => { if (!due) { due = true; queueMicrotask(() => { if (due) start() }) } }
  const names = ['meta', 'times', 'spans', 'attn', 'rollout', 'strip', 'error'].map(k => `change:${k}`)
  for (const n of names) model.on(n, again)
  start()
  return () => { due = false; for (const n of names) model.off(n, again); end?.(); el.replaceChildren() }
}

export default {render}

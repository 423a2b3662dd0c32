// The attention viewer: a lane of attention for each question, under the film.

// ---- numbers

const {abs, ceil, floor, log, max, min, round} = Math
const range = (n, f) => Array.from({length: n}, (_, i) => f(i)), clamp = (x, a, b) => max(a, min(b, x))
const KINDS = {float16: Uint16Array, float32: Float32Array, float64: Float64Array, int32: Int32Array}

const POWERS = range(31, e => 2 ** (e - 15))

/** One IEEE half, from its 16 bits. */
export function half(u) {
  const s = u & 0x8000 ? -1 : 1, e = u >> 10 & 31, f = u & 1023
  return e === 31 ? (f ? NaN : s * Infinity) : e ? s * (1 + f / 1024) * POWERS[e] : s * f * 2 ** -24
}

/** Little-endian bytes as numbers. */
export function typed(v, kind) {
  const b = !v ? new Uint8Array(0) : v instanceof ArrayBuffer ? new Uint8Array(v) : new Uint8Array(v.buffer, v.byteOffset, v.byteLength), Kind = KINDS[kind]
  if (!Kind) throw new Error(`expected one of ${Object.keys(KINDS)}, got ${kind}`)
  if (b.length % Kind.BYTES_PER_ELEMENT) throw new Error(`expected whole ${kind} numbers, got ${b.length} bytes`)
  const a = new Kind(b.slice().buffer)
  if (kind !== 'float16') return a
  const out = new Float32Array(a.length)
  for (let i = 0; i < a.length; i++) out[i] = half(a[i])
  return out
}

/** The last i with a[i*step] <= x, at least 0; a ascends. */
export function lastAtMost(a, x, step = 1) {
  let lo = 0, hi = a.length / step - 1
  while (lo < hi) { const m = lo + hi + 1 >> 1; if (a[m * step] <= x) lo = m; else hi = m - 1 }
  return lo
}

/** The frame on show at time t. */
export const frameAt = (times, t) => lastAtMost(times, t + 1e-4)

/** Where to seek for frame i: just inside it. */
export const seekTime = (times, i, end) => times[i] + min(.004, ((times[i + 1] ?? end) - times[i]) / 2)

/** The clip or column of a frame; spans are [first, last) pairs. */
export const clipAt = (spans, frame) => lastAtMost(spans, frame, 2)

/** Attention (layers, heads, questions, n) as one map a question. layer, head -1: mean; head -2: max. */
export function combine(attn, [L, H, Q, N], layer = -1, head = -1) {
  const n = Q * N, out = new Float32Array(n), top = head === -2, ls = layer < 0 ? range(L, l => l) : [layer], hs = head < 0 ? range(H, h => h) : [head]
  for (let i = 0; i < n; i++) {
    let all = 0
    for (const l of ls) {
      let v = top ? -Infinity : 0
      for (const h of hs) { const a = attn[(l * H + h) * n + i]; v = top ? max(v, a) : v + a }
      all += v
    }
    out[i] = all / (ls.length * (top ? 1 : hs.length))
  }
  return out
}

/** The highest value under each of px pixels over [t0, t1); NaN where there is none. */
export function pool(a, edges, t0, t1, px) {
  const out = new Float32Array(px).fill(NaN), n = a.length, s = (t1 - t0) / px
  let i = min(lastAtMost(edges, t0), n - 1)
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

/** 4.80 s, 1:04.80, 1:02:03.00. */
export function clock(t, digits = 2) {
  const all = max(0, +t.toFixed(digits)), m = floor(all / 60), s = (all - 60 * m).toFixed(digits), pad = (x, n = 2) => String(x).padStart(n, '0')
  const rest = pad(s, digits ? digits + 3 : 2)
  return !m ? `${s} s` : m < 60 ? `${m}:${rest}` : `${floor(m / 60)}:${pad(m % 60)}:${rest}`
}

export const prob = p => p == null || Number.isNaN(p) ? '' : p >= .995 && p < 1 ? '>0.99' : p > 0 && p < .005 ? '<0.01' : p.toFixed(2)
export const times_ = r => `${r >= 9.95 ? round(r) : r.toFixed(1)}×`
export const number = v => v === 0 ? '0' : v >= .1 ? v.toFixed(3) : v >= 1e-4 ? v.toFixed(min(6, 2 - floor(Math.log10(v)))) : v.toExponential(1)
export const change = d => abs(d) < .005 ? 'no change' : (d < 0 ? '−' : '+') + abs(d).toFixed(2)

/** Rows as CSV; no text becomes a formula. */
export function csv(rows) {
  const cell = v => typeof v === 'number' ? String(v) : `"${(/^[=+\-@\t\r]/.test(v) ? "'" : '') + String(v).replaceAll('"', '""')}"`
  return rows.map(r => r.map(cell).join(',')).join('\r\n') + '\r\n'
}

const RAMPS = {light: ['c4deeb', '7db5d3', '3a86b4', '155a8a', '082f54'], dark: ['1b4058', '23658d', '3f9aca', '8bcdec', 'e6f6ff']}

/** 256 colours, faint to strong. */
export function ramp(theme) {
  const stops = RAMPS[theme].map(s => [0, 2, 4].map(i => parseInt(s.slice(i, i + 2), 16)))
  return range(256, i => {
    const x = i / 255 * (stops.length - 1), k = min(stops.length - 2, floor(x))
    return `rgb(${stops[k].map((a, c) => round(a + (stops[k + 1][c] - a) * (x - k))).join(',')})`
  })
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

// ---- page

const sum = a => a.reduce((x, v) => x + v, 0), box = e => e.getBoundingClientRect(), put = (e, k, v) => e.setAttribute(k, v), write = (e, text) => { e.textContent = text }
const MUTE = {'aria-hidden': 'true'}, RVFC = 'requestVideoFrameCallback'
const SVG = ['svg', 'path', 'line', 'text', 'polyline', 'polygon']

/** An element from 'tag.name' (prefixed tqn-), attributes and children; text stays text. */
function h(what, props, ...kids) {
  const [tag, ...names] = what.split('.'), svg = SVG.includes(tag)
  const e = svg ? document.createElementNS('http://www.w3.org/2000/svg', tag) : document.createElement(tag)
  if (props == null || typeof props !== 'object' || props instanceof Node || Array.isArray(props)) { kids.unshift(props); props = {} }
  if (names.length) put(e, 'class', names.map(n => `tqn-${n}`).join(' '))
  for (const [k, v] of Object.entries(props)) {
    if (v == null || v === false) continue
    if (k in e && !svg && typeof v !== 'string') e[k] = v
    else put(e, k, v === true ? '' : v)
  }
  e.append(...kids.flat(3).filter(k => k != null && k !== false))
  return e
}

const ICONS = {
  play: 'M4 2.5v11l9-5.5z', pause: 'M4 3h3v10H4zM9 3h3v10H9z', frameBack: 'M10.5 3.5 5 8l5.5 4.5z', frameOn: 'M5.5 3.5 11 8l-5.5 4.5z',
  clipBack: 'M3 3.5h1.6v9H3zM13 3.5v9L6 8z', clipOn: 'M11.4 3.5H13v9h-1.6zM3 3.5v9L10 8z', close: 'm4 4 8 8m0-8-8 8',
}
const icon = name => h(`svg.icon.icon-${name}`, {viewBox: '0 0 16 16', width: 16, height: 16, ...MUTE}, h('path', {d: ICONS[name]}))
const MARKS = {true: ['✓', 'right'], false: ['✗', 'wrong'], null: ['', '']}
const SPEEDS = [.1, .25, .5, 1, 1.5, 2, 4]
const KEYS = `Space: play or pause
← →: one frame back or on
Shift ← →: one clip back or on
Home End: first or last frame
P N: previous or next peak of the lane
↑ ↓: lane above or below
< >: slower or faster
+ − 0: zoom in, out, whole film
[ ]: begin or end a range at this clip
H K: hide the range, or keep only it
U C: undo, or show everything again
T: table of numbers
D: deletion and insertion curves
Esc: close
?: these keys`.split('\n').map(k => k.split(': '))
const SLOW = 5000
const message = text => h('div.viewer', h('div.message', {role: 'alert'}, text))

/** Follows the theme of the page, or the one asked for. */
function themes(model, done, signal) {
  const media = matchMedia('(prefers-color-scheme: dark)'), {body, documentElement: html} = document
  const look = () => {
    const own = model.get('theme'), jp = body.dataset.jpThemeLight, said = /^(light|dark)$/.test(own) ? own : html.getAttribute('theme') ?? /vscode-(dark|high-contrast|light)/.exec(body.className)?.[1] ?? ''
    done(jp && said !== own ? jp !== 'true' : said ? said !== 'light' : media.matches)
  }
  const seen = new MutationObserver(look)
  for (const e of [body, html]) seen.observe(e, {attributes: true})
  media.addEventListener('change', look, {signal})
  signal.addEventListener('abort', () => seen.disconnect())
  look()
  return look
}

/** The film: fetched in parts, shown frame by frame; a clock where there is none. */
function makeFilm(model, data, on, signal) {
  const {times, end} = data, props = {muted: true, playsInline: true, preload: 'auto', ...MUTE}
  const video = h('video.video', props), spy = h('video.spy', props), exact = RVFC in video
  const film = {video, spy, ready: false, frame: 0, shown: -1, playing: false, speed: 1}
  const listen = (e, name, f) => e.addEventListener(name, f, {signal})
  const status = (state, text = '', share = 0) => { film.ready = state === 'ready'; on.status(state, text, share) }
  let parts = [], url = '', timer = 0, again = false, since = 0, now = 0, loop = 0

  const ask = part => {
    clearTimeout(timer)
    timer = setTimeout(() => status('late', 'The film has not come: the kernel is busy or has stopped.'), SLOW)
    model.send({type: 'video', part})
  }
  film.load = () => {
    if (data.meta.video === false) return status('none')
    status('loading', 'Loading the film')
    parts = []; ask(0)
  }
  film.receive = (m, buffers) => {
    if (url) return
    if (m.error) { clearTimeout(timer); return status('error', m.error) }
    if (m.part !== parts.length || !buffers?.length) return
    parts.push(buffers[0])
    status('loading', 'Loading the film', parts.length / m.parts)
    if (parts.length < m.parts) return ask(parts.length)
    clearTimeout(timer)
    video.src = spy.src = url = URL.createObjectURL(new Blob(parts, {type: m.mime || 'video/mp4'}))
    parts = []
  }
  const go = () => { again = video.seeking; if (!again) video.currentTime = seekTime(times, film.frame, end) }
  const show = i => { if (i !== film.shown) on.shown(film.shown = i) }
  const tell = i => { if (i !== film.frame) on.frame(film.frame = i) }
  const presented = t => { const i = frameAt(times, t); show(i); if (film.playing && !video.paused && !video.seeking) tell(i) }
  const each = (_, m) => { presented(m.mediaTime); video[RVFC](each) }
  if (exact) video[RVFC](each); else listen(video, 'timeupdate', () => presented(video.currentTime))
  listen(video, 'loadeddata', () => {
    if (film.ready) return
    status('ready')
    video.playbackRate = film.speed
    go()
    if (film.playing) { halt(); roll() }
  })
  const late = f => setTimeout(f, exact ? 400 : 0)  // should no frame be announced
  listen(video, 'seeked', () => again ? go() : late(() => video.seeking || film.playing || show(frameAt(times, video.currentTime))))
  listen(video, 'error', () => url && status('error', 'This browser cannot play the film.'))
  listen(video, 'ended', () => { tell(times.length - 1); film.pause() })

  film.seek = i => {
    film.frame = clamp(round(i), 0, times.length - 1)
    since = 0
    if (film.ready) go()
    on.frame(film.frame)
  }
  const tick = at => {
    now = since ? now + (at - since) / 1000 * film.speed : times[film.frame]
    since = at
    if (now >= end) { tell(times.length - 1); return film.pause() }
    tell(frameAt(times, now))
    loop = requestAnimationFrame(tick)
  }
  const halt = () => { cancelAnimationFrame(loop); since = 0 }
  const roll = () => { if (film.ready) video.play().catch(() => film.pause()); else loop = requestAnimationFrame(tick) }
  film.play = () => {
    if (film.frame >= times.length - 1) film.seek(0)
    film.playing = true
    roll(); on.playing(true)
  }
  film.pause = () => {
    if (!film.playing) return
    film.playing = false
    halt()
    if (film.ready) { video.pause(); if (film.shown >= 0 && !video.ended) tell(film.shown); go() }
    on.playing(false)
  }
  film.rate = x => { film.speed = video.playbackRate = x }

  let jobs = [], job = null, seen = -1
  const next = () => {
    job = jobs.shift() ?? null
    if (!job) return
    if (job.frame === seen) return done()
    spy.currentTime = seekTime(times, job.frame, end)
  }
  const done = () => { job?.draw(spy); next() }
  const spied = (_, m) => { seen = frameAt(times, m.mediaTime); spy[RVFC](spied); if (job?.frame === seen) done() }
  if (exact) spy[RVFC](spied)
  listen(spy, 'seeked', () => { const j = job; late(() => { if (j && j === job) { seen = j.frame; done() } }) })
  film.picture = (frame, draw, urgent) => {
    if (!film.ready) return
    jobs = urgent ? [{frame, draw, urgent}, ...jobs.filter(j => !j.urgent)] : [...jobs, {frame, draw}]
    if (!job || job.urgent) next()
  }

  signal.addEventListener('abort', () => {
    clearTimeout(timer); halt(); jobs = []; job = null
    for (const v of [video, spy]) { v.pause(); v.removeAttribute('src'); v.load() }
    if (url) URL.revokeObjectURL(url)
  })
  return film
}

/** Questions to the kernel: one of a kind at a time. */
function makeAsk(model, late, signal) {
  let id = floor(Math.random() * 1e6) * 1000
  const kinds = {}
  const send = k => {
    [k.sent, k.next] = [k.next, null]
    k.id = ++id
    clearTimeout(k.timer)
    k.timer = setTimeout(() => { k.sent = null; late(true); if (k.next) send(k) }, SLOW)
    model.send({...k.sent, id})
  }
  signal.addEventListener('abort', () => Object.values(kinds).forEach(k => clearTimeout(k.timer)))
  return {
    put(m) { const k = kinds[m.type] ??= {}; k.next = m; if (!k.sent) send(k) },
    drop(type) { clearTimeout(kinds[type]?.timer); delete kinds[type] },
    take(m) {
      const k = kinds[m.type]
      if (k?.id !== m.id) return false
      clearTimeout(k.timer)
      k.sent = null; late(false)
      if (k.next) send(k)
      return true
    },
  }
}

const STATE = {frame: 0, playing: false, speed: 1, layer: -1, head: -1, how: 'attn', scale: 'lane', order: 'given', lane: 0, hidden: [], keep: false}

/** One viewer; returns what removes it. */
function mount(model, el) {
  const data = read(model), {meta, times, spans, bin, cols, columns, edges, end, at, ratio} = data
  const asked = meta.questions, Q = asked.length, N = meta.n_clips, t0 = times[0], F = times.length, live = !!meta.has_kernel
  const stop = new AbortController(), {signal} = stop
  const on = (e, name, f, options) => e.addEventListener(name, f, {signal, ...options})
  const get = k => model.get(k) ?? STATE[k], hidden = () => get('hidden'), shape = clamp(ratio, .6, 1.78)
  const s = {frame: 0, view: [t0, end], undo: [], panel: '', curves: {}, width: 1}  // what only this view knows
  const $ = {}  // the elements that change
  const first = c => columns[2 * c], after = c => columns[2 * c + 1], when = t => clock(t - t0), column = () => lastAtMost(columns, s.frame, 2)

  let saving = 0
  /** Share a value with Python. */
  const set = (k, value, slow) => {
    if (JSON.stringify(model.get(k)) === JSON.stringify(value)) return
    model.set(k, value)
    const save = () => { clearTimeout(saving); saving = 0; model.save_changes() }
    if (slow) saving ||= setTimeout(save, 250); else save()
  }
  const say = text => write($.live, text), hold = e => e.contains(document.activeElement) && root.focus({preventScroll: true})
  const button = (kind, label, act, ...kids) => {
    const b = h(`button.${kind}`, {type: 'button', 'aria-label': label, title: label}, ...kids)
    b.onclick = act
    return b
  }
  const choice = (label, key, options) => {
    const list = $[key] = h('select', {'aria-label': label}, options.map(([v, text]) => h('option', {value: v}, text)))
    list.pick = () => { list.selectedIndex = options.findIndex(o => o[0] === get(key)) }
    list.pick()
    list.onchange = () => { set(key, options[list.selectedIndex][0]); changed(key) }
    return h('label.choice', h('span', label), list)
  }

  const film = makeFilm(model, data, {
    frame: i => { s.frame = root.dataset.frame = i; moved(); set('frame', i, film.playing) },
    shown: i => { root.dataset.shown = i },
    playing: p => {
      root.classList.toggle('is-playing', p)
      put($.play, 'aria-label', p ? 'Pause' : 'Play'); $.play.title = `${p ? 'Pause' : 'Play'} (space)`
      set('frame', s.frame); set('playing', p)
    },
    status: (state, text, share) => {
      root.dataset.video = state
      write($.status, text + (share ? `: ${round(share * 100)} %` : ''))
      $.stage.hidden = state === 'none'
      if (state === 'ready') moments()
    },
  }, signal)
  const ask = makeAsk(model, late => { s.late = late; what() }, signal)
  const where = i => `frame ${i}, ${when(times[i])}, clip ${clipAt(spans, i)}`
  const go = (i, quiet) => { film.seek(i); follow(); if (!quiet) say(where(s.frame)) }

  // ---- the parts of the page
  const nav = (label, name, act) => button('nav', label, act, icon(name))
  const facts = [`${F.toLocaleString('en')} frames`, meta.fps && `${+meta.fps.toFixed(2)} fps`, when(end), `${N.toLocaleString('en')} clips`]
  const root = h('div.viewer', {role: 'group', 'aria-label': `Attention viewer: ${meta.name}`, tabindex: '-1', 'data-lm-suppress-shortcuts': 'true'},
    h('div.header', h('strong', meta.name), h('span.facts', facts.filter(Boolean).map(f => f.replaceAll(' ', '\xa0')).join('  ·  '))),
    h('div.top', $.stage = h('div.stage', {style: `--ratio:${ratio}`}, film.video, film.spy,
      h('div.status', $.status = h('span', {role: 'status'}))), $.detail = h('div.detail')),
    h('div.bar', h('div.transport', {role: 'group', 'aria-label': 'Play'}, nav('Previous clip', 'clipBack', () => clip(-1)), nav('Previous frame', 'frameBack', () => go(s.frame - 1)),
      $.play = button('nav.play', 'Play', () => toggle(), icon('play'), icon('pause')), nav('Next frame', 'frameOn', () => go(s.frame + 1)), nav('Next clip', 'clipOn', () => clip(1))),
    h('div.clock', $.time = h('b'), $.place = h('span')),
    h('div.choices', choice('Speed', 'speed', SPEEDS.map(x => [x, `${x}×`])), choice('Show', 'how', [['attn', 'attention'], ...(data.roll ? [['rollout', 'rollout']] : [])]),
      choice('Layer', 'layer', [[-1, 'mean'], ...range(meta.layers, i => [i, `${i + 1} of ${meta.layers}`])]),
      choice('Head', 'head', [[-1, 'mean'], [-2, 'max'], ...range(meta.heads, i => [i, `${i + 1} of ${meta.heads}`])]),
      choice('Scale', 'scale', [['lane', 'each lane'], ['shared', 'shared']]),
      choice('Order', 'order', [['given', 'as given'], ['probability', 'probability'], ['peak', 'time of peak'], ['focus', 'focus']]))),
    $.board = h('div.board',
      h('div.row.filmrow', h('div.name'), $.slider = h('div.track', {role: 'slider', tabindex: '0', 'aria-label': 'Frame', 'aria-valuemin': '0', 'aria-valuemax': F - 1}, $.film = h('canvas')),
        h('div.said.end', $.whole = button('plain', 'Show the whole film (0)', () => zoom(t0, end), 'Whole film'))),
      $.lanes = h('div.lanes', {role: 'listbox', 'aria-label': 'Questions'}),
      h('div.row.axisrow', h('div.name'), h('div.track.axis', $.axis = h('canvas', MUTE)), h('div.said.end.tools', $.curves = live && button('plain', 'Deletion and insertion curves (D)', () => panel('curves'), 'Curves'),
        $.table = button('plain', 'Table of numbers (T)', () => panel('table'), 'Table'), $.help = button('plain', 'Keys (?)', () => panel('help'), '?'))),
      h('div.over', $.veil = h('div'), $.range = h('div.range'), $.hover = h('div.hover'), $.now = h('div.playhead'))),
    $.what = h('div.what'), $.panel = h('div.panel', {role: 'region'}), h('div.notes', (meta.notes ?? []).map(n => h('p', n))),
    $.tip = h('div.tip', MUTE, $.look = h('canvas', {height: 180, width: round(180 * shape)}), $.tip1 = h('b'), $.tip2 = h('span'), $.tip3 = h('span')),
    $.pop = h('div.pop', {role: 'group', 'aria-label': 'Chosen range'}), $.live = h('div.live', {role: 'status'}))
  for (const k of ['whole', 'range', 'hover', 'tip', 'pop', 'what', 'panel']) $[k].hidden = true

  const rows = asked.map((q, i) => {
    const r = {q, i}
    r.el = h('div.row.lane', {role: 'option', 'data-name': q.name}, h('div.name', h('b', {title: q.name}, q.name), r.note = h('span')), r.track = h('div.track', r.canvas = h('canvas', MUTE)),
      h('div.said', r.mark = h('i'), h('div', h('div.first', r.answer = h('span'), r.p = h('b')), r.second = h('div.second'))))
    on(r.el, 'focus', () => pick(i))
    on(r.el, 'pointerdown', e => r.track.contains(e.target) || pick(i, true))
    return r
  })

  // ---- what the lanes say
  function said(i) {
    const q = asked[i], w = s.answers?.[q.name], {said, p, ranked} = w ?? q, text = String(said), same = !w || text === String(q.said)
    return {text, p, ranked: ranked ?? [], was: w && q, same, right: q.truth == null ? null : w && !same ? text === String(q.truth) : q.right ?? null}
  }
  const over = v => times_(v / data.uniform)
  function labels() {
    for (const r of rows) {
      const {text, p, was, same, right, ranked} = said(r.i), q = r.q, [sign, name] = MARKS[right], m = s.info[r.i], truth = right === false ? `truth: ${q.truth}` : ''
      write(r.answer, r.answer.title = text); write(r.p, prob(p))
      write(r.mark, sign); r.mark.className = `tqn-mark is-${name}`
      write(r.second, r.second.title = !was ? truth || (ranked[1] ? `then ${ranked[1][0]} ${prob(ranked[1][1])}` : '') : !same ? `was ${was.said} ${prob(was.p)}` : p == null ? '' : change(p - was.p))
      r.el.classList.toggle('is-changed', !same)
      write(r.note, `peak ${over(m.top)}`)
      put(r.el, 'aria-label', [`${q.name}: ${text}`, prob(p) && `probability ${prob(p)}`, name, truth, !same && `was ${q.said}`, `attention peaks at ${when(edges[m.at])}, ${over(m.top)} uniform`].filter(Boolean).join(', '))
    }
  }
  function detail() {
    const i = lane(), q = asked[i], {ranked, right, was, text} = said(i), [sign, name] = MARKS[right], before = Object.fromEntries(was?.ranked ?? [])
    const how = q.name === 'class' && meta.reading ? `read by ${meta.reading}` : {many: 'several answers', count: 'a count'}[q.kind]
    $.detail.replaceChildren(
      h('div.title', h('strong', q.name), how && h('span.soft', how), sign && h('span', {class: `tqn-verdict is-${name}`}, h('i.mark', sign), right ? 'right' : `wrong: it is ${q.truth}`)),
      h('div.answers', {role: 'list', 'aria-label': `Answers to ${q.name}`}, ranked.slice(0, 6).map(([a, p]) => h(`div.answer.${a === text ? 'best' : 'other'}`, {role: 'listitem'}, h('span', {title: a}, a),
        h('div.gauge', h('div', {style: `width:${100 * p}%`}), a in before && h('em', {style: `left:${100 * before[a]}%`, title: `was ${prob(before[a])}`})), h('b', prob(p)), h('i', String(a) === String(q.truth) ? 'truth' : '')))),
      h('div.caption', 'Looked at most'), $.moments = h('div.moments'))
    moments()
  }
  const middle = c => first(c) + after(c) >> 1
  function moments() {
    const a = map(lane())
    $.moments?.replaceChildren(...peaks(a).sort((x, y) => a[y] - a[x]).slice(0, 3).map(c => {
      const f = middle(c), t = times[f] - t0, pic = h('canvas', {height: 144, width: round(144 * shape)})
      paint(pic, sprite(times[f]))
      setTimeout(() => pic.isConnected && film.picture(f, v => paint(pic, v)), 150)
      return button('moment', `Go to the peak at ${clock(t)}, ${over(a[c])} uniform`, () => go(f), pic, h('span', `${clock(t, 1)} `, h('b', over(a[c]))))
    }))
  }

  // ---- lanes
  const map = i => s.maps.subarray(i * cols, (i + 1) * cols)
  const lane = () => clamp(get('lane'), 0, Q - 1)
  function remap() {
    const how = get('how') === 'rollout' && data.roll
    $.layer.disabled = $.head.disabled = !!how
    s.maps = how || combine(data.attn, data.shape, get('layer'), get('head'))
    s.info = asked.map((q, i) => { const a = map(i), k = argmax(a); return {at: k, top: a[k], peak: edges[k], p: q.p, focus: focus(a)} })
    s.top = max(...s.info.map(m => m.top))
    arrange()
  }
  function arrange() {
    const held = document.activeElement
    s.order = order(s.info, get('order'))
    const els = s.order.map(i => rows[i].el)
    if (els.some((e, i) => e !== $.lanes.children[i])) { $.lanes.replaceChildren(...els); if (els.includes(held)) held.focus() }
    labels(); pick(lane()); detail(); redraw()
    if (s.panel === 'table') table()
  }
  function pick(i, focus) {
    const same = s.lane === i
    s.lane = i
    set('lane', i)
    for (const r of rows) { put(r.el, 'aria-selected', r.i === i); r.el.tabIndex = r.i === i ? 0 : -1 }
    if (focus) rows[i].el.focus({preventScroll: true})
    if (same) return
    detail()
    if (s.panel === 'curves') curves()
    if (s.range && !$.pop.hidden) popover()
  }

  // ---- pictures
  /** Fill a canvas with a video or a part of the filmstrip. */
  function paint(c, pic, x = 0, w = c.width) {
    if (!pic) return
    const [img, sx, sw, sh] = Array.isArray(pic) ? pic : [pic, 0, pic.videoWidth, pic.videoHeight], g = c.getContext('2d')
    const k = min(sw / w, sh / c.height)
    g.imageSmoothingQuality = 'high'
    if (k) g.drawImage(img, sx + (sw - w * k) / 2, (sh - c.height * k) / 2, w * k, c.height * k, x, 0, w, c.height)
  }
  function sprite(t) {
    if (!s.sprite) return null
    const {img, taken: k} = s.sprite, w = img.width / k.length, i = lastAtMost(k, t), j = min(i + 1, k.length - 1)
    return [img, (k[j] - t < t - k[i] ? j : i) * w, w, img.height]
  }
  async function openSprite() {
    const strip = model.get('strip'), taken = typed(model.get('strip_times'), 'float64')
    if (!strip?.byteLength || !taken.length) return
    const img = await createImageBitmap(new Blob([strip])).catch(() => null)
    if (!img || signal.aborted) return img?.close()
    s.sprite = {img, taken}
    signal.addEventListener('abort', () => img.close())
    moments(); redraw()
  }

  // ---- drawing
  let due = 0
  const redraw = () => { due ||= requestAnimationFrame(() => { due = 0; draw() }) }
  const x = t => (t - s.view[0]) / (s.view[1] - s.view[0])
    function sharp(c) {
    const k = devicePixelRatio || 1, W = max(1, round(c.clientWidth * k)), H = max(1, round(c.clientHeight * k)), g = c.getContext('2d')
    if (c.width !== W || c.height !== H) [c.width, c.height] = [W, H]; else g.clearRect(0, 0, W, H)
    return [g, W, H, k]
  }
  function draw() {
    if (!$.film.clientWidth) return
    const css = getComputedStyle(root), [ink, soft, ground] = ['--ink', '--soft', '--bg'].map(n => css.getPropertyValue(n).trim())
    for (const i of s.order) drawLane(rows[i], ink, soft, ground)
    drawFilm(); drawAxis(soft, css.fontFamily); veil(); moved()
    root.dataset.ready = '1'
  }
  function drawLane(r, ink, soft, ground) {
    const [g, W, H, k] = sharp(r.canvas), top = get('scale') === 'shared' ? s.top : s.info[r.i].top, room = H - 4 * k, e = r.q.extent, [from, to] = (e ?? [0, 0]).map(f => x(at(f)) * W)
    const image = g.createImageData(W, H), dots = new Uint32Array(image.data.buffer)
    pool(map(r.i), edges, ...s.view, W).forEach((a, c) => {
      const v = min(1, a / top)
      if (v > 0) for (let y = round(H - max(k, v * room)); y < H; y++) dots[y * W + c] = s.ramp[round(v * 255)]
    })
    g.putImageData(image, 0, 0)
    g.globalCompositeOperation = 'destination-over'; g.globalAlpha = .06; g.fillStyle = ink; g.fillRect(from, 0, to - from, H)
    g.globalCompositeOperation = 'source-over'; g.globalAlpha = 1
    const y = round(H - data.uniform / top * room) + .5, path = (width, colour, ...lines) => {
      g.lineWidth = width * k; g.strokeStyle = colour; g.beginPath()
      for (const [[x0, y0], ...rest] of lines) { g.moveTo(x0, y0); for (const p of rest) g.lineTo(...p) }
      g.stroke()
    }
    if (y > 0) { g.setLineDash([k, 3 * k]); path(1, soft, [[0, y], [W, y]]); g.setLineDash([]) }
    const n = min(5 * k, (to - from) / 3), o = 1.2 * k, bracket = (p, n) => [[p + n, o], [p, o], [p, H - o], [p + n, H - o]]
    if (e) for (const style of [[4.6, ground], [1.8, ink]]) path(...style, bracket(from, n), bracket(to, -n))
  }
  function drawFilm() {
    const [, W, H, k] = sharp($.film), n = max(1, round(W / (H * shape)))
    for (let j = 0; j < n; j++) {
      const a = round(j * W / n), b = round((j + 1) * W / n) - (j < n - 1 ? k : 0)
      paint($.film, sprite(s.view[0] + (j + .5) / n * (s.view[1] - s.view[0])), a, b - a)
    }
  }
  function drawAxis(soft, font) {
    const [g, W, , k] = sharp($.axis), all = ticks(...s.view.map(t => t - t0), max(2, W / k / 78)), step = all[1] - all[0] || 1
    g.fillStyle = soft; g.font = `${11 * k}px ${font}`; g.textBaseline = 'top'
    for (const t of all) {
      const p = min(W - k, round(x(t + t0) * W)), text = clock(t, step < .1 ? 2 : step < 1 ? 1 : 0), w = g.measureText(text).width
      g.fillRect(p, 0, k, 4 * k)
      g.fillText(text, clamp(p - w / 2, 0, W - w), 7 * k)
    }
  }
  /** Lay an element over clips [a, b). */
  function band(e, a, b) {
    const l = max(0, x(at(spans[2 * a]))), r = min(1, x(at(spans[2 * b - 1])))
    e.style.left = `${100 * l}%`; e.style.width = `${100 * max(0, r - l)}%`
    return e
  }
  const veil = () => $.veil.replaceChildren(...unseen(hidden(), get('keep'), N).map(r => band(h('div.hidden'), ...r)))
  /** What follows the play head. */
  function moved() {
    const i = s.frame, p = x((times[i] + (i + 1 < F ? times[i + 1] : end)) / 2)
    $.now.style.transform = `translateX(${(p * s.width).toFixed(2)}px)`
    $.now.hidden = p < 0 || p > 1
    write($.time, when(times[i]))
    write($.place, `frame ${i} of ${F - 1}   clip ${clipAt(spans, i)} of ${N - 1}`)
    put($.slider, 'aria-valuenow', i); put($.slider, 'aria-valuetext', where(i))
    if (film.playing) follow()
    s.here?.()
  }
  function measure() {
    const [b, f, a] = [$.board, $.film, $.axis].map(box)
    s.width = f.width
    Object.assign($.now.parentNode.style, {left: `${f.left - b.left}px`, width: `${f.width}px`, top: `${f.top - b.top}px`, bottom: `${b.bottom - a.top}px`})
  }
  function zoom(a, b) {
    const all = end - t0, len = clamp(b - a, min(all, 8 * all / F), all), from = clamp((a + b - len) / 2, t0, end - len)
    s.view = len > .999 * all ? [t0, end] : [from, from + len]
    $.whole.hidden = len > .999 * all
    shade(); redraw()
  }
  const scale = (k, t = times[s.frame]) => zoom(t - (t - s.view[0]) * k, t + (s.view[1] - t) * k)
  function follow() {
    const [a, b] = s.view, t = times[s.frame], k = film.playing ? .05 : .5
    if (t < a || t > b) zoom(t - (b - a) * k, t + (b - a) * (1 - k))
  }

  // ---- pointing
  const px = e => e.clientX - box($.film).left
  /** The frame and column at pixel p; in a lane the highest that share it. */
  function under(p, r) {
    const per = (s.view[1] - s.view[0]) / s.width, left = s.view[0] + floor(p) * per, [a, b] = [left, left + per].map((t, i) => lastAtMost(edges, t + (i ? -1e-6 : 1e-6) * per))
    if (r && b - a > 1) { const c = argmax(map(r.i), min(a, cols - 1), min(b + 1, cols)); return {c, frame: middle(c)} }
    const frame = frameAt(times, clamp(s.view[0] + p * per, t0, end))
    return {frame, c: lastAtMost(columns, frame, 2)}
  }
  const rowAt = e => rows.find(r => r.track.contains(e.target))
  const frames = (a, b) => b - a > 1 ? `frames ${a}–${b - 1}` : `frame ${a}`
  const clips = c => bin > 1 ? `${c * bin}–${min(N, (c + 1) * bin) - 1}` : String(c)
  function tip(e, r) {
    const p = px(e), {c, frame} = under(p, r), v = r && map(r.i)[c], whole = box(root)
    write($.tip1, r ? `${number(v)}   ${over(v)} uniform` : `frame ${frame}`)
    write($.tip2, r ? `${bin > 1 ? 'highest of clips' : 'clip'} ${clips(c)}, ${frames(first(c), after(c))}` : `clip ${clipAt(spans, frame)}`)
    write($.tip3, r ? `${when(edges[c])} – ${when(edges[c + 1])}` : when(times[frame]))
    $.hover.hidden = $.tip.hidden = false
    $.hover.style.transform = `translateX(${p}px)`
    if (s.tipped !== frame) {
      s.tipped = frame
      $.look.hidden = !s.sprite && !film.ready
      paint($.look, sprite(times[frame]))
      film.picture(frame, v => { if (s.tipped === frame) { paint($.look, v); root.dataset.preview = frame } }, true)
    }
    const {offsetWidth: w, offsetHeight: tall} = $.tip, y = box(r?.track ?? $.slider).top - whole.top, up = y - tall - 8
    $.tip.style.transform = `translate(${clamp(e.clientX - whole.left - w / 2, 4, whole.width - w - 4)}px, ${up > 0 ? up : y + (r ? 44 : 70)}px)`
  }
  const untip = () => { $.tip.hidden = $.hover.hidden = true; s.tipped = -1 }
  let drag = null
  on($.board, 'pointerdown', e => {
    const r = rowAt(e)
    if (e.button || !(r || $.slider.contains(e.target))) return
    e.target.setPointerCapture(e.pointerId)
    e.preventDefault()
    drag = {r, p: px(e), clip: clipAt(spans, under(px(e)).frame)}
    if (r) pick(r.i, true); else { $.slider.focus({preventScroll: true}); go(under(drag.p).frame, true) }
  })
  on($.board, 'pointermove', e => {
    const p = px(e), r = rowAt(e)
    if (!drag) return r || $.slider.contains(e.target) ? tip(e, r) : untip()
    untip()
    if (!drag.r) return go(under(p).frame, true)
    if (!drag.moved && abs(p - drag.p) < 5) return
    drag.moved = true
    const c = clipAt(spans, under(p).frame)
    choose(min(drag.clip, c), max(drag.clip, c) + 1)
  })
  on($.board, 'pointerup', () => {
    const d = drag
    drag = null
    if (d?.moved) popover()
    else if (d?.r) { choose(); go(under(d.p, d.r).frame) } else if (d) say(where(s.frame))
  })
  on($.board, 'pointercancel', () => { drag = null; choose() })
  on($.board, 'pointerleave', untip)
  on($.board, 'wheel', e => {
    const {ctrlKey, metaKey, deltaX, deltaY} = e, d = deltaX * (s.view[1] - s.view[0]) / s.width
    if (ctrlKey || metaKey) { e.preventDefault(); scale(Math.exp(clamp(deltaY, -50, 50) / 100), times[under(px(e)).frame]) }
    else if (!$.whole.hidden && abs(deltaX) > abs(deltaY)) { e.preventDefault(); zoom(s.view[0] + d, s.view[1] + d) }
  }, {passive: false})

  /** Choose clips [a, b), or none; the model is asked at once what it says without them. */
  function choose(a, b) {
    const had = s.range
    s.range = b ? [a, b] : null
    if (String(had) === String(s.range)) return
    if (!b) { hold($.pop); $.pop.hidden = $.range.hidden = true; return revise() }
    shade()
    if (live) ask.put({type: 'whatif', hidden: merge([...(get('keep') ? [] : hidden()), s.range], N), keep: false})
  }
  function shade() { $.range.hidden = !s.range; if (s.range) { band($.range, ...s.range); if (!$.pop.hidden) popover() } }
  function popover() {
    const [a, b] = s.range, r = rows[lane()], m = map(r.i), f0 = spans[2 * a], f1 = spans[2 * b - 1], whole = box(root)
    const part = sum(m.slice(floor(a / bin), ceil(b / bin))) / sum(m)
    $.pop.replaceChildren(h('div', h('b', frames(f0, f1)), h('span', `${b - a} clip${b - a > 1 ? 's' : ''}, ${clock(at(f1) - at(f0))}`), h('span', `${round(100 * part)} % of the attention of ${r.q.name}`)),
      h('div.acts', live && [button('plain', 'Hide from the model (H)', () => hide(false), 'Hide'), button('plain', 'Show the model only this (K)', () => hide(true), 'Keep only')],
        button('plain', 'Zoom in', () => { zoom(at(f0), at(f1)); choose() }, 'Zoom'), button('nav', 'Close (Escape)', () => choose(), icon('close'))))
    $.pop.hidden = false
    const p = box($.range), w = $.pop.offsetWidth
    $.pop.style.transform = `translate(${clamp((p.left + p.right) / 2 - whole.left - w / 2, 6, whole.width - w - 6)}px, ${box(r.track).bottom - whole.top + 6}px)`
    say(`Chosen: ${frames(f0, f1)}, ${b - a} clips`)
  }

  // ---- what if
  function hide(keep) {
    if (!live) return say('This needs a running notebook.')
    const c = clipAt(spans, s.frame), range = s.range ?? [c, c + 1], old = hidden()
    hold($.pop)
    s.range = null
    rule(keep === get('keep') ? [...old, range] : [range], keep)
    $.pop.hidden = $.range.hidden = true
  }
  /** A new rule for what the model sees. */
  function rule(ranges, keep, undo) {
    if (!undo) s.undo.push([hidden(), get('keep')])
    set('hidden', merge(ranges, N)); set('keep', keep)
    revise(); redraw()
  }
  const back = () => { const u = s.undo.pop(); if (u) rule(...u, true) }
  function revise() {
    const ranges = hidden(), keep = get('keep')
    s.rule = JSON.stringify([ranges, keep]); s.trouble = ''
    if (ranges.length && live) ask.put({type: 'whatif', hidden: ranges, keep})
    else { ask.drop('whatif'); s.late = false; s.answers = null; labels(); detail() }
    what()
  }
  function what() {
    const ranges = hidden(), keep = get('keep'), n = s.answers ? rows.filter(r => !said(r.i).same).length : 0
    hold($.what)
    $.what.hidden = !(ranges.length || s.late || s.trouble)
    $.what.replaceChildren(...(ranges.length ? [h('b', keep ? 'Only' : 'Without'), ...ranges.map((r, i) => {
      const text = frames(spans[2 * r[0]], spans[2 * r[1] - 1])
      return h('span.chip', text, button('nav', `Take back ${text}`, () => rule(ranges.filter((_, j) => j !== i), keep), icon('close')))
    }), h('span.soft', s.answers ? `${n} of ${Q} answers ${n === 1 ? 'changes' : 'change'}` : ''), ...(s.undo.length ? [button('plain', 'Undo (U)', back, 'Undo')] : []),
    button('plain', 'Show the model everything (C)', () => rule([], false), 'Show all')] : []),
    h('span.trouble', {role: 'status'}, s.trouble || (s.late ? 'The kernel has not answered for 5 s: it is busy or has stopped. All else works.' : '')))
  }

  // ---- panels: curves, numbers, keys
  function panel(k) {
    hold($.panel)
    s.panel = s.panel === k ? '' : k
    s.here = null
    for (const n of ['curves', 'table', 'help']) if ($[n]) put($[n], 'aria-expanded', s.panel === n)
    $.panel.hidden = !s.panel
    if (s.panel) { ({curves, table, help})[k](); $.panel.scrollIntoView({block: 'nearest'}) }
  }
  function fill(title, ...kids) {
    put($.panel, 'aria-label', title)
    $.panel.replaceChildren(h('div.title', h('strong', title), button('nav.close', 'Close (Escape)', () => panel(s.panel), icon('close'))), ...kids)
  }
  const help = () => fill('Keys', h('dl.keys', KEYS.map(([k, text]) => h('div', h('dt', k.split(' ').map(k => h('kbd', k))), h('dd', text)))),
    h('p.soft', 'Click to go there. Drag along the film to scrub, along a lane to choose a range. Ctrl and wheel zooms.'))
  function curves() {
    const i = lane(), q = asked[i], c = s.curves[i]
    if (!c) ask.put({type: 'curves', question: i})
    fill(`Does ${q.name} need what it looked at?`, c ? plot(c) : h('p.soft', 'Asking the model'),
      h('p.soft', 'The model is shown more and more clips: insertion begins with those this question attends to most, deletion with those it attends to least. Where attention finds what matters, insertion rises early and deletion late. Figures: means.'))
  }
  function plot(c) {
    const W = 600, H = 226, X = v => 36 + v * 450, Y = v => 26 + (1 - v) * 156, kinds = ['insertion', 'deletion', 'random'].filter(k => c[k]?.length), line = a => a.map((v, i) => `${X(c.share[i])},${Y(v)}`)
    const mean = k => c.areas?.[k] ?? sum(c[k]) / c[k].length
    const names = kinds.map(k => ({k, y: Y(c[k][floor(c[k].length / 3)])})).sort((a, b) => a.y - b.y)
    names.forEach((e, i) => { e.y = max(e.y, i ? names[i - 1].y + 16 : 20) })
    const text = (x, y, t, more) => h('text', {x, y, ...more}, t)
    return h('div.curves', {role: 'img', 'aria-label': kinds.map(k => `${k} ${mean(k).toFixed(2)}`).join(', ')}, h('svg', {viewBox: `0 0 ${W} ${H}`},
      [0, .5, 1].map(v => [h('line.grid', {x1: X(0), x2: X(1), y1: Y(v), y2: Y(v)}), text(30, Y(v) + 4, String(v), {'text-anchor': 'end'}), text(X(v), H - 24, `${100 * v} %`, {'text-anchor': 'middle'})]),
      text(X(.5), H - 6, 'share of the clips shown', {'text-anchor': 'middle'}), text(X(0), 9, `probability of ${c.answer ?? 'the answer'}`),
      c.low && c.high && h('polygon.spread', {points: [...line(c.low), ...line(c.high).reverse()].join(' ')}),
      kinds.map(k => h(`polyline.${k}`, {points: line(c[k]).join(' ')})),
      names.map(({k, y}) => text(X(1) + 10, y, `${k} ${mean(k).toFixed(2)}`, {class: `tqn-${k}`}))))
  }
  function table() {
    const TALL = 24, n = 24, body = h('tbody'), above = h('tr', MUTE), below = h('tr', MUTE)
    const lanes = s.order.map(i => [asked[i].name, map(i)]), head = ['clip', 'frames', 'from', 'to', ...lanes.map(l => l[0])]
    const row = c => [clips(c), `${first(c)}–${after(c) - 1}`, when(edges[c]), when(edges[c + 1]), ...lanes.map(l => number(l[1][c]))]
    const scroll = h('div.scroll', {tabindex: '0', role: 'group', 'aria-label': 'Numbers'}, h('table', {'aria-rowcount': cols + 1}, h('thead', h('tr', head.map(t => h('th', {scope: 'col'}, t)))), body))
    let seen = ''
    s.here = () => {  // only rows in sight
      const k = clamp(floor(scroll.scrollTop / TALL) - 6, 0, max(0, cols - n)), c0 = column()
      if (seen === (seen = `${k} ${c0}`)) return
      above.style.height = `${k * TALL}px`; below.style.height = `${max(0, cols - k - n) * TALL}px`
      body.replaceChildren(above, ...range(min(n, cols), j => {
        const c = k + j, tr = h('tr', {'aria-rowindex': c + 2, class: c === c0 && 'is-now'}, row(c).map(v => h('td', v)))
        tr.onclick = () => go(middle(c))
        return tr
      }), below)
    }
    scroll.onscroll = () => s.here?.()
    const save = () => {
      const text = csv([['clip', 'first frame', 'last frame', 'from (s)', 'to (s)', ...head.slice(4)], ...range(cols, c => [bin > 1 ? clips(c) : c, first(c), after(c) - 1, edges[c] - t0, edges[c + 1] - t0, ...lanes.map(l => l[1][c])])])
      const href = URL.createObjectURL(new Blob([text], {type: 'text/csv'}))
      h('a', {href, download: `${meta.name}.attention.csv`}).click()
      setTimeout(() => URL.revokeObjectURL(href), 1000)
    }
    fill('Attention', scroll, button('plain', 'Save as CSV', save, 'Save CSV'))
    s.here()
    scroll.scrollTop = (column() - 4) * TALL
    s.here()
  }

  // ---- keys
  const toggle = () => film.playing ? film.pause() : film.play()
  const clip = d => { const c = clipAt(spans, s.frame); go(spans[2 * clamp(d < 0 && s.frame > spans[2 * c] ? c : c + d, 0, N - 1)]) }
  const peak = d => { const c = nextPeak(map(lane()), column(), d); if (c < 0) say('No more peaks'); else go(middle(c)) }
  const step = d => { const i = s.order[s.order.indexOf(lane()) + d]; if (i >= 0) { pick(i, true); rows[i].el.scrollIntoView({block: 'nearest'}) } }
  const speed = d => { const k = SPEEDS.indexOf(get('speed')), v = SPEEDS[clamp((k < 0 ? 3 : k) + d, 0, SPEEDS.length - 1)]; set('speed', v); changed('speed') }
  const border = last => { const c = clipAt(spans, s.frame), [a, b] = s.range ?? [c, c + 1]; if (last) choose(min(a, c), c + 1); else choose(c, max(b, c + 1)); popover() }
  const ACTS = {
    ' ': toggle, ArrowLeft: e => e.shiftKey ? clip(-1) : go(s.frame - 1), ArrowRight: e => e.shiftKey ? clip(1) : go(s.frame + 1), Home: () => go(0), End: () => go(F - 1),
    p: () => peak(-1), n: () => peak(1), ArrowUp: () => step(-1), ArrowDown: () => step(1), '<': () => speed(-1), '>': () => speed(1), '+': () => scale(.5), '-': () => scale(2),
    0: () => zoom(t0, end), '[': () => border(false), ']': () => border(true), h: () => hide(false), k: () => hide(true), u: back, c: () => hidden().length && rule([], false),
    t: () => panel('table'), d: () => live && panel('curves'), '?': () => panel('help'), Escape: () => { untip(); if (s.range) choose(); else if (s.panel) panel(s.panel) },
  }
  on(root, 'keydown', e => {
    const {tagName: tag} = e.target, key = e.key.length > 1 ? e.key : e.key.toLowerCase(), act = ACTS[key], arrow = /^(Arrow|Home|End)/.test(key)
    if (!act || e.ctrlKey || e.metaKey || e.altKey || (tag === 'SELECT' && (arrow || /[a-z0-9 ]$/.test(key) && key !== 'Escape')) || (tag === 'BUTTON' && key === ' ') || (arrow && $.panel.contains(e.target))) return
    e.preventDefault(); e.stopPropagation()
    act(e)
  })
  on(film.video, 'click', toggle)

  // ---- news
  function changed(k) {
    $[k]?.pick?.()
    const v = get(k)
    if (['layer', 'head', 'how'].includes(k)) remap()
    else if (k === 'order') arrange()
    else if (k === 'scale') redraw()
    else if (k === 'lane') { if (v !== s.lane) pick(lane()) }
    else if (k === 'speed') film.rate(v)
    else if (k === 'frame') { if (v !== s.frame && !film.playing) go(v, true) }
    else if (k === 'playing') { if (v !== film.playing) toggle() }
    else if (k === 'theme') theme()
    else if (JSON.stringify([hidden(), get('keep')]) !== s.rule) { revise(); redraw() }
  }
  const heard = [...Object.keys(STATE), 'theme'].map(k => [`change:${k}`, () => changed(k)])
  heard.push(['msg:custom', (m, buffers) => {
    if (m.type === 'video') return film.receive(m, buffers)
    if (!ask.take(m)) return
    s.trouble = m.error ?? ''
    if (m.answers) { s.answers = Object.fromEntries(m.answers.map(a => [a.name, a])); labels(); detail() }
    if (m.share) { s.curves[m.question] = m; if (s.panel === 'curves') curves() }
    what()
    if (m.answers && !drag) say($.what.querySelector('.tqn-soft')?.textContent)
  }])

  // ---- begin, and end
  el.append(root)
  const theme = themes(model, dark => { s.ramp = ramp(dark ? 'dark' : 'light').map(c => c.match(/\d+/g).reduce((n, v, i) => n + v * 256 ** i, 255 * 2 ** 24)); root.classList.toggle('is-dark', dark); redraw() }, signal)
  const watch = new ResizeObserver(() => { measure(); draw(); shade() })
  for (const e of [root, $.board]) watch.observe(e)
  remap(); openSprite(); revise()
  film.rate(get('speed')); film.load()
  go(get('frame'), true)
  for (const [name, f] of heard) model.on(name, f)
  if (get('playing')) film.play()
  return () => {
    stop.abort(); watch.disconnect(); clearTimeout(saving); cancelAnimationFrame(due)
    for (const [name, f] of heard) model.off(name, f)
    root.remove()
  }
}

/** What anywidget calls, and the page. */
export function render({model, el}) {
  let end = null, due = false
  const start = () => {
    const error = model.get('error')
    due = false; end?.(); end = null
    el.replaceChildren()
    if (error) return el.append(message(error))
    try { end = mount(model, el) } catch (e) { el.replaceChildren(message(e.message)) }
  }
  const again = () => { if (!due) { due = true; queueMicrotask(() => due && start()) } }
  const names = ['meta', 'attn', 'error'].map(k => `change:${k}`)
  for (const n of names) model.on(n, again)
  start()
  return () => { due = false; for (const n of names) model.off(n, again); end?.() }
}

export default {render}

// What all widgets share: numbers, words, colours, elements, themes. It stands in front of each widget's own files when they are sent.

// ---------------------------------------------------------------- numbers

const {abs, ceil, floor, log, max, min, round} = Math
const range = (n, f) => Array.from({length: n}, (_, i) => f(i)), clamp = (x, a, b) => max(a, min(b, x)), sum = a => a.reduce((x, v) => x + v, 0)
const KINDS = {float16: Uint16Array, float32: Float32Array, float64: Float64Array, int32: Int32Array}
const POWERS = range(31, e => 2 ** (e - 15))
const SLOW = 5000  // milliseconds after which a kernel counts as silent

/** One IEEE half, from its 16 bits. */
export function half(u) {
  const s = u & 0x8000 ? -1 : 1, e = u >> 10 & 31, f = u & 1023
  return e === 31 ? (f ? NaN : s * Infinity) : e ? s * (1 + f / 1024) * POWERS[e] : s * f * 2 ** -24
}

/** Little-endian bytes, wherever they lie, in memory of their own. */
export function bytes(v) {
  return (!v ? new Uint8Array(0) : v instanceof ArrayBuffer ? new Uint8Array(v) : new Uint8Array(v.buffer, v.byteOffset, v.byteLength)).slice()
}

/** Little-endian bytes as numbers. */
export function typed(v, kind) {
  const b = bytes(v), Kind = KINDS[kind]
  if (!Kind) throw new Error(`expected one of ${Object.keys(KINDS)}, got ${kind}`)
  if (b.length % Kind.BYTES_PER_ELEMENT) throw new Error(`expected whole ${kind} numbers, got ${b.length} bytes`)
  const a = new Kind(b.buffer)
  return kind === 'float16' ? Float32Array.from(a, half) : a
}

/** The last i with a[i*step] <= x, at least 0; a ascends. */
export function lastAtMost(a, x, step = 1) {
  let lo = 0, hi = a.length / step - 1
  while (lo < hi) { const m = lo + hi + 1 >> 1; if (a[m * step] <= x) lo = m; else hi = m - 1 }
  return lo
}

/** The frame on show at time t. */
export const frameAt = (times, t) => lastAtMost(times, t + 1e-4)

/** Where to seek for frame i: just inside it, since browsers may drop a frame before its time is over. */
export const seekTime = (times, i, end) => times[i] + min(.004, ((times[i + 1] ?? end) - times[i]) / 2)

/** The place of the highest value in [from, to). */
export function argmax(a, from = 0, to = a.length) {
  let m = from
  for (let i = from + 1; i < to; i++) if (a[i] > a[m]) m = i
  return m
}

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

/** The value furthest from zero under each of px pixels over [t0, t1); edges say where each value begins and ends. NaN where there is none. */
export function pool(a, edges, t0, t1, px) {
  const out = new Float32Array(px).fill(NaN), n = a.length, s = (t1 - t0) / px
  let i = min(lastAtMost(edges, t0), n - 1)
  for (let x = 0; x < px; x++) {
    const from = t0 + x * s, to = from + s, e = s * 1e-6
    while (i < n - 1 && edges[i + 1] <= from + e) i++
    if (edges[i] >= to || edges[n] <= from + e) continue
    let m = a[i]
    for (let j = i + 1; j < n && edges[j] < to - e; j++) if (abs(a[j]) > abs(m)) m = a[j]
    out[x] = m
  }
  return out
}

// ---------------------------------------------------------------- words

/** 4.80 s, 1:04.80, 1:02:03.00. */
export function clock(t, digits = 2) {
  const all = max(0, +t.toFixed(digits)), m = floor(all / 60), s = (all - 60 * m).toFixed(digits), pad = (x, n = 2) => String(x).padStart(n, '0')
  const rest = pad(s, digits ? digits + 3 : 2)
  return !m ? `${s} s` : m < 60 ? `${m}:${rest}` : `${floor(m / 60)}:${pad(m % 60)}:${rest}`
}

export const prob = p => p == null || Number.isNaN(p) ? '' : p >= .995 && p < 1 ? '>0.99' : p > 0 && p < .005 ? '<0.01' : p.toFixed(2)
export const times_ = r => `${r >= 9.95 ? round(r) : r.toFixed(1)}×`

/** A value of attention: 0.123, 0.0123, 1.0e-6. */
export function number(v) {
  const a = abs(v)
  return v === 0 ? '0' : a >= .1 ? v.toFixed(3) : a >= 1e-4 ? v.toFixed(min(6, 2 - floor(Math.log10(a)))) : v.toExponential(1)
}

// ---------------------------------------------------------------- colours

/** The palette of tqn.attention.figure, as far as it is drawn; what is styled has it in common.css. */
export const PALETTE = {
  light: {right: '#0a6aa1', wrong: '#b34700', tones: ['#c4deeb', '#7db5d3', '#3a86b4', '#155a8a', '#082f54']},
  dark: {right: '#7cc4ea', wrong: '#ff9a52', tones: ['#1b4058', '#23658d', '#3f9aca', '#8bcdec', '#e6f6ff']},
}

/** Where on the tones attention is drawn, from 0 to 1, by how many times uniform it is: tqn.attention.figure.darkness. */
export const darkness = times => clamp(Math.log2(max(times, 1)) / 4, 0, 1)

/** '#0a6aa1' as [10, 106, 161]. */
export const rgb = hex => [1, 3, 5].map(i => parseInt(hex.slice(i, i + 2), 16))

/** 256 colours [r, g, b], faint to strong against the ground of a theme. */
export function ramp(theme) {
  const stops = PALETTE[theme].tones.map(rgb)
  return range(256, i => {
    const x = i / 255 * (stops.length - 1), k = min(stops.length - 2, floor(x))
    return stops[k].map((a, c) => round(a + (stops[k + 1][c] - a) * (x - k)))
  })
}

// ---------------------------------------------------------------- page

const SVG = ['svg', 'path', 'line', 'text', 'polyline', 'polygon'], MUTE = {'aria-hidden': 'true'}
const atEnd = (signal, f) => signal.addEventListener('abort', f), focusOn = e => e?.focus({preventScroll: true})
const flag = (e, state, on) => e.classList.toggle(`is-${state}`, on)
const put = (e, k, v) => e.setAttribute(k, v), write = (e, text) => { e.textContent = text }, box = e => e.getBoundingClientRect()

/** A maker of elements, h('tag.name.is-state', {attributes}, ...children): names begin with the prefix, text stays text, a label is said aloud. */
const elements = prefix => (what, props, ...kids) => {
  const [tag, ...names] = what.split('.'), svg = SVG.includes(tag)
  const e = svg ? document.createElementNS('http://www.w3.org/2000/svg', tag) : document.createElement(tag)
  if (props == null || typeof props !== 'object' || props instanceof Node || Array.isArray(props)) { kids.unshift(props); props = {} }
  if (names.length) put(e, 'class', names.map(n => n.startsWith('is-') ? n : prefix + n).join(' '))
  for (const [k, v] of Object.entries(props)) {
    if (v == null || v === false) continue
    if (k === 'text') write(e, v)
    else if (k in e && !svg && typeof v !== 'string') e[k] = v
    else put(e, k === 'label' ? 'aria-label' : k, v === true ? '' : v)
  }
  e.append(...kids.flat(3).filter(k => k != null && k !== false))
  return e
}
const shared = elements('tqn-'), message = text => shared('div.message', {role: 'alert', text})

/** The outermost element of a widget; its keys are its own, not JupyterLab's. */
const outermost = (name, props = {}) => shared(`div.${name}`, {'data-lm-suppress-shortcuts': 'true', ...props})

/** Follows the theme of the page, or the one asked for; calls back with whether it is dark. */
function themes(model, done, signal) {
  const media = matchMedia('(prefers-color-scheme: dark)'), {body, documentElement: html} = document
  const look = () => {
    const own = model.get('theme'), jp = body.dataset.jpThemeLight
    const code = /vscode-(dark|high-contrast|light)/.exec(body.className)?.[1]
    const said = /^(light|dark)$/.test(own) ? own : html.getAttribute('theme') ?? code ?? ''
    done(jp && said !== own ? jp !== 'true' : said ? said !== 'light' : media.matches)
  }
  const seen = new MutationObserver(look)
  for (const e of [body, html]) seen.observe(e, {attributes: true})
  media.addEventListener('change', look, {signal})
  hearing(model, signal)('change:theme', look)
  atEnd(signal, () => seen.disconnect())
  look()
}

/** Listens to news of the model (names parted by spaces) until the signal. */
const hearing = (model, signal) => (names, f) => {
  for (const n of names.split(' ')) { model.on(n, f); atEnd(signal, () => model.off(n, f)) }
}

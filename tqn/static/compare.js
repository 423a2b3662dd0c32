// Two sides of a comparison in lanes under each other, their difference, and a slider where there are many sides.
// Plain functions first (numbers in, numbers out; tested under node), then the parts that touch the page.

// ---------------------------------------------------------------- numbers

const RAMPS = {light: ['c4deeb', '7db5d3', '3a86b4', '155a8a', '082f54'], dark: ['1b4058', '23658d', '3f9aca', '8bcdec', 'e6f6ff']}
const SIGNS = {light: [[10, 106, 161], [179, 71, 0]], dark: [[124, 196, 234], [255, 154, 82]]}

/** Little-endian bytes as float32 in memory of their own. */
export function floats(v) {
  const b = !v ? new Uint8Array(0) : v instanceof ArrayBuffer ? new Uint8Array(v) : new Uint8Array(v.buffer, v.byteOffset, v.byteLength)
  if (b.length % 4) throw new Error(`expected whole float32 numbers, got ${b.length} bytes`)
  return new Float32Array(b.slice().buffer)
}

/** Maps (queries * m) of one side of mass (sides, layers, heads, queries, m); -1 is the mean over layers or heads. */
export function mapOf(mass, [S, L, H, Q, m], side, layer = -1, head = -1) {
  const out = new Float32Array(Q * m), ls = layer < 0 ? [...Array(L).keys()] : [layer], hs = head < 0 ? [...Array(H).keys()] : [head]
  for (const l of ls) for (const g of hs) {
    const at = ((side * L + l) * H + g) * Q * m
    for (let i = 0; i < Q * m; i++) out[i] += mass[at + i]
  }
  const k = ls.length * hs.length
  if (k > 1) for (let i = 0; i < Q * m; i++) out[i] /= k
  return out
}

/** What two maps have in common, from 0 to 1. */
export function overlap(a, b) {
  let s = 0
  for (let i = 0; i < a.length; i++) s += Math.min(a[i], b[i])
  return Math.min(1, s)
}

/** The value furthest from zero in each of at most px columns. */
export function pool(a, px) {
  const n = Math.min(a.length, px), out = new Float32Array(n)
  for (let x = 0; x < n; x++) {
    const to = Math.max(Math.floor(x * a.length / n) + 1, Math.ceil((x + 1) * a.length / n))
    for (let i = Math.floor(x * a.length / n); i < to; i++) if (Math.abs(a[i]) > Math.abs(out[x])) out[x] = a[i]
  }
  return out
}

export const peak = a => { let p = 0; for (const v of a) if (v > p) p = v; return p }

/** 256 colours [r, g, b] from faint to strong against the ground of a theme. */
export function ramp(theme) {
  const stops = RAMPS[theme].map(s => [0, 2, 4].map(i => parseInt(s.slice(i, i + 2), 16)))
  return Array.from({length: 256}, (_, i) => {
    const x = i / 255 * (stops.length - 1), k = Math.min(stops.length - 2, Math.floor(x))
    return stops[k].map((a, c) => Math.round(a + (stops[k + 1][c] - a) * (x - k)))
  })
}

/** Bars from the ground up as pixels (rows, a.length, 4). */
export function bars(a, top, rows, colours) {
  const m = a.length, out = new Uint8ClampedArray(4 * m * rows)
  for (let x = 0; x < m; x++) {
    const v = Math.min(1, a[x] / (top || 1)), high = v > 0 ? Math.max(1, Math.round(v * rows)) : 0, c = colours[Math.round(255 * v)]
    for (let y = rows - high; y < rows; y++) out.set([...c, 255], 4 * (y * m + x))
  }
  return out
}

/** Bars from the middle, up where positive and down where negative, as pixels (rows, d.length, 4). */
export function signs(d, top, rows, [more, less]) {
  const m = d.length, out = new Uint8ClampedArray(4 * m * rows), mid = rows >> 1
  for (let x = 0; x < m; x++) {
    const high = Math.min(mid, Math.round(Math.abs(d[x]) / (top || 1) * mid))
    for (let k = 0; k < high; k++) out.set([...(d[x] > 0 ? more : less), 255], 4 * ((d[x] > 0 ? mid - 1 - k : mid + k) * m + x))
  }
  return out
}

/** A picture of all sides of one query, one row each, each scaled to its own peak: pixels (sides, m, 4). */
export function history(maps, q, m, colours) {
  const out = new Uint8ClampedArray(4 * maps.length * m)
  maps.forEach((map, s) => {
    const a = map.subarray(q * m, (q + 1) * m), top = peak(a) || 1
    for (let x = 0; x < m; x++) out.set([...colours[Math.round(255 * a[x] / top)], 255], 4 * (s * m + x))
  })
  return out
}

/** The order of queries: as given, or the least overlap first. */
export const order = (overlaps, by) => overlaps.map((_, i) => i).sort((x, y) => by === 'difference' ? overlaps[x] - overlaps[y] || x - y : x - y)

/** What column x stands for: seconds, or a share of the video. */
export function when(x, m, span) {
  if (!span) return `${Math.round(100 * x / m)}–${Math.round(100 * (x + 1) / m)}% of the video`
  const at = i => (span[0] + (span[1] - span[0]) * i / m).toFixed(2)
  return `${at(x)}–${at(x + 1)} s`
}

export const prob = p => p == null ? '' : p >= .995 && p < 1 ? '>0.99' : p > 0 && p < .005 ? '<0.01' : p.toFixed(2)
export const number = v => v === 0 ? '0' : Math.abs(v) >= .0995 ? v.toFixed(2) : Math.abs(v) >= .001 ? v.toFixed(4) : v.toExponential(1)

/** What column x of a query says. */
export function reading(name, a, b, x, m, span) {
  const d = b[x] - a[x], times = v => `${(v * m).toFixed(v * m >= 9.95 ? 0 : 1)}×`
  return `${name}, ${when(x, m, span)}: A ${number(a[x])} (${times(a[x])} uniform), B ${number(b[x])} (${times(b[x])}), difference ${d < 0 ? '−' : '+'}${number(Math.abs(d))}`
}

// ---------------------------------------------------------------- page

/** An element with attributes and children; text stays text. */
function h(tag, props = {}, ...kids) {
  const e = document.createElement(tag)
  for (const [k, v] of Object.entries(props)) {
    if (v == null || v === false) continue
    if (k === 'text') e.textContent = v
    else e.setAttribute(k, v === true ? '' : v)
  }
  e.append(...kids.filter(k => k != null && k !== false))
  return e
}

/** Follows the page's theme, or the one asked for; calls back with 'light' or 'dark'. */
function themes(model, done, signal) {
  const media = matchMedia('(prefers-color-scheme: dark)')
  const look = () => {
    const own = model.get('theme'), body = document.body, jp = body.dataset.jpThemeLight, colab = document.documentElement.getAttribute('theme')
    done(own === 'light' || own === 'dark' ? own : jp ? (jp === 'true' ? 'light' : 'dark') : colab ? (colab === 'dark' ? 'dark' : 'light')
      : body.classList.contains('vscode-dark') || body.classList.contains('vscode-high-contrast') ? 'dark' : body.classList.contains('vscode-light') ? 'light'
      : media.matches ? 'dark' : 'light')
  }
  const seen = new MutationObserver(look)
  seen.observe(document.body, {attributes: true, attributeFilter: ['data-jp-theme-light', 'class']})
  seen.observe(document.documentElement, {attributes: true, attributeFilter: ['theme']})
  media.addEventListener('change', look, {signal})
  model.on('change:theme', look)
  signal.addEventListener('abort', () => { seen.disconnect(); model.off('change:theme', look) })
  look()
}

function paint(canvas, pixels, width, height) {
  if (canvas.width !== width) canvas.width = width
  if (canvas.height !== height) canvas.height = height
  canvas.getContext('2d').putImageData(new ImageData(pixels, width, height), 0, 0)
}

/** What a side answers to one question. */
function makeAnswer() {
  const mark = h('b'), said = h('span'), p = h('i'), second = h('div', {class: 'tqc-second'}), el = h('div', {class: 'tqc-answer'}, h('div', {class: 'tqc-said'}, mark, said, p), second)
  const fill = (list, truth) => {
    const [top, next] = list ?? [], right = truth == null || !top ? null : top[0] === truth
    el.className = `tqc-answer ${right === null ? '' : right ? 'is-right' : 'is-wrong'}`
    mark.textContent = right === null ? '' : right ? '✓' : '✗'
    said.textContent = said.title = top ? top[0] : ''
    p.textContent = top ? prob(top[1]) : ''
    second.textContent = right === false ? `truth: ${truth}` : next ? `${next[0]} ${prob(next[1])}` : ''
    return top ? `${top[0]} ${prob(top[1])}${right === null ? '' : right ? ', right' : `, wrong, truth ${truth}`}` : ''
  }
  return {el, fill}
}

/** One question: lanes A, B and B − A, beside them the answers; above, where there are many sides, all of them. */
function makeBlock(name, many) {
  const lane = (tag, cls) => { const canvas = h('canvas', {class: `tqc-lane ${cls}`}); return {canvas, row: h('div', {class: 'tqc-row'}, h('span', {class: 'tqc-tag', text: tag, 'aria-hidden': 'true'}), canvas)} }
  const a = lane('A', 'tqc-a'), b = lane('B', 'tqc-b'), d = lane('B−A', 'tqc-d'), all = many ? lane('all', 'tqc-all') : null
  const answers = [makeAnswer(), makeAnswer()], common = h('span', {class: 'tqc-common'}), cursor = h('div', {class: 'tqc-cursor', hidden: true})
  const marks = many ? ['A', 'B'].map(t => h('div', {class: 'tqc-rowmark', text: t})) : []
  if (all) all.row.append(...marks)
  const lanes = h('div', {class: 'tqc-lanes'}, all?.row, a.row, b.row, d.row, h('div', {class: 'tqc-over', 'aria-hidden': 'true'}, cursor))
  const said = h('div', {class: 'tqc-answers'}, answers[0].el, answers[1].el)
  const el = h('div', {class: 'tqc-block', role: 'img', tabindex: '0'}, h('div', {class: 'tqc-head'}, h('b', {text: name}), common), lanes, said)
  return {el, a, b, d, all, answers, common, cursor, marks, lanes}
}

function choice(label, options, signal, changed) {
  const select = h('select', {'aria-label': label}, ...options.map(([v, t]) => h('option', {value: v, text: t})))
  select.addEventListener('change', () => changed(select.value), {signal})
  return {box: h('label', {class: 'tqc-choice'}, h('span', {text: label}), select), select}
}

/** Which sides are on show: their names, or sliders and a play button where there are many. */
function makeSides(model, meta, put, signal) {
  const last = meta.sides.length - 1, box = h('div', {class: 'tqc-sides'}), names = {}, sliders = {}
  for (const t of ['a', 'b']) {
    names[t] = h('span', {class: 'tqc-sidename'})
    sliders[t] = meta.many ? h('input', {type: 'range', min: 0, max: last, step: 1, 'aria-label': `side ${t.toUpperCase()}`}) : null
    sliders[t]?.addEventListener('input', () => { stop(); put({[t]: +sliders[t].value}) }, {signal})
    box.append(h('label', {class: `tqc-side tqc-side-${t}`}, h('b', {text: t.toUpperCase()}), names[t], sliders[t]))
  }
  let timer = 0
  const play = h('button', {type: 'button', class: 'tqc-play', text: '▶', 'aria-label': 'Play B through all sides'})
  const stop = () => { clearInterval(timer); timer = 0; play.textContent = '▶'; play.setAttribute('aria-label', 'Play B through all sides') }
  play.addEventListener('click', () => {
    if (timer) return stop()
    if (model.get('b') >= last) put({b: 0})
    play.textContent = '❚❚'
    play.setAttribute('aria-label', 'Pause')
    timer = setInterval(() => { const b = model.get('b') + 1; if (b > last) return stop(); put({b}); if (b === last) stop() }, Math.max(80, Math.min(500, 6000 / last)))
  }, {signal})
  signal.addEventListener('abort', stop)
  if (meta.many) box.append(play)
  const show = () => { for (const t of ['a', 'b']) { const s = meta.sides[model.get(t)]; names[t].textContent = names[t].title = s?.name ?? ''; if (sliders[t]) { sliders[t].value = model.get(t); sliders[t].setAttribute('aria-valuetext', s?.name ?? '') } } }
  return {box, show}
}

function makeFilms(model, signal) {
  const urls = model.get('film').filter(f => f?.byteLength).map(f => URL.createObjectURL(new Blob([f], {type: 'image/jpeg'})))
  signal.addEventListener('abort', () => urls.forEach(u => URL.revokeObjectURL(u)))
  const tags = urls.length > 1 ? ['A', 'B'] : ['']
  return urls.length ? h('div', {class: 'tqc-films'}, ...urls.map((src, i) => h('div', {class: 'tqc-row'}, h('span', {class: 'tqc-tag', text: tags[i]}), h('img', {src, alt: 'film strip'})))) : null
}

function render({model, el}) {
  const stop = new AbortController(), {signal} = stop, root = h('div', {class: 'tqn-compare', 'data-lm-suppress-shortcuts': 'true'})  // keys are ours, not JupyterLab's
  el.append(root)
  const end = () => { stop.abort(); root.remove() }
  const trouble = text => root.replaceChildren(h('div', {class: 'tqc-message', role: 'alert', text}))
  let theme = 'light', draw = () => {}
  themes(model, t => { theme = t; root.classList.toggle('is-dark', t === 'dark'); draw() }, signal)
  const meta = model.get('meta'), heard = (names, f) => { for (const n of names) { model.on(n, f); signal.addEventListener('abort', () => model.off(n, f)) } }
  const fail = () => { if (model.get('error')) trouble(model.get('error')) }
  heard(['change:error'], fail)
  if (model.get('error')) { fail(); return end }
  if (!meta?.shape) { trouble('There is nothing to compare.'); return end }
  const mass = floats(model.get('mass')), [S, L, H, Q, m] = meta.shape
  if (mass.length !== S * L * H * Q * m) { trouble(`Expected ${S * L * H * Q * m} attention values, got ${mass.length}; make the comparison again.`); return end }
  const put = changes => { for (const [k, v] of Object.entries(changes)) model.set(k, v); model.save_changes() }
  const sides = makeSides(model, meta, put, signal), blocks = meta.names.map(n => makeBlock(n, meta.many))
  const each = n => [[-1, 'mean'], ...Array.from({length: n}, (_, i) => [i, String(i + 1)])]
  const picks = {
    layer: L > 1 ? choice('layer', each(L), signal, v => put({layer: +v})) : null, head: H > 1 ? choice('head', each(H), signal, v => put({head: +v})) : null,
    order: Q > 1 ? choice('order', [['given', 'as given'], ['difference', 'difference']], signal, v => put({order: v})) : null,
  }
  const tools = h('div', {class: 'tqc-tools'}, sides.box, h('div', {class: 'tqc-picks'}, ...Object.values(picks).map(p => p?.box)))
  const list = h('div', {class: 'tqc-blocks'}), read = h('div', {class: 'tqc-read', role: 'status'}), films = makeFilms(model, signal)
  const axis = h('div', {class: 'tqc-axis', 'aria-hidden': 'true'}, h('span', {text: meta.span ? `${meta.span[0].toFixed(1)} s` : 'start'}), h('span', {text: meta.same ? '' : 'each video from its start to its end'}), h('span', {text: meta.span ? `${meta.span[1].toFixed(1)} s` : 'end'}))
  const key = 'Both lanes have one scale. Difference: up and blue where B looks more, down and orange where A does. Overlap 1: the same map.'
  root.append(...[tools, films, list, axis, read, h('div', {class: 'tqc-key', text: key})].filter(Boolean))
  let maps = [], cached = '', cursor = [-1, -1], frame = 0
  const part = (map, q) => map.subarray(q * m, (q + 1) * m)
  const paintAll = () => {
    frame = 0
    const A = model.get('a'), B = model.get('b'), layer = model.get('layer'), head = model.get('head'), key_ = `${layer} ${head}`
    if (cached !== key_) { maps = Array.from({length: S}, (_, s) => mapOf(mass, meta.shape, s, layer, head)); cached = key_ }
    if (!maps[A] || !maps[B]) return
    const colours = ramp(theme), common = meta.names.map((_, q) => overlap(part(maps[A], q), part(maps[B], q)))
    sides.show()
    for (const [name, p] of Object.entries(picks)) if (p) p.select.value = String(model.get(name))
    const px = Math.max(40, Math.round((blocks[0].a.canvas.clientWidth || 600) * (devicePixelRatio || 1)))
    order(common, model.get('order')).forEach((q, i) => { if (list.children[i] !== blocks[q].el) list.insertBefore(blocks[q].el, list.children[i] ?? null) })
    blocks.forEach((k, q) => {
      const a = part(maps[A], q), b = part(maps[B], q), top = Math.max(peak(a), peak(b)), d = b.map((v, i) => v - a[i]), pa = pool(a, px), pb = pool(b, px), pd = pool(d, px)
      paint(k.a.canvas, bars(pa, top, 40, colours), pa.length, 40)
      paint(k.b.canvas, bars(pb, top, 40, colours), pb.length, 40)
      paint(k.d.canvas, signs(pd, top, 36, SIGNS[theme]), pd.length, 36)
      if (k.all) {
        paint(k.all.canvas, history(maps, q, m, colours), m, S)
        k.marks.forEach((mark, i) => { mark.style.top = `${(([A, B][i] + .5) / S) * 100}%` })
      }
      k.common.textContent = `overlap ${common[q].toFixed(2)}`
      const said = [A, B].map((s, i) => k.answers[i].fill(meta.sides[s].said[q], meta.sides[s].truth[q]))
      k.el.setAttribute('aria-label', `${meta.names[q]}: overlap ${common[q].toFixed(2)}; A, ${meta.sides[A].name}: ${said[0]}; B, ${meta.sides[B].name}: ${said[1]}. Left and right arrows read the values.`)
    })
    point(...cursor)
  }
  const point = (q, x) => {
    cursor = [q, x]
    for (const k of blocks) { k.cursor.hidden = x < 0; k.cursor.style.left = `${(x + .5) / m * 100}%` }
    const A = maps[model.get('a')], B = maps[model.get('b')]
    read.textContent = x < 0 || !A || !B ? '' : reading(meta.names[q], part(A, q), part(B, q), x, m, meta.span)
  }
  draw = () => { if (!frame) frame = requestAnimationFrame(paintAll) }
  blocks.forEach((k, q) => {
    k.lanes.addEventListener('pointermove', e => {
      const box = k.a.canvas.getBoundingClientRect(), x = Math.floor((e.clientX - box.left) / box.width * m)
      point(q, x >= 0 && x < m ? x : -1)
    }, {signal})
    k.lanes.addEventListener('pointerleave', () => point(-1, -1), {signal})
    k.all?.canvas.addEventListener('click', e => {
      const box = k.all.canvas.getBoundingClientRect()
      put({b: Math.max(0, Math.min(S - 1, Math.floor((e.clientY - box.top) / box.height * S)))})
    }, {signal})
    k.el.addEventListener('keydown', e => {
      const step = {ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -m, End: m}[e.key], turn = {ArrowUp: -1, ArrowDown: 1}[e.key]
      if (step !== undefined) point(q, Math.max(0, Math.min(m - 1, (cursor[0] === q && cursor[1] >= 0 ? cursor[1] : step > 0 ? -1 : m) + step)))
      else if (turn) [...list.children][[...list.children].indexOf(k.el) + turn]?.focus()
      else if (e.key === 'Escape') point(-1, -1)
      else return
      e.preventDefault(); e.stopPropagation()
    }, {signal})
  })
  heard(['change:a', 'change:b', 'change:layer', 'change:head', 'change:order'], () => draw())
  const seen = new ResizeObserver(() => draw())
  seen.observe(root)
  signal.addEventListener('abort', () => { seen.disconnect(); cancelAnimationFrame(frame) })
  list.append(...blocks.map(k => k.el))
  draw()
  return end
}

export default {render}

// Two sides of a comparison in lanes under each other, their difference, and a slider where there are many sides.
// Plain functions first (numbers in, numbers out; tested under node), then the parts that touch the page.

// ---------------------------------------------------------------- numbers

/** Maps (queries * m) of one side of attn (sides, layers, heads, queries, m); -1 is the mean over layers or heads. */
export function mapOf(attn, [, L, H, Q, m], side, layer = -1, head = -1) {
  const all = L * H * Q * m
  return combine(attn.subarray(side * all, (side + 1) * all), [L, H, Q, m], layer, head)
}

/** What two maps have in common, from 0 to 1; partA, partB: which part of its clip each column is. */
export function overlap(a, b, partA, partB) {
  let s = 0
  for (let i = 0; i < a.length; i++) s += min(a[i] * partA[i], b[i] * partB[i])
  return min(1, s)
}

export const peak = a => { let p = 0; for (const v of a) if (v > p) p = v; return p }

/** Bars from the middle, up where positive and down where negative, as pixels (rows, d.length, 4). */
export function signs(d, top, rows, [more, less]) {
  const m = d.length, out = new Uint8ClampedArray(4 * m * rows), mid = rows >> 1
  for (let x = 0; x < m; x++) {
    const high = min(mid, round(abs(d[x]) / (top || 1) * mid))
    for (let k = 0; k < high; k++) out.set([...(d[x] > 0 ? more : less), 255], 4 * ((d[x] > 0 ? mid - 1 - k : mid + k) * m + x))
  }
  return out
}

/** A picture of all sides in times uniform, one row each: pixels (sides, columns, 4). */
export function history(rows, colours) {
  const m = rows[0].length, out = new Uint8ClampedArray(4 * rows.length * m)
  rows.forEach((a, s) => { for (let x = 0; x < m; x++) out.set([...colours[round(255 * darkness(a[x] || 0))], 255], 4 * (s * m + x)) })
  return out
}

/** The order of queries: as given, or the least overlap first. */
export const order = (overlaps, by) => overlaps.map((_, i) => i).sort((x, y) => by === 'difference' ? overlaps[x] - overlaps[y] || x - y : x - y)

/** What column x stands for: seconds, or a share of the video. */
export function when(x, edges, seconds) {
  if (seconds) return `${edges[x].toFixed(2)}–${edges[x + 1].toFixed(2)} s`
  const [from, all] = [edges[0], edges.at(-1) - edges[0]], at = i => round(100 * (edges[i] - from) / all)
  return `${at(x)}–${at(x + 1)}% of the video`
}

/** What column x of a query says; n: how many clips each side has. Where these differ, the difference is in times uniform. */
export function reading(name, a, b, x, [nA, nB], edges, seconds) {
  const both = `A ${number(a[x])} (${times_(a[x] * nA)} uniform), B ${number(b[x])} (${times_(b[x] * nB)})`
  const d = nA === nB ? b[x] - a[x] : b[x] * nB - a[x] * nA, apart = `${d < 0 ? '−' : '+'}${nA === nB ? number(abs(d)) : times_(abs(d))}`
  return `${name}, ${when(x, edges, seconds)}: ${both}, difference ${apart}`
}

/** The middle of frame i on an axis, as a share of it; starts: where each frame begins on it. */
export function placeOf(starts, i, edges) {
  const from = edges[0], to = edges.at(-1)
  return clamp(((starts[i] + (starts[i + 1] ?? to)) / 2 - from) / (to - from), 0, 1)
}

// ---------------------------------------------------------------- page

const h = elements('tqc-')
const KEY = 'Both lanes have one scale, each with its own clips; colours say times uniform, darkest from 16 on. '
  + 'Difference: up and blue where B looks more, down and orange where A does. Overlap 1: the same map.'

/** What a side answers to one question. */
function makeAnswer() {
  const mark = h('b'), said = h('span'), p = h('i'), second = h('div.second'), el = h('div.answer', h('div.said', mark, said, p), second)
  const fill = (list, truth) => {
    const [top, next] = list ?? [], right = truth == null || !top ? null : top[0] === truth
    el.className = `tqc-answer ${right === null ? '' : right ? 'is-right' : 'is-wrong'}`
    write(mark, right === null ? '' : right ? '✓' : '✗')
    said.textContent = said.title = top ? top[0] : ''
    write(p, top ? prob(top[1]) : '')
    write(second, right === false ? `truth: ${truth}` : next ? `${next[0]} ${prob(next[1])}` : '')
    return top ? `${top[0]} ${prob(top[1])}${right === null ? '' : right ? ', right' : ', wrong, truth ' + truth}` : ''
  }
  return {el, fill}
}

/** One question: lanes A, B and B − A, beside them the answers; above, where there are many sides, all of them. */
function makeBlock(name, many) {
  const lane = (tag, kind) => { const canvas = h(`canvas.lane.${kind}`); return {canvas, row: h('div.row', h('span.tag', {text: tag, ...MUTE}), canvas)} }
  const a = lane('A', 'a'), b = lane('B', 'b'), d = lane('B−A', 'd'), all = many ? lane('all', 'all') : null
  const answers = [makeAnswer(), makeAnswer()], common = h('span.common'), cursor = h('div.cursor', {hidden: true})
  const marks = many ? ['A', 'B'].map(t => h('div.rowmark', t)) : []
  if (all) all.row.append(...marks)
  const lanes = h('div.lanes', all?.row, a.row, b.row, d.row, h('div.over', MUTE, cursor))
  const el = h('div.block', {role: 'img', tabindex: '0'}, h('div.head', h('b', name), common), lanes, h('div.answers', answers.map(o => o.el)))
  return {el, a, b, d, all, answers, common, cursor, marks, lanes}
}

/** Which sides are on show: their names, or sliders and a play button where there are many. */
function makeSides(model, meta, tell, signal) {
  const last = meta.sides.length - 1, box = h('div.sides'), names = {}, sliders = {}
  for (const t of ['a', 'b']) {
    names[t] = h('span.sidename')
    sliders[t] = meta.many ? h('input', {type: 'range', min: 0, max: last, step: 1, label: `side ${t.toUpperCase()}`}) : null
    sliders[t]?.addEventListener('input', () => { stop(); tell({[t]: +sliders[t].value}) }, {signal})
    box.append(h(`label.side.side-${t}`, h('b', t.toUpperCase()), names[t], sliders[t]))
  }
  let timer = 0
  const play = h('button.play', {type: 'button', text: '▶', label: 'Play B through all sides'})
  const stop = () => { clearInterval(timer); timer = 0; write(play, '▶'); put(play, 'aria-label', 'Play B through all sides') }
  const on = () => {
    const b = model.get('b') + 1
    if (b <= last) tell({b})
    if (b >= last) stop()
  }
  play.addEventListener('click', () => {
    if (timer) return stop()
    if (model.get('b') >= last) tell({b: 0})
    write(play, '❚❚'); put(play, 'aria-label', 'Pause')
    timer = setInterval(on, clamp(6000 / last, 80, 500))
  }, {signal})
  atEnd(signal, stop)
  if (meta.many) box.append(play)
  const show = () => {
    for (const t of ['a', 'b']) {
      const name = meta.sides[model.get(t)]?.name ?? ''
      names[t].textContent = names[t].title = name
      if (sliders[t]) { sliders[t].value = model.get(t); put(sliders[t], 'aria-valuetext', name) }
    }
  }
  return {box, show}
}

/** The film that all sides are of, with its button, its clock, and a step to either side. */
function makeStage(model, signal, moved) {
  const times = typed(model.get('times'), 'float64'), starts = typed(model.get('starts'), 'float64'), F = times.length
  const end = F > 1 ? 2 * times[F - 1] - times[F - 2] : times[0] + .04
  const status = h('div.status', {role: 'status'}), place = h('span.place')
  const go = h('button.play.is-wide', {type: 'button', label: 'Play through the film', title: 'Play (space)'}, '▶ Play')
  const film = makeFilm(model, {times, end, meta: {video: true}}, {
    frame: i => { write(place, `frame ${i} of ${F - 1}   ${clock(times[i] - times[0])}`); el.dataset.frame = i; moved(i) },
    shown: i => { el.dataset.shown = i },
    playing: p => { write(go, p ? '❚❚ Pause' : '▶ Play'); put(go, 'aria-label', p ? 'Pause the film' : 'Play through the film') },
    status: (state, text, share) => { el.dataset.video = state; write(status, text + (share ? `: ${round(share * 100)} %` : '')) },
  }, signal)
  const toggle = () => film.playing ? film.pause() : film.play()
  const step = k => { film.pause(); film.seek(film.frame + k) }
  const by = (d, text, name) => h('button.play', {type: 'button', text, label: name, onclick: () => step(d)})
  const screen = h('div.screen', {tabIndex: 0, role: 'group', label: 'Film: space plays, arrows step'}, film.video, status)
  const el = h('div.stage', screen, h('div.run', go, by(-1, '‹', 'one frame back'), by(1, '›', 'one frame on'), place))
  go.addEventListener('click', toggle)
  screen.addEventListener('click', toggle)
  hearing(model, signal)('msg:custom', (m, buffers) => { if (m.type === 'video') film.receive(m, buffers) })
  const KEYS = {' ': toggle, ArrowLeft: k => step(-k), ArrowRight: step, Home: () => step(-F), End: () => step(F)}
  const key = e => {
    if (!KEYS[e.key] || e.ctrlKey || e.metaKey || e.altKey || /^(INPUT|SELECT|BUTTON)$/.test(e.target.tagName)) return
    e.preventDefault(); e.stopPropagation()
    KEYS[e.key](e.shiftKey ? 10 : 1)
  }
  return {el, film, starts, key, frame: t => frameAt(starts, t)}
}

function makeFilms(model, signal) {
  const urls = model.get('film').filter(f => f?.byteLength).map(f => URL.createObjectURL(new Blob([f], {type: 'image/jpeg'})))
  atEnd(signal, () => urls.forEach(u => URL.revokeObjectURL(u)))
  const tags = urls.length > 1 ? ['A', 'B'] : ['']
  if (!urls.length) return null
  const {pictures = []} = model.get('meta')
  const alone = !model.get('meta').video                      // else the film itself is on show
  const rows = urls.map((src, i) => {
    const row = {img: new Image(), c: h('canvas.pictures', {role: 'img', label: 'film strip'}), now: h('div.cursor', {hidden: true})}
    row.img.addEventListener('load', () => paint())
    row.img.src = src
    return {...row, n: pictures[i] || 1, tag: tags[i]}
  })
  const big = rows.map(() => h('canvas.big', {hidden: true, ...MUTE}))
  const el = h('div.films', rows.map(r => h('div.row', h('span.tag', r.tag), h('div.strip', r.c, r.now))), alone ? h('div.bigs', big) : null)
  flag(el, 'alone', alone)
  /** Draw the strips: as many pictures as stand side by side in their own shape, each the nearest to its place. */
  const paint = () => rows.forEach(({img, c, n}) => {
    const k = devicePixelRatio || 1, W = round(c.clientWidth * k), H = round(c.clientHeight * k), w = img.naturalWidth / n, all = img.naturalHeight
    if (!W || !H || !all) return
    const g = c.getContext('2d'), m = max(1, round(W / (H * w / all)))
    c.width = W; c.height = H
    range(m, j => {
      const a = round(j * W / m), b = round((j + 1) * W / m), s = min(w / (b - a), all / H)      // pixels of a picture in one of the strip
      g.drawImage(img, min(n - 1, floor((j + .5) / m * n)) * w + (w - (b - a) * s) / 2, (all - H * s) / 2, (b - a) * s, H * s, a, 0, b - a, H)
    })
  })
  /** Show where a share of the film is; nothing below 0. */
  const show = x => rows.forEach(({img, now, n}, i) => {
    now.hidden = big[i].hidden = x < 0
    if (x < 0 || !img.naturalWidth) return
    now.style.left = `${100 * x}%`
    const w = img.naturalWidth / n, c = big[i]
    if (c.width !== round(w)) { c.width = round(w); c.height = img.naturalHeight }
    c.getContext('2d').drawImage(img, min(n - 1, floor(x * n)) * w, 0, w, img.naturalHeight, 0, 0, c.width, c.height)
  })
  return {el, show, paint}
}

function render({model, el}) {
  const stop = new AbortController(), {signal} = stop, root = outermost('compare'), heard = hearing(model, signal), tell = telling(model)
  el.append(root)
  const end = () => { stop.abort(); root.remove() }, trouble = text => root.replaceChildren(message(text))
  let theme = 'light', draw = () => {}
  themes(model, dark => { theme = dark ? 'dark' : 'light'; flag(root, 'dark', dark); draw() }, signal)
  const meta = model.get('meta'), fail = () => { if (model.get('error')) trouble(model.get('error')) }
  heard('change:error', fail)
  if (model.get('error')) { fail(); return end }
  if (!meta?.shape) { trouble('There is nothing to compare.'); return end }
  const attn = typed(model.get('attn'), 'float32'), parts = typed(model.get('part'), 'float32'), {edges, counts} = meta
  const [S, L, H, Q, m] = meta.shape, want = S * L * H * Q * m, all = edges[m] - edges[0]
  if (attn.length !== want) { trouble(`Expected ${want} attention values, got ${attn.length}; make the comparison again.`); return end }
  const sides = makeSides(model, meta, tell, signal), blocks = meta.names.map(n => makeBlock(n, meta.many))
  const pick = (name, options) => choice(name, options, signal, v => tell({[name]: name === 'order' ? v : +v}))
  const each = n => [[-1, 'mean'], ...range(n, i => [i, String(i)])]
  const picks = {
    layer: L > 1 && pick('layer', each(L)), head: H > 1 && pick('head', each(H)),
    order: Q > 1 && pick('order', [['given', 'as given'], ['difference', 'difference']]),
  }
  const films = makeFilms(model, signal), go = h('button.play.is-wide', {type: 'button', label: 'Play through the film'}, '▶ Play')
  let maps = [], cached = '', cursor = [-1, -1], frame = 0
  const stage = meta.video ? makeStage(model, signal, i => rest(i)) : null
  const list = h('div.blocks'), read = h('div.read', {role: 'status'})
  const [from, to] = meta.seconds ? [edges[0], edges[m]].map(t => `${t.toFixed(1)} s`) : ['start', 'end']
  const axis = h('div.axis', MUTE, h('span', from), h('span', meta.same ? '' : 'each video from its start to its end'), h('span', to))
  const below = [films?.el, list, axis, read, h('div.key', KEY + (stage ? ' Click a lane to go there; space plays.' : ''))].filter(Boolean)
  root.append(h('div.tools', sides.box, h('div.picks', stage ? null : go, Object.values(picks).map(p => p && p.box))),
    ...(stage ? [h('div.watch', stage.el, h('div.body', below))] : below))
  const part = (map, q) => map.subarray(q * m, (q + 1) * m), partOf = s => parts.subarray(s * m, (s + 1) * m)
  const paintBlock = (k, q, common, colours, px) => {
    const at = [model.get('a'), model.get('b')], [a, b] = at.map(s => part(maps[s], q).map(v => v * counts[s])), top = max(peak(a), peak(b))  // times uniform
    const pixels = o => pool(o, edges, edges[0], edges[m], px), [pa, pb, pd] = [a, b, b.map((v, i) => v - a[i])].map(pixels)
    paintPixels(k.a.canvas, bars(pa, top, 40, colours), pa.length, 40)
    paintPixels(k.b.canvas, bars(pb, top, 40, colours), pb.length, 40)
    paintPixels(k.d.canvas, signs(pd, top, 36, [rgb(PALETTE[theme].right), rgb(PALETTE[theme].wrong)]), pd.length, 36)
    if (k.all) {
      paintPixels(k.all.canvas, history(maps.map((o, s) => pixels(part(o, q).map(v => v * counts[s]))), colours), px, S)
      k.marks.forEach((mark, i) => { mark.style.top = `${((at[i] + .5) / S) * 100}%` })
    }
    const said = at.map((s, i) => `${'AB'[i]}, ${meta.sides[s].name}: ${k.answers[i].fill(meta.sides[s].said[q], meta.sides[s].truth[q])}`)
    write(k.common, `overlap ${common.toFixed(2)}`)
    put(k.el, 'aria-label', `${meta.names[q]}: overlap ${common.toFixed(2)}; ${said.join('; ')}. Left and right arrows read the values.`)
  }
  const paintAll = () => {
    frame = 0
    const A = model.get('a'), B = model.get('b'), layer = model.get('layer'), head = model.get('head'), now = `${layer} ${head}`
    if (cached !== now) { maps = range(S, s => mapOf(attn, meta.shape, s, layer, head)); cached = now }
    if (!maps[A] || !maps[B]) return
    const colours = ramp(theme), overlaps = meta.names.map((_, q) => overlap(part(maps[A], q), part(maps[B], q), partOf(A), partOf(B)))
    sides.show(); films?.paint()
    for (const [name, p] of Object.entries(picks)) if (p) p.select.value = String(model.get(name))
    const px = max(40, round((blocks[0].a.canvas.clientWidth || 600) * (devicePixelRatio || 1)))
    order(overlaps, model.get('order')).forEach((q, i) => { if (list.children[i] !== blocks[q].el) list.insertBefore(blocks[q].el, list.children[i] ?? null) })
    blocks.forEach((k, q) => paintBlock(k, q, overlaps[q], colours, px))
    point(...cursor)
  }
  /** Show a column of a question, and on what; at: the share of the axis where the cursor is, of the column's middle unless it is given. */
  const point = (q, x, at = x < 0 ? -1 : ((edges[x] + edges[x + 1]) / 2 - edges[0]) / all) => {
    cursor = [q, x, at]
    for (const k of blocks) { k.cursor.hidden = x < 0; k.cursor.style.left = `${max(0, at) * 100}%` }
    films?.show(at)
    const on = [model.get('a'), model.get('b')], [A, B] = on.map(s => maps[s])
    write(read, x < 0 || !A || !B ? '' : reading(meta.names[q], part(A, q), part(B, q), x, on.map(s => counts[s]), edges, meta.seconds))
  }
  const columnAt = x => x >= 0 && x < 1 ? min(m - 1, lastAtMost(edges, edges[0] + x * all)) : -1
  /** Where the cursor is when nothing else is pointed at: on the film's frame, or nowhere. */
  const rest = (i = stage?.film.frame) => {
    if (!stage) return point(-1, -1)
    const at = placeOf(stage.starts, i, edges)
    point(max(0, cursor[0]), columnAt(min(at, .999999)), at)
  }
  // a clock runs through the film, as long as it lasts: cursor, values and pictures follow
  let run = 0
  const lasts = 1000 * (meta.seconds ? all : 6)
  const halt = () => { cancelAnimationFrame(run); run = 0; write(go, '▶ Play'); put(go, 'aria-label', 'Play through the film') }
  go.addEventListener('click', () => {
    if (run) return halt()
    const q = max(0, cursor[0]), began = performance.now() - (cursor[1] > 0 && cursor[1] < m - 1 ? (edges[cursor[1]] - edges[0]) / all * lasts : 0)
    const tick = now => {
      const x = (now - began) / lasts
      if (x >= 1) { point(q, m - 1); return halt() }
      point(q, min(m - 1, lastAtMost(edges, edges[0] + max(0, x) * all)))
      run = requestAnimationFrame(tick)
    }
    write(go, '❚❚ Pause'); put(go, 'aria-label', 'Pause the film')
    run = requestAnimationFrame(tick)
  }, {signal})
  atEnd(signal, halt)
  draw = () => { if (!frame) frame = requestAnimationFrame(paintAll) }
  blocks.forEach((k, q) => {
    const share = (e, canvas) => { const b = box(canvas); return [(e.clientX - b.left) / b.width, (e.clientY - b.top) / b.height] }
    const playing = () => run || stage?.film.playing, goTo = t => { if (stage) { stage.film.pause(); stage.film.seek(stage.frame(t)) } }
    k.lanes.addEventListener('pointermove', e => playing() || point(q, columnAt(share(e, k.a.canvas)[0])), {signal})
    k.lanes.addEventListener('pointerleave', () => playing() || rest(), {signal})
    k.lanes.addEventListener('click', e => {
      const x = share(e, k.a.canvas)[0]
      if (stage && x >= 0 && x < 1) { cursor[0] = q; goTo(edges[0] + x * all) }
    }, {signal})
    k.all?.canvas.addEventListener('click', e => tell({b: clamp(floor(share(e, k.all.canvas)[1] * S), 0, S - 1)}), {signal})
    k.el.addEventListener('keydown', e => {
      const step = {ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -m, End: m}[e.key], turn = {ArrowUp: -1, ArrowDown: 1}[e.key]
      const here = cursor[0] === q && cursor[1] >= 0 ? cursor[1] : step > 0 ? -1 : m
      if (step !== undefined) {
        const x = clamp(here + step, 0, m - 1)
        goTo((edges[x] + edges[x + 1]) / 2)
        point(q, x)
      }
      else if (turn) [...list.children][[...list.children].indexOf(k.el) + turn]?.focus()
      else if (e.key === 'Escape') rest()
      else return
      e.preventDefault(); e.stopPropagation()
    }, {signal})
  })
  heard('change:a change:b change:layer change:head change:order', () => draw())
  const seen = new ResizeObserver(() => draw())
  seen.observe(root)
  atEnd(signal, () => { seen.disconnect(); cancelAnimationFrame(frame) })
  list.append(...blocks.map(k => k.el))
  if (stage) {
    root.addEventListener('keydown', stage.key, {signal})
    stage.film.load(); stage.film.seek(0)
  }
  draw()
  return end
}

export default {render}

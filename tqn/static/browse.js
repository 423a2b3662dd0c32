// The browser of a data set: a long list of videos, a page of it at a time.
// Plain functions first (numbers in, numbers out; tested under node), then the parts that touch the page.

// ---------------------------------------------------------------- numbers

export const SIZE = 48          // rows in a page
const KEPT = 60                 // pages that stay in memory
const TALLEST = 12_000_000      // pixels that every browser can scroll

/** A page as `pack_page` of tqn.browse wrote it: {view, start, total, all, ids, said, truth, p, loss, value, clips, right, strips}. */
export function unpack(sent) {
  const b = bytes(sent).buffer, n = new DataView(b).getUint32(0, true)
  const page = JSON.parse(new TextDecoder().decode(new Uint8Array(b, 4, n)))
  let at = 4 + n
  const take = (Kind, count) => { const a = new Kind(b, at, count); at += a.byteLength; return a }
  const c = page.ids.length, k = page.k
  for (const name of ['said', 'truth']) page[name] = take(Int32Array, c * k)
  for (const name of ['p', 'loss']) page[name] = take(Float32Array, c * k)
  page.value = take(Float32Array, c)
  page.clips = take(Int32Array, c)
  page.right = take(Int8Array, c * k)
  page.strips = take(Uint8Array, c * k * page.m)
  if (at !== b.byteLength) throw new Error(`expected a page of ${at} bytes, got ${b.byteLength}`)
  return page
}

/** How k cells stand in a row of this width: one line under a head, or wrapped, with their names inside. */
export function layout(width, k, pictured) {
  const narrow = width < 620, side = narrow ? 0 : pictured ? 226 : 168, room = max(80, width - side - (narrow ? 20 : 30))
  const most = max(1, floor((room + 10) / (narrow ? 132 : 112))), lines = ceil(k / most)
  const cols = ceil(k / lines), named = narrow || lines > 1
  return {narrow, side, lines, cols, named, rowH: (narrow ? 30 : 0) + lines * (named ? 66 : 52) + 12}
}

/** Which rows are on show, and where the first pixel of the list is: a list that is too tall scrolls faster than it moves. */
export function place(scroll, height, rowH, count, over = 3) {
  const total = count * rowH, tall = min(total, TALLEST)
  const offset = total <= tall ? scroll : scroll / max(1, tall - height) * (total - height)
  const first = max(0, floor(offset / rowH) - over), last = min(count, ceil((offset + height) / rowH) + over)
  return {tall, first, last, shift: scroll - offset}
}

/** The scroll position that shows row i, or the present one where it is on show already. */
export function reveal(i, scroll, height, rowH, count) {
  const {tall} = place(scroll, height, rowH, count), total = count * rowH, speed = total <= tall ? 1 : max(1, tall - height) / (total - height)
  const offset = scroll / speed, top = i * rowH
  if (top < offset) return top * speed
  return top + rowH > offset + height ? (top + rowH - height) * speed : scroll
}

/** Starts of the pages that hold rows [first, last). */
export function pagesFor(first, last, size = SIZE) {
  const out = []
  for (let s = floor(first / size) * size; s < last; s += size) out.push(s)
  return out
}

/** Where a key moves the active row; -1: nowhere. */
export function move(key, i, count, rows) {
  const to = {ArrowDown: i + 1, ArrowUp: i - 1, PageDown: i + rows, PageUp: i - rows, Home: 0, End: count - 1}[key]
  return to === undefined || !count ? -1 : min(count - 1, max(0, to))
}

export const value = (v, sort) => Number.isNaN(v) ? '–' : sort === 'clips' ? `${v} clips` : v.toFixed(2)

/** One row of a page as words: what is drawn, and what a screen reader says. */
export function rowOf(page, j, meta) {
  const k = page.k, cells = []
  for (let q = 0; q < k; q++) {
    const i = j * k + q, labels = meta.labels[meta.names[q]], right = page.right[i]
    cells.push({name: meta.names[q], said: labels[page.said[i]] ?? '', truth: labels[page.truth[i]] ?? '', p: page.p[i], right,
      strip: page.strips.subarray(i * page.m, (i + 1) * page.m)})
  }
  const known = cells.filter(c => c.right >= 0).length
  return {id: page.ids[j], value: page.value[j], clips: page.clips[j], cells, known, hits: cells.filter(c => c.right === 1).length}
}

/** A row in a sentence. */
export function sentence(row, cells = row.cells) {
  const one = c => `${c.name}: ${c.said}, ${prob(c.p)}${c.right === 1 ? ', right' : c.right === 0 ? ', wrong, truth ' + c.truth : ''}`
  return `${row.id}. ${cells.map(one).join('; ')}`
}

// ---------------------------------------------------------------- page

const MARKS = {1: ['✓', 'is-right', 'right'], 0: ['✗', 'is-wrong', 'wrong'], '-1': ['·', 'is-open', 'no truth']}
const NONE = 'No video is left. Take a filter away.', QUIET = 'The kernel does not answer: it is busy or has stopped. What is here stays here.'
const h = elements('tqb-')
let copies = 0

/** The pages of the present view: kept, asked for (two at a time, the newest wish first), and told when they come. */
function makePages(model, came, silent, signal) {
  let view = -1, kept = new Map(), flying = new Map(), wanted = [], timer = 0
  const pages = {}
  const late = () => { clearTimeout(timer); timer = flying.size ? setTimeout(() => silent(true), SLOW) : 0 }
  const ask = () => {
    for (const start of wanted) {
      if (flying.size >= 2) break
      if (kept.has(start) || flying.has(start)) continue
      flying.set(start, performance.now())
      model.send({type: 'page', view, start, count: SIZE})
    }
    late()
  }
  pages.begin = first => { view = first.view; kept = new Map([[0, first]]); flying.clear(); wanted = []; late() }
  pages.want = starts => { wanted = starts; ask() }
  pages.row = i => {
    const start = floor(i / SIZE) * SIZE, page = kept.get(start)
    return page && i - start < page.ids.length ? [page, i - start] : null
  }
  pages.receive = page => {
    silent(false)
    flying.delete(page.start)
    if (page.view === view) {
      kept.set(page.start, page)
      for (const s of kept.keys()) if (kept.size > KEPT && s && !wanted.includes(s)) kept.delete(s)
      came()
    }
    ask()
  }
  atEnd(signal, () => clearTimeout(timer))
  return pages
}

/** A picture of each film that is on show: asked for when the list rests, kept while there is room. */
function makePictures(model, came, signal) {
  const kept = new Map()
  let timer = 0
  atEnd(signal, () => { clearTimeout(timer); for (const p of kept.values()) p?.close?.() })
  return {
    get: id => kept.get(id),
    want(ids) {
      clearTimeout(timer)
      timer = setTimeout(() => {
        const open = ids.filter(id => id && !kept.has(id))
        for (const id of open) kept.set(id, null)
        for (const id of kept.keys()) if (kept.size > 400 && !ids.includes(id)) { kept.get(id)?.close?.(); kept.delete(id) }
        if (open.length) model.send({type: 'pictures', ids: open})
      }, 120)
    },
    async receive(m, buffer) {
      if (m.type === 'later') { for (const id of m.ids) kept.delete(id); return came() }
      const picture = buffer?.byteLength ? await createImageBitmap(new Blob([buffer])).catch(() => null) : null
      if (signal.aborted) return picture?.close()
      kept.set(m.id, picture); came()
    },
  }
}

/** Search, filters, order: each writes a trait and shows what the trait says. */
function makeTools(model, meta, signal) {
  const tell = telling(model), about = 'Search names and answers'
  const search = h('input.search', {type: 'search', placeholder: about, label: about, spellcheck: 'false'})
  let timer = 0, known = ''
  search.addEventListener('input', () => { clearTimeout(timer); timer = setTimeout(() => { known = search.value; tell({text: known}) }, 180) }, {signal})
  atEnd(signal, () => clearTimeout(timer))
  const answers = q => [['', 'any'], ...(q ? meta.labels[q] ?? [] : []).map(a => [a, a])]
  const made = {
    question: choice('question', [['', 'all'], ...meta.names.map(n => [n, n])], signal, v => tell({question: v, answer: '', truth: ''})),
    answer: choice('answered', answers(''), signal, v => tell({answer: v})),
    truth: choice('truth', answers(''), signal, v => tell({truth: v})),
    verdict: choice('verdict', meta.verdicts, signal, v => tell({verdict: v})),
    sort: choice('sorted by', meta.sorts, signal, v => tell({sort: v, descending: !['given', 'id', 'p'].includes(v)})),
  }
  const turn = h('button.turn', {type: 'button'}), clear = h('button.clear', {type: 'button', text: 'Show all'})
  turn.addEventListener('click', () => tell({descending: !model.get('descending')}), {signal})
  clear.addEventListener('click', () => { search.value = known = ''; tell({question: '', answer: '', truth: '', verdict: 'all', text: ''}) }, {signal})
  const show = () => {
    const q = model.get('question'), down = model.get('descending')
    for (const name of ['answer', 'truth']) { made[name].fill(answers(q)); made[name].select.disabled = !q }
    for (const name in made) made[name].select.value = model.get(name)
    if (model.get('text') !== known) search.value = known = model.get('text')  // said by the kernel, not typed here
    turn.textContent = down ? '↓' : '↑'
    turn.setAttribute('aria-label', down ? 'highest first; turn round' : 'lowest first; turn round')
    turn.title = down ? 'Highest first' : 'Lowest first'
    clear.hidden = !['question', 'answer', 'truth', 'text'].some(n => model.get(n)) && model.get('verdict') === 'all'
  }
  hearing(model, signal)([...Object.keys(made), 'text', 'descending'].map(n => `change:${n}`).join(' '), show)
  show()
  const filters = ['question', 'answer', 'truth', 'verdict'].map(n => made[n].box)
  return h('div.tools', {role: 'search'}, search, filters, h('div.order', made.sort.box, turn), clear)
}

/** A row that can be filled again and again. */
function makeRow(id) {
  const name = h('div.id'), facts = h('div.facts'), cells = h('div.cells'), made = [], film = h('canvas.film', {hidden: true, ...MUTE})
  const el = h('div.row', {role: 'option', id}, h('div.side', film, h('div.about', name, facts)), cells)
  const picture = p => {
    film.hidden = !p
    if (!p || film.now === p) return
    film.now = p; film.width = p.width; film.height = p.height
    film.getContext('2d').drawImage(p, 0, 0)
  }
  const grow = n => {
    while (made.length < n) {
      const c = {name: h('div.name'), canvas: h('canvas.strip', {width: 1, height: 16, ...MUTE}), mark: h('b'), said: h('span'), p: h('i')}
      c.truth = h('div.truth')
      c.el = h('div.cell', c.name, c.canvas, h('div.said', c.mark, c.said, c.p), c.truth)
      made.push(c)
    }
    if (cells.children.length !== n) cells.replaceChildren(...made.slice(0, n).map(c => c.el))
  }
  const fill = (row, shown, look) => {
    flag(el, 'waiting', !row)
    const list = row ? shown.map(q => row.cells[q]) : []
    grow(shown.length)
    name.textContent = row ? row.id : '…'
    name.title = row ? row.id : ''
    facts.textContent = row ? [look.fact(row), row.known ? `${row.hits} of ${row.known} right` : 'no truth'].filter(Boolean).join('  ·  ') : ''
    el.setAttribute('aria-label', row ? sentence(row, list) : 'loading')
    for (let i = 0; i < shown.length; i++) {
      const c = made[i], o = list[i]
      c.el.className = `tqb-cell ${o ? MARKS[o.right][1] : ''}`
      c.name.textContent = look.named ? o?.name ?? '' : ''
      c.mark.textContent = o ? MARKS[o.right][0] : ''
      c.said.textContent = c.said.title = o?.said ?? ''
      c.p.textContent = o ? prob(o.p) : ''
      c.truth.textContent = c.truth.title = o?.right === 0 ? `truth: ${o.truth}` : ''
      const m = max(1, o?.strip.length ?? 1)
      c.canvas.width = m
      if (o?.strip.length) paintPixels(c.canvas, bars(o.strip, 255, 16, look.ramp, sum(o.strip) / m), m, 16)
    }
  }
  return {el, fill, picture, index: -1}
}

/** The list itself: rows that are on show, and no others. */
function makeList(model, meta, on, signal) {
  const uid = `tqb${++copies}-${Math.random().toString(36).slice(2, 8)}`
  const head = h('div.head', MUTE), sizer = h('div.sizer', {role: 'presentation'})
  const box = h('div.list', {role: 'listbox', tabindex: '0', label: 'Videos; arrow keys move, Enter opens'}, sizer)
  const list = {head, box, active: 0, count: 0}, rows = new Map(), spare = []
  const pictures = list.pictures = makePictures(model, () => list.soon(), signal)
  let look = {...layout(900, 1), ramp: ramp('light')}, frame = 0, shown = [0], made = 0, pages = null
  const fact = row => {
    const sort = model.get('sort'), title = Object.fromEntries(meta.sorts)[sort]
    return ['given', 'id'].includes(sort) ? '' : sort === 'clips' ? value(row.value, sort) : `${title} ${value(row.value, sort)}`
  }
  const rowAt = i => {
    if (rows.has(i)) return rows.get(i)
    const row = spare.pop() ?? makeRow(`${uid}-${made++}`)
    rows.set(i, row)
    row.filled = row.el.hidden = false
    if (!row.el.isConnected) sizer.append(row.el)
    return row
  }
  const draw = () => {
    frame = 0
    const {tall, first, last, shift} = place(box.scrollTop, box.clientHeight, look.rowH, list.count)
    sizer.style.height = `${tall}px`
    for (const [i, row] of rows) if (i < first || i >= last) { rows.delete(i); row.el.hidden = true; spare.push(row) }
    for (let i = first; i < last; i++) {
      const row = rowAt(i), got = pages.row(i)
      row.el.style.transform = `translateY(${i * look.rowH + shift}px)`
      if (!row.filled) { row.fill(got && rowOf(...got, meta), shown, {...look, fact}); row.filled = !!got; row.id = got ? got[0].ids[got[1]] : null }
      if (meta.pictures) row.picture(pictures.get(row.id))
      row.el.setAttribute('aria-posinset', i + 1)
      row.el.setAttribute('aria-setsize', list.count)
      row.el.setAttribute('aria-selected', row.id !== null && row.id === model.get('selected'))
      flag(row.el, 'active', i === list.active)
    }
    const at = rows.get(list.active)
    if (at) box.setAttribute('aria-activedescendant', at.el.id); else box.removeAttribute('aria-activedescendant')
    pages.want(pagesFor(first, last).reverse())
    if (meta.pictures) pictures.want([...rows.values()].map(r => r.id))
    const seen = place(box.scrollTop, box.clientHeight, look.rowH, list.count, 0)
    on.range(seen.first, seen.last)
  }
  list.soon = () => { if (!frame) frame = requestAnimationFrame(draw) }
  list.again = () => { for (const row of rows.values()) row.filled = false; list.soon() }
  list.use = p => { pages = p }
  list.look = theme => { if (theme) look.ramp = ramp(theme); measure() }
  const measure = () => {
    const q = model.get('question')
    shown = q && meta.names.includes(q) ? [meta.names.indexOf(q)] : meta.names.map((_, i) => i)
    const was = place(box.scrollTop, box.clientHeight, look.rowH, list.count, 0).first
    const next = layout(box.clientWidth || 900, shown.length, meta.pictures), moved = next.rowH !== look.rowH
    look = {...look, ...next}
    for (const e of [box, head]) {
      for (const [k, v] of [['side', `${look.side}px`], ['cols', look.cols], ['row', `${look.rowH}px`]]) e.style.setProperty(`--${k}`, v)
      flag(e, 'narrow', look.narrow); flag(e, 'named', look.named); flag(e, 'two', look.cols === 2)
    }
    head.hidden = look.named
    head.style.setProperty('--bar', `${box.offsetWidth - box.clientWidth}px`)
    head.replaceChildren(h('span', 'video'), h('div.cells', shown.map(i => h('span', {text: meta.names[i], title: meta.names[i]}))))
    if (moved) { sizer.style.height = `${list.count * look.rowH}px`; box.scrollTop = was * look.rowH }
    list.again()
  }
  list.reset = count => { list.count = count; list.active = 0; box.scrollTop = 0; measure() }
  list.go = i => { list.active = i; box.scrollTop = reveal(i, box.scrollTop, box.clientHeight, look.rowH, list.count); list.soon() }
  const open = () => { const row = pages.row(list.active); if (row) on.open(row[0].ids[row[1]]) }
  box.addEventListener('scroll', list.soon, {signal, passive: true})
  box.addEventListener('keydown', e => {
    if (e.ctrlKey || e.metaKey || e.altKey) return
    if (e.key === 'Enter' || e.key === ' ') { e.preventDefault(); e.stopPropagation(); return open() }
    const to = move(e.key, list.active, list.count, max(1, floor(box.clientHeight / look.rowH) - 1))
    if (to >= 0) { e.preventDefault(); e.stopPropagation(); list.go(to) }
  }, {signal})
  sizer.addEventListener('click', e => {
    const el = e.target.closest('.tqb-row')
    for (const [i, row] of rows) if (row.el === el) { list.active = i; list.soon(); open() }
  }, {signal})
  const seen = new ResizeObserver(measure)
  seen.observe(box)
  atEnd(signal, () => { seen.disconnect(); cancelAnimationFrame(frame) })
  return list
}

function render({model, el}) {
  const stop = new AbortController(), {signal} = stop, root = outermost('browse'), heard = hearing(model, signal)
  el.append(root)
  const end = () => { stop.abort(); root.remove() }
  const dark = d => flag(root, 'dark', d)
  const build = () => {
    const error = model.get('error'), meta = model.get('meta'), able = !error && !!meta?.names
    if (!able) root.replaceChildren(message(error || 'There is nothing to show.'))
    return able
  }
  if (!build()) { heard('change:error', build); themes(model, dark, signal); return end }
  const meta = model.get('meta'), status = h('div.status', {role: 'status'}), note = message('')
  const none = h('div.none', {hidden: true, text: NONE}), where = h('span.place')
  let busy = '', quiet = false
  const say = () => {
    const {first, last, count} = list
    write(status, quiet ? QUIET : busy || `${thousands(count)}${count === meta.total ? '' : ' of ' + thousands(meta.total)} video${count === 1 ? '' : 's'}`)
    flag(status, 'late', quiet)
    write(where, count ? `${thousands(min(count, first + 1))}–${thousands(last)}` : '')
  }
  const list = makeList(model, meta, {
    range: (first, last) => { list.first = first; list.last = last; say() },
    open: id => { busy = `Opening ${id} …`; note.hidden = true; say(); model.send({type: 'open', id}) },
  }, signal)
  list.first = list.last = 0
  const pages = makePages(model, list.again, q => { if (q !== quiet) { quiet = q; say() } }, signal)
  list.use(pages)
  const fresh = () => {
    const first = unpack(model.get('head'))
    pages.begin(first)
    list.reset(first.total)
    none.hidden = first.total > 0
    say()
  }
  const noticed = () => { const text = model.get('notice'); write(note, text); note.hidden = !text; if (text) busy = ''; say() }
  const tall = () => { list.box.style.height = `${model.get('height')}px` }
  heard('msg:custom', (m, buffers) => {
    if (m.type === 'page' && buffers?.length) pages.receive(unpack(buffers[0]))
    if (m.type === 'picture' || m.type === 'later') list.pictures.receive(m, buffers?.[0])
    if (m.type === 'opened') { busy = ''; quiet = false; say(); list.soon() }
  })
  heard('change:head', fresh)
  heard('change:notice', noticed)
  heard('change:selected', list.soon)
  heard('change:sort', list.again)
  heard('change:height', tall)
  tall()
  root.append(makeTools(model, meta, signal), h('div.frame', list.head, list.box, none), h('div.foot', status, where), note, makePane(model, signal))
  themes(model, d => { dark(d); list.look(d ? 'dark' : 'light') }, signal)
  fresh()
  noticed()
  return end
}

export default {render}

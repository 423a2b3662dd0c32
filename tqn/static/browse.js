// The browser of a data set: a long list of videos, a page of it at a time.
// Plain functions first (numbers in, numbers out; tested under node), then the parts that touch the page.

// ---------------------------------------------------------------- numbers

export const SIZE = 48          // rows in a page
const KEPT = 60                 // pages that stay in memory
const SLOW = 5000               // milliseconds after which a kernel counts as silent
const TALLEST = 12_000_000      // pixels that every browser can scroll

/** Little-endian bytes, however they came, as a DataView's buffer of their own (aligned). */
const own = v => (v instanceof ArrayBuffer ? new Uint8Array(v) : new Uint8Array(v.buffer, v.byteOffset, v.byteLength)).slice().buffer

/** A page as `pack_page` of tqn.browse wrote it: {view, start, total, all, ids, said, truth, p, loss, value, clips, right, strips}. */
export function unpack(bytes) {
  const b = own(bytes), n = new DataView(b).getUint32(0, true)
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
export function layout(width, k) {
  const narrow = width < 620, side = narrow ? 0 : 168, room = Math.max(80, width - side - (narrow ? 20 : 30))
  const most = Math.max(1, Math.floor((room + 10) / (narrow ? 132 : 112))), lines = Math.ceil(k / most)
  const cols = Math.ceil(k / lines), named = narrow || lines > 1
  return {narrow, side, lines, cols, named, rowH: (narrow ? 30 : 0) + lines * (named ? 66 : 52) + 12}
}

/** Which rows are on show, and where the first pixel of the list is: a list that is too tall scrolls faster than it moves. */
export function place(scroll, height, rowH, count, over = 3) {
  const total = count * rowH, tall = Math.min(total, TALLEST)
  const offset = total <= tall ? scroll : scroll / Math.max(1, tall - height) * (total - height)
  const first = Math.max(0, Math.floor(offset / rowH) - over), last = Math.min(count, Math.ceil((offset + height) / rowH) + over)
  return {tall, first, last, shift: scroll - offset}
}

/** The scroll position that shows row i, or the present one where it is on show already. */
export function reveal(i, scroll, height, rowH, count) {
  const {tall} = place(scroll, height, rowH, count), total = count * rowH, speed = total <= tall ? 1 : Math.max(1, tall - height) / (total - height)
  const offset = scroll / speed, top = i * rowH
  if (top < offset) return top * speed
  return top + rowH > offset + height ? (top + rowH - height) * speed : scroll
}

/** Starts of the pages that hold rows [first, last). */
export function pagesFor(first, last, size = SIZE) {
  const out = []
  for (let s = Math.floor(first / size) * size; s < last; s += size) out.push(s)
  return out
}

/** Where a key moves the active row; -1: nowhere. */
export function move(key, i, count, rows) {
  const to = {ArrowDown: i + 1, ArrowUp: i - 1, PageDown: i + rows, PageUp: i - rows, Home: 0, End: count - 1}[key]
  return to === undefined || !count ? -1 : Math.min(count - 1, Math.max(0, to))
}

/** One strip as the pixels of a small picture, bars from the ground up: `ramp` has 256 colours [r, g, b]. */
export function bars(strip, rows, ramp) {
  const m = strip.length, out = new Uint8ClampedArray(4 * m * rows)
  for (let x = 0; x < m; x++) {
    const [r, g, b] = ramp[strip[x]], high = Math.max(strip[x] ? 1 : 0, Math.round(strip[x] / 255 * rows))
    for (let y = rows - high; y < rows; y++) out.set([r, g, b, 255], 4 * (y * m + x))
  }
  return out
}

const RAMPS = {light: ['c4deeb', '7db5d3', '3a86b4', '155a8a', '082f54'], dark: ['1b4058', '23658d', '3f9aca', '8bcdec', 'e6f6ff']}

/** 256 colours [r, g, b] from faint to strong against the ground of a theme. */
export function ramp(theme) {
  const stops = RAMPS[theme].map(s => [0, 2, 4].map(i => parseInt(s.slice(i, i + 2), 16)))
  return Array.from({length: 256}, (_, i) => {
    const x = i / 255 * (stops.length - 1), k = Math.min(stops.length - 2, Math.floor(x))
    return stops[k].map((a, c) => Math.round(a + (stops[k + 1][c] - a) * (x - k)))
  })
}

export const prob = p => p >= .995 && p < 1 ? '>0.99' : p > 0 && p < .005 ? '<0.01' : p.toFixed(2)
export const whole = n => String(n).replace(/\B(?=(\d{3})+$)/g, ',')
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
  const one = c => `${c.name}: ${c.said}, ${prob(c.p)}${c.right === 1 ? ', right' : c.right === 0 ? `, wrong, truth ${c.truth}` : ''}`
  return `${row.id}. ${cells.map(one).join('; ')}`
}

// ---------------------------------------------------------------- page

const MARKS = {1: ['✓', 'is-right', 'right'], 0: ['✗', 'is-wrong', 'wrong'], '-1': ['·', 'is-open', 'no truth']}
let copies = 0

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
    const start = Math.floor(i / SIZE) * SIZE, page = kept.get(start)
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
  signal.addEventListener('abort', () => clearTimeout(timer))
  return pages
}

/** A select with its label. */
function choice(label, options, signal, changed) {
  const select = h('select', {'aria-label': label}), box = h('label', {class: 'tqb-choice'}, h('span', {text: label}), select)
  const fill = list => select.replaceChildren(...list.map(([v, text]) => h('option', {value: v, text})))
  fill(options)
  select.addEventListener('change', () => changed(select.value), {signal})
  return {box, select, fill}
}

/** Search, filters, order: each writes a trait and shows what the trait says. */
function makeTools(model, meta, signal) {
  const put = changes => { for (const [k, v] of Object.entries(changes)) model.set(k, v); model.save_changes() }
  const search = h('input', {type: 'search', class: 'tqb-search', placeholder: 'Search names and answers', 'aria-label': 'Search names and answers', spellcheck: 'false'})
  let timer = 0, known = ''
  search.addEventListener('input', () => { clearTimeout(timer); timer = setTimeout(() => { known = search.value; put({text: known}) }, 180) }, {signal})
  signal.addEventListener('abort', () => clearTimeout(timer))
  const answers = q => [['', 'any'], ...(q ? meta.labels[q] ?? [] : []).map(a => [a, a])]
  const made = {
    question: choice('question', [['', 'all'], ...meta.names.map(n => [n, n])], signal, v => put({question: v, answer: '', truth: ''})),
    answer: choice('answered', answers(''), signal, v => put({answer: v})),
    truth: choice('truth', answers(''), signal, v => put({truth: v})),
    verdict: choice('verdict', meta.verdicts, signal, v => put({verdict: v})),
    sort: choice('sorted by', meta.sorts, signal, v => put({sort: v, descending: !['given', 'id', 'p'].includes(v)})),
  }
  const turn = h('button', {type: 'button', class: 'tqb-turn'})
  turn.addEventListener('click', () => put({descending: !model.get('descending')}), {signal})
  const clear = h('button', {type: 'button', class: 'tqb-clear', text: 'Show all'})
  clear.addEventListener('click', () => { search.value = known = ''; put({question: '', answer: '', truth: '', verdict: 'all', text: ''}) }, {signal})
  const show = () => {
    const q = model.get('question')
    for (const name of ['answer', 'truth']) { made[name].fill(answers(q)); made[name].select.disabled = !q }
    for (const name in made) made[name].select.value = model.get(name)
    if (model.get('text') !== known) search.value = known = model.get('text')  // said by the kernel, not typed here
    const down = model.get('descending')
    turn.textContent = down ? '↓' : '↑'
    turn.setAttribute('aria-label', down ? 'highest first; turn round' : 'lowest first; turn round')
    turn.title = down ? 'Highest first' : 'Lowest first'
    clear.hidden = !['question', 'answer', 'truth', 'text'].some(n => model.get(n)) && model.get('verdict') === 'all'
  }
  for (const name of [...Object.keys(made), 'text', 'descending']) model.on(`change:${name}`, show)
  signal.addEventListener('abort', () => { for (const name of [...Object.keys(made), 'text', 'descending']) model.off(`change:${name}`, show) })
  show()
  const order = h('div', {class: 'tqb-order'}, made.sort.box, turn)
  return h('div', {class: 'tqb-tools', role: 'search'}, search, made.question.box, made.answer.box, made.truth.box, made.verdict.box, order, clear)
}

/** A row that can be filled again and again. */
function makeRow(id) {
  const name = h('div', {class: 'tqb-id'}), facts = h('div', {class: 'tqb-facts'}), cells = h('div', {class: 'tqb-cells'})
  const el = h('div', {class: 'tqb-row', role: 'option', id}, h('div', {class: 'tqb-side'}, name, facts), cells), made = []
  const grow = n => {
    while (made.length < n) {
      const c = {el: h('div', {class: 'tqb-cell'}), name: h('div', {class: 'tqb-name'}), canvas: h('canvas', {class: 'tqb-strip', 'aria-hidden': 'true', width: 1, height: 16}),
        mark: h('b'), said: h('span'), p: h('i'), truth: h('div', {class: 'tqb-truth'})}
      c.el.append(c.name, c.canvas, h('div', {class: 'tqb-said'}, c.mark, c.said, c.p), c.truth)
      made.push(c)
    }
    if (cells.children.length !== n) cells.replaceChildren(...made.slice(0, n).map(c => c.el))
  }
  const fill = (row, shown, look) => {
    el.classList.toggle('is-waiting', !row)
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
      c.truth.textContent = o?.right === 0 ? `truth: ${o.truth}` : ''
      c.truth.title = c.truth.textContent
      const m = Math.max(1, o?.strip.length ?? 1)
      c.canvas.width = m
      if (o?.strip.length) c.canvas.getContext('2d').putImageData(new ImageData(bars(o.strip, 16, look.ramp), m, 16), 0, 0)
    }
  }
  return {el, fill, index: -1}
}

/** The list itself: rows that are on show, and no others. */
function makeList(model, meta, on, signal) {
  const uid = `tqb${++copies}-${Math.random().toString(36).slice(2, 8)}`
  const head = h('div', {class: 'tqb-head', 'aria-hidden': 'true'}), sizer = h('div', {class: 'tqb-sizer', role: 'presentation'})
  const box = h('div', {class: 'tqb-list', role: 'listbox', tabindex: '0', 'aria-label': 'Videos; arrow keys move, Enter opens'}, sizer)
  const list = {head, box, active: 0, count: 0}, rows = new Map(), spare = []
  let look = {...layout(900, 1), ramp: ramp('light')}, frame = 0, shown = [0], made = 0, pages = null
  const fact = row => {
    const sort = model.get('sort'), title = Object.fromEntries(meta.sorts)[sort]
    return ['given', 'id'].includes(sort) ? '' : sort === 'clips' ? value(row.value, sort) : `${title} ${value(row.value, sort)}`
  }
  const draw = () => {
    frame = 0
    const {tall, first, last, shift} = place(box.scrollTop, box.clientHeight, look.rowH, list.count)
    sizer.style.height = `${tall}px`
    for (const [i, row] of rows) if (i < first || i >= last) { rows.delete(i); row.el.hidden = true; spare.push(row) }
    for (let i = first; i < last; i++) {
      let row = rows.get(i), fresh = !row
      if (fresh) { row = spare.pop() ?? makeRow(`${uid}-${made++}`); rows.set(i, row); row.filled = false; row.el.hidden = false; if (!row.el.isConnected) sizer.append(row.el) }
      row.el.style.transform = `translateY(${i * look.rowH + shift}px)`
      const got = pages.row(i)
      if (fresh || !row.filled) { row.fill(got && rowOf(...got, meta), shown, {...look, fact}); row.filled = !!got; row.id = got ? got[0].ids[got[1]] : null }
      row.el.setAttribute('aria-posinset', i + 1)
      row.el.setAttribute('aria-setsize', list.count)
      row.el.setAttribute('aria-selected', row.id !== null && row.id === model.get('selected'))
      row.el.classList.toggle('is-active', i === list.active)
    }
    const at = rows.get(list.active)
    if (at) box.setAttribute('aria-activedescendant', at.el.id); else box.removeAttribute('aria-activedescendant')
    pages.want(pagesFor(first, last).reverse())
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
    const next = layout(box.clientWidth || 900, shown.length), moved = next.rowH !== look.rowH
    look = {...look, ...next}
    for (const e of [box, head]) {
      e.style.setProperty('--side', `${look.side}px`); e.style.setProperty('--cols', look.cols); e.style.setProperty('--row', `${look.rowH}px`)
      e.classList.toggle('is-narrow', look.narrow); e.classList.toggle('is-named', look.named)
    }
    head.hidden = look.named
    head.style.setProperty('--bar', `${box.offsetWidth - box.clientWidth}px`)
    head.replaceChildren(h('span', {text: 'video'}), h('div', {class: 'tqb-cells'}, ...shown.map(i => h('span', {text: meta.names[i], title: meta.names[i]}))))
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
    const to = move(e.key, list.active, list.count, Math.max(1, Math.floor(box.clientHeight / look.rowH) - 1))
    if (to >= 0) { e.preventDefault(); e.stopPropagation(); list.go(to) }
  }, {signal})
  sizer.addEventListener('click', e => {
    const el = e.target.closest('.tqb-row')
    for (const [i, row] of rows) if (row.el === el) { list.active = i; list.soon(); open() }
  }, {signal})
  const seen = new ResizeObserver(measure)
  seen.observe(box)
  signal.addEventListener('abort', () => { seen.disconnect(); cancelAnimationFrame(frame) })
  return list
}

/** Under the list: the viewer of the video that was opened, whatever widget that is. */
function makePane(model, signal) {
  const title = h('span', {class: 'tqb-opened'}), close = h('button', {type: 'button', class: 'tqb-close', text: '×', 'aria-label': 'Close the viewer'}), host = h('div')
  const pane = h('section', {class: 'tqb-pane', 'aria-label': 'Viewer', hidden: true}, h('div', {class: 'tqb-panehead'}, title, close), host)
  let view = null, turn = 0
  const empty = () => { view?.remove?.(); view = null; host.replaceChildren() }
  const mount = async () => {
    const mine = ++turn, ref = model.get('viewer')
    empty()
    pane.hidden = !ref
    if (!ref) return
    title.textContent = model.get('selected')
    try {
      const child = await model.widget_manager.get_model(String(ref).replace('IPY_MODEL_', ''))
      const made = await model.widget_manager.create_view(child)
      if (mine !== turn || signal.aborted) return made.remove?.()
      view = made
      host.replaceChildren(made.el)
      pane.scrollIntoView?.({block: 'nearest'})
    } catch (e) { host.replaceChildren(h('div', {class: 'tqb-message', role: 'alert', text: `The viewer could not be shown: ${e.message}`})) }
  }
  close.addEventListener('click', () => model.send({type: 'close'}), {signal})
  model.on('change:viewer', mount)
  signal.addEventListener('abort', () => { model.off('change:viewer', mount); turn++; empty() })
  mount()
  return pane
}

function render({model, el}) {
  const stop = new AbortController(), {signal} = stop, root = h('div', {class: 'tqn-browse', 'data-lm-suppress-shortcuts': 'true'})  // keys are ours, not JupyterLab's
  el.append(root)
  const heard = (name, f) => { model.on(name, f); signal.addEventListener('abort', () => model.off(name, f)) }
  const build = () => {
    const error = model.get('error'), meta = model.get('meta')
    if (error || !meta?.names) { root.replaceChildren(h('div', {class: 'tqb-message', role: 'alert', text: error || 'There is nothing to show.'})); return false }
    return true
  }
  const end = () => { stop.abort(); root.remove() }
  if (!build()) { heard('change:error', build); themes(model, t => root.classList.toggle('is-dark', t === 'dark'), signal); return end }
  const meta = model.get('meta'), status = h('div', {class: 'tqb-status', role: 'status'}), note = h('div', {class: 'tqb-message', role: 'alert', hidden: true})
  const none = h('div', {class: 'tqb-none', hidden: true, text: 'No video is left. Take a filter away.'}), place_ = h('span', {class: 'tqb-place'})
  let busy = '', quiet = false
  const say = () => {
    const first = list.first
    status.textContent = quiet ? 'The kernel does not answer: it is busy or has stopped. What is here stays here.' : busy || `${whole(list.count)}${list.count === meta.total ? '' : ` of ${whole(meta.total)}`} video${list.count === 1 ? '' : 's'}`
    status.classList.toggle('is-late', quiet)
    place_.textContent = list.count ? `${whole(Math.min(list.count, first + 1))}–${whole(list.last)}` : ''
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
  const noticed = () => { const text = model.get('notice'); note.textContent = text; note.hidden = !text; if (text) busy = ''; say() }
  heard('msg:custom', (m, buffers) => {
    if (m.type === 'page' && buffers?.length) pages.receive(unpack(buffers[0]))
    if (m.type === 'opened') { busy = ''; quiet = false; say(); list.soon() }
  })
  heard('change:head', fresh)
  heard('change:notice', noticed)
  heard('change:selected', list.soon)
  heard('change:sort', list.again)
  heard('change:height', () => { list.box.style.height = `${model.get('height')}px` })
  list.box.style.height = `${model.get('height')}px`
  root.append(makeTools(model, meta, signal), h('div', {class: 'tqb-frame'}, list.head, list.box, none), h('div', {class: 'tqb-foot'}, status, place_), note, makePane(model, signal))
  themes(model, t => { root.classList.toggle('is-dark', t === 'dark'); list.look(t) }, signal)
  fresh()
  noticed()
  return end
}

export default {render}

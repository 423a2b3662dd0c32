// Who is taken for whom: a heat map whose cells are buttons, and the videos behind the chosen one.
// Plain functions first (numbers in, numbers out; tested under node), then the parts that touch the page.

// ---------------------------------------------------------------- numbers

/** The share of its row of every cell; 0 where a row is empty. */
export function shares(counts, rows, cols) {
  const out = new Float32Array(rows * cols)
  for (let i = 0; i < rows; i++) {
    let sum = 0
    for (let j = 0; j < cols; j++) sum += counts[i * cols + j]
    if (sum) for (let j = 0; j < cols; j++) out[i * cols + j] = counts[i * cols + j] / sum
  }
  return out
}

/** The cells off the diagonal with most videos: [[row, column, count]], most first. For sets: missed and false alarms. */
export function worst(counts, rows, cols, square, most = 5) {
  const out = []
  for (let i = 0; i < rows; i++) for (let j = 0; j < cols; j++) {
    const n = counts[i * cols + j]
    if (n && (square ? i !== j : j === 1 || j === 2)) out.push([i, j, n])
  }
  return out.sort((a, b) => b[2] - a[2] || a[0] - b[0] || a[1] - b[1]).slice(0, most)
}

/** Pixels a cell, so that the map fits where it can. */
export const cellSize = (width, labels, cols) => max(15, min(cols <= 8 ? 58 : 44, floor((width - labels) / max(1, cols))))

/** Where an arrow key goes from [i, j]; null for other keys. */
export function step(key, [i, j], rows, cols) {
  const d = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], Home: [0, -cols], End: [0, cols],
    PageUp: [-rows, 0], PageDown: [rows, 0]}[key]
  return d ? [clamp(i + d[0], 0, rows - 1), clamp(j + d[1], 0, cols - 1)] : null
}

/** Whether dark text is readable on a colour #rrggbb. */
export function dark(hex) {
  const [r, g, b] = rgb(hex).map(c => c / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
  return .2126 * r + .7152 * g + .0722 * b > .22
}

/** One cell in words. */
export function sentence(grid, i, j, n, share) {
  const s = n === 1 ? '1 video' : `${n} videos`, part = `${round(100 * share)}%`
  return grid.square ? `truth ${grid.rows[i]}, answered ${grid.cols[j]}: ${s}, ${part} of ${grid.rows[i]}` : `${grid.rows[i]}, ${grid.cols[j]}: ${s}, ${part}`
}

// ---------------------------------------------------------------- page

const h = elements('tqf-')
const MAP = 'Confusions: rows are true answers, columns the given ones; arrow keys move, Enter lists the videos'

/** The heat map. Calls back with the cell that was chosen. */
function makeMap(choose, signal) {
  const el = h('div.map', {role: 'grid', label: MAP})
  let grid = null, counts = [], part = [], cells = [], at = [0, 0], colours = [], chosen = []
  const C = () => grid.cols.length, R = () => grid.rows.length
  const colour = () => cells.forEach((c, k) => {
    const i = floor(k / C()), j = k % C(), tones = colours[(grid.square ? i === j : j === 0 || j === 3) ? 0 : 1]
    const hex = tones[round(part[k] * (tones.length - 1))]
    c.style.background = hex
    c.style.color = dark(hex) ? '#10161c' : '#ffffff'
  })
  const mark = () => cells.forEach((c, k) => {
    const mine = chosen.length && k === chosen[0] * C() + chosen[1]
    c.setAttribute('aria-selected', !!mine)
    c.tabIndex = k === at[0] * C() + at[1] ? 0 : -1
  })
  const map = {el}
  map.measure = width => {
    if (!grid || !width) return
    const long = names => max(...names.map(n => n.length)), labels = min(150, 18 + 6.6 * long(grid.rows)), size = cellSize(width, labels, C())
    for (const [k, v] of [['cell', size], ['labels', labels], ['foot', min(110, 14 + 4.8 * long(grid.cols))]]) el.style.setProperty(`--${k}`, `${v}px`)
    flag(el, 'small', size < 24)
  }
  const makeCell = (i, j) => {
    const n = counts[i * C() + j], text = sentence(grid, i, j, n, part[i * C() + j])
    const states = `${grid.square && i === j ? '.is-same' : ''}${n ? '' : '.is-none'}`
    const cell = h(`div.cell${states}`, {role: 'gridcell', tabindex: '-1', label: text, title: text}, h('span', {text: n || ''}))
    cells.push(cell)
    return cell
  }
  map.fill = (g, c) => {
    grid = g; counts = c; part = shares(c, R(), C()); at = [0, 0]; cells = []
    el.style.setProperty('--n', C())
    const head = {class: 'tqf-label', role: 'rowheader'}
    const rows = grid.rows.map((name, i) => h('div.row', {role: 'row'}, h('span', {...head, text: name, title: name}), grid.cols.map((_, j) => makeCell(i, j))))
    const foot = grid.cols.map(name => h('span.col', {role: 'columnheader'}, h('span', {text: name, title: name})))
    put(el, 'aria-rowcount', R()); put(el, 'aria-colcount', C())
    el.replaceChildren(...rows, h('div.row.foot', {role: 'row'}, h('span'), foot))
    colour(); mark()
  }
  map.colours = c => { colours = c; colour() }
  map.choose = cell => { chosen = cell; if (cell.length === 2) at = [...cell]; if (grid) mark() }
  const pick = k => { at = [floor(k / C()), k % C()]; choose(at) }
  el.addEventListener('click', e => { const k = cells.indexOf(e.target.closest('.tqf-cell')); if (k >= 0) pick(k) }, {signal})
  el.addEventListener('keydown', e => {
    const k = cells.indexOf(e.target.closest('.tqf-cell'))
    if (k < 0 || e.ctrlKey || e.metaKey || e.altKey) return
    if (e.key === 'Enter' || e.key === ' ') { e.preventDefault(); e.stopPropagation(); return pick(k) }
    const to = step(e.key, [floor(k / C()), k % C()], R(), C())
    if (!to) return
    e.preventDefault(); e.stopPropagation()
    at = to
    mark()
    cells[to[0] * C() + to[1]].focus()
  }, {signal})
  return map
}

/** The videos of the chosen cell. */
function makeVideos(model, tell, open, signal) {
  const title = h('div.title', {role: 'status'}), list = h('ul.videos'), more = h('button.more', {type: 'button', hidden: true})
  more.addEventListener('click', () => tell({limit: min(5000, model.get('limit') * 4)}), {signal})
  list.addEventListener('click', e => { const b = e.target.closest('button'); if (b) open(b.firstChild.textContent) }, {signal})
  list.addEventListener('keydown', e => {
    const all = [...list.querySelectorAll('button')], i = all.indexOf(e.target), to = {ArrowDown: i + 1, ArrowUp: i - 1, Home: 0, End: all.length - 1}[e.key]
    if (to === undefined) return
    e.preventDefault(); e.stopPropagation()
    all[clamp(to, 0, all.length - 1)]?.focus()
  }, {signal})
  const heading = (grid, [i, j]) => !grid.square ? `${grid.rows[i]}, ${grid.cols[j]}` : `${grid.rows[i]}, answered ${i === j ? 'right' : grid.cols[j]}`
  const show = () => {
    const {cell = [], videos = [], total = 0} = model.get('found') ?? {}
    write(title, cell.length ? `${heading(model.get('grid'), cell)}: ${total}` : 'Choose a cell to see its videos.')
    list.replaceChildren(...videos.map(([id, p, loss]) => h('li', h('button.video', {type: 'button', 'aria-current': String(id === model.get('selected'))},
      h('span', {text: id, title: id}), h('i', {text: prob(p), title: 'probability of the answer'}), h('i', loss === null ? '' : `loss ${loss.toFixed(2)}`)))))
    more.hidden = videos.length >= total
    write(more, `Show more (${videos.length} of ${total})`)
  }
  return {el: h('div.side', title, list, more), show}
}

function render({model, el}) {
  const stop = new AbortController(), {signal} = stop, root = outermost('confusions'), heard = hearing(model, signal), tell = telling(model)
  el.append(root)
  const end = () => { stop.abort(); root.remove() }
  let theme = 'light', recolour = () => {}
  themes(model, dark => { theme = dark ? 'dark' : 'light'; flag(root, 'dark', dark); recolour() }, signal)
  const fail = () => { if (model.get('error')) root.replaceChildren(message(model.get('error'))) }
  heard('change:error', fail)
  const meta = model.get('meta')
  if (model.get('error')) { fail(); return end }
  if (!meta?.names) { root.replaceChildren(message('There is nothing to show.')); return end }
  const facts = h('span.facts'), note = message(''), wait = h('div.wait', {role: 'status'})
  const open = id => { write(wait, `Opening ${id} …`); note.hidden = true; model.send({type: 'open', id}) }
  const map = makeMap(cell => tell({cell: [...cell]}), signal), videos = makeVideos(model, tell, open, signal)
  const asked = choice('question', meta.names.map(n => [n, n]), signal, question => tell({question})), pairs = h('div.pairs')
  const body = h('div.body', h('div.left', h('div.scroll', map.el), pairs), videos.el)
  root.append(h('div.tools', asked.box, facts), body, wait, note, makePane(model, signal))
  const size = () => {                                // as in the style: the videos next to it, or below
    const w = body.clientWidth
    map.measure(w > 619 ? min(.66 * w, w - 268) - 4 : w - 4)
  }
  const fill = () => {
    const grid = model.get('grid'), counts = typed(model.get('counts'), 'int32'), R = grid?.rows?.length, C = grid?.cols?.length
    if (!R || counts.length !== R * C) return
    const all = sum(counts), right = counts.filter((_, k) => { const i = floor(k / C), j = k % C; return grid.square ? i === j : j === 0 || j === 3 })
    const share = all ? floor(100 * sum(right) / all) : 0, left = grid.left_out ? ` ${grid.left_out} answers with the fewest confusions are left out.` : ''
    const rows = grid.square ? 'Rows: truth; columns: answered. Blue: right; orange: confused.' : 'Blue: right; orange: wrong.'
    write(facts, `${thousands(grid.n)} videos with a truth, ${share}% ${grid.left_out ? 'of those shown ' : ''}right. ${rows}${left}`)
    map.fill(grid, counts)
    map.choose(model.get('cell'))
    const most = worst(counts, R, C, grid.square)
    pairs.replaceChildren(...(most.length ? [h('span', 'most confused')] : []), ...most.map(([i, j, n]) =>
      h('button.pair', {type: 'button', 'data-cell': `${i} ${j}`}, h('span', `${grid.rows[i]}${grid.square ? ' →' : ':'} ${grid.cols[j]}`), h('b', {text: n}))))
    size()
  }
  pairs.addEventListener('click', e => { const b = e.target.closest('button'); if (b) tell({cell: b.dataset.cell.split(' ').map(Number)}) }, {signal})
  recolour = () => map.colours(meta.colours[theme])
  const question = () => { asked.select.value = model.get('question') }
  const noticed = () => { const text = model.get('notice'); write(note, text); note.hidden = !text; if (text) write(wait, '') }
  heard('change:grid change:counts', fill)
  heard('change:question', question)
  heard('change:cell', () => map.choose(model.get('cell')))
  heard('change:found change:selected', videos.show)
  heard('change:notice', noticed)
  heard('msg:custom', m => { if (m.type === 'opened') write(wait, '') })
  const seen = new ResizeObserver(size)
  seen.observe(root)
  atEnd(signal, () => seen.disconnect())
  recolour(); question(); fill(); videos.show(); noticed()
  return end
}

export default {render}

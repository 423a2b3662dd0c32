// Who is taken for whom: a heat map whose cells are buttons, and the videos behind the chosen one.
// Plain functions first (numbers in, numbers out; tested under node), then the parts that touch the page.

// ---------------------------------------------------------------- numbers

/** Little-endian bytes as int32 in memory of their own. */
export function ints(v) {
  const b = !v ? new Uint8Array(0) : v instanceof ArrayBuffer ? new Uint8Array(v) : new Uint8Array(v.buffer, v.byteOffset, v.byteLength)
  if (b.length % 4) throw new Error(`expected whole int32 numbers, got ${b.length} bytes`)
  return new Int32Array(b.slice().buffer)
}

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
export const cellSize = (width, labels, cols) => Math.max(15, Math.min(cols <= 8 ? 58 : 44, Math.floor((width - labels) / Math.max(1, cols))))

/** Where an arrow key goes from [i, j]; null for other keys. */
export function step(key, [i, j], rows, cols) {
  const d = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], Home: [0, -cols], End: [0, cols], PageUp: [-rows, 0], PageDown: [rows, 0]}[key]
  return d ? [Math.max(0, Math.min(rows - 1, i + d[0])), Math.max(0, Math.min(cols - 1, j + d[1]))] : null
}

/** Whether dark text is readable on a colour #rrggbb. */
export function dark(hex) {
  const [r, g, b] = [1, 3, 5].map(i => parseInt(hex.slice(i, i + 2), 16) / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
  return .2126 * r + .7152 * g + .0722 * b > .22
}

/** One cell in words. */
export function sentence(grid, i, j, n, share) {
  const s = n === 1 ? '1 video' : `${n} videos`, part = `${Math.round(100 * share)}%`
  return grid.square ? `truth ${grid.rows[i]}, answered ${grid.cols[j]}: ${s}, ${part} of ${grid.rows[i]}` : `${grid.rows[i]}, ${grid.cols[j]}: ${s}, ${part}`
}

export const whole = n => String(n).replace(/\B(?=(\d{3})+$)/g, ',')
export const prob = p => p >= .995 && p < 1 ? '>0.99' : p > 0 && p < .005 ? '<0.01' : p.toFixed(2)

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

/** The heat map. Calls back with the cell that was chosen. */
function makeMap(choose, signal) {
  const box = h('div', {class: 'tqf-map', role: 'grid', 'aria-label': 'Confusions: rows are true answers, columns the given ones; arrow keys move, Enter lists the videos'})
  let grid = null, counts = [], part = [], cells = [], at = [0, 0], colours = [], chosen = []
  const C = () => grid.cols.length, R = () => grid.rows.length
  const colour = () => cells.forEach((c, k) => {
    const hex = colours[Math.round(part[k] * (colours.length - 1))]
    c.style.background = hex
    c.style.color = dark(hex) ? '#10161c' : '#ffffff'
  })
  const mark = () => cells.forEach((c, k) => {
    const mine = chosen.length && k === chosen[0] * C() + chosen[1]
    c.setAttribute('aria-selected', !!mine)
    c.tabIndex = k === at[0] * C() + at[1] ? 0 : -1
  })
  const map = {box}
  map.measure = width => {
    if (!grid || !width) return
    const longest = Math.max(...grid.rows.map(r => r.length)), labels = Math.min(150, 18 + 6.6 * longest), size = cellSize(width, labels, C())
    box.style.setProperty('--cell', `${size}px`)
    box.style.setProperty('--labels', `${labels}px`)
    box.style.setProperty('--foot', `${Math.min(110, 14 + 4.8 * Math.max(...grid.cols.map(c => c.length)))}px`)
    box.classList.toggle('is-small', size < 24)
  }
  map.fill = (g, c) => {
    grid = g; counts = c; part = shares(c, R(), C()); at = [0, 0]; cells = []
    box.style.setProperty('--n', C())
    const rows = grid.rows.map((name, i) => h('div', {class: 'tqf-row', role: 'row'}, h('span', {class: 'tqf-label', role: 'rowheader', text: name, title: name}), ...grid.cols.map((_, j) => {
      const n = counts[i * C() + j], text = sentence(grid, i, j, n, part[i * C() + j])
      const cell = h('div', {class: `tqf-cell${grid.square && i === j ? ' is-same' : ''}${n ? '' : ' is-none'}`, role: 'gridcell', tabindex: '-1', 'aria-label': text, title: text}, h('span', {text: n || ''}))
      cells.push(cell)
      return cell
    })))
    const foot = h('div', {class: 'tqf-row tqf-foot', role: 'row'}, h('span'), ...grid.cols.map(name => h('span', {class: 'tqf-col', role: 'columnheader'}, h('span', {text: name, title: name}))))
    box.setAttribute('aria-rowcount', R()); box.setAttribute('aria-colcount', C())
    box.replaceChildren(...rows, foot)
    colour(); mark()
  }
  map.colours = c => { colours = c; colour() }
  map.choose = cell => { chosen = cell; if (cell.length === 2) at = [...cell]; if (grid) mark() }
  map.size = () => [R(), C()]
  const pick = k => { at = [Math.floor(k / C()), k % C()]; choose(at) }
  box.addEventListener('click', e => { const k = cells.indexOf(e.target.closest('.tqf-cell')); if (k >= 0) pick(k) }, {signal})
  box.addEventListener('keydown', e => {
    const k = cells.indexOf(e.target.closest('.tqf-cell'))
    if (k < 0 || e.ctrlKey || e.metaKey || e.altKey) return
    if (e.key === 'Enter' || e.key === ' ') { e.preventDefault(); e.stopPropagation(); return pick(k) }
    const to = step(e.key, [Math.floor(k / C()), k % C()], R(), C())
    if (!to) return
    e.preventDefault(); e.stopPropagation()
    at = to
    mark()
    cells[to[0] * C() + to[1]].focus()
  }, {signal})
  return map
}

/** The videos of the chosen cell. */
function makeVideos(model, put, open, signal) {
  const title = h('div', {class: 'tqf-title', role: 'status'}), list = h('ul', {class: 'tqf-videos'}), more = h('button', {type: 'button', class: 'tqf-more', hidden: true})
  const box = h('div', {class: 'tqf-side'}, title, list, more)
  more.addEventListener('click', () => put({limit: Math.min(5000, model.get('limit') * 4)}), {signal})
  list.addEventListener('click', e => { const b = e.target.closest('button'); if (b) open(b.firstChild.textContent) }, {signal})
  list.addEventListener('keydown', e => {
    const all = [...list.querySelectorAll('button')], i = all.indexOf(e.target), to = {ArrowDown: i + 1, ArrowUp: i - 1, Home: 0, End: all.length - 1}[e.key]
    if (to === undefined) return
    e.preventDefault(); e.stopPropagation()
    all[Math.max(0, Math.min(all.length - 1, to))]?.focus()
  }, {signal})
  const show = () => {
    const found = model.get('found') ?? {}, grid = model.get('grid'), cell = found.cell ?? [], videos = found.videos ?? []
    if (!cell.length) title.textContent = 'Choose a cell to see its videos.'
    else title.textContent = grid.square ? `${cell[0] === cell[1] ? `${grid.rows[cell[0]]}, answered right` : `${grid.rows[cell[0]]}, answered ${grid.cols[cell[1]]}`}: ${found.total}` : `${grid.rows[cell[0]]}, ${grid.cols[cell[1]]}: ${found.total}`
    list.replaceChildren(...videos.map(([id, p, loss]) => h('li', {}, h('button', {type: 'button', class: 'tqf-video', 'aria-current': id === model.get('selected')}, h('span', {text: id, title: id}), h('i', {text: prob(p), title: 'probability of the answer'}), h('i', {text: loss === null ? '' : `loss ${loss.toFixed(2)}`})))))
    more.hidden = videos.length >= (found.total ?? 0)
    more.textContent = `Show more (${videos.length} of ${found.total})`
  }
  return {box, show}
}

/** Below: the viewer of the video that was opened, whatever widget that is. */
function makePane(model, signal) {
  const title = h('span', {class: 'tqf-opened'}), close = h('button', {type: 'button', class: 'tqf-close', text: '×', 'aria-label': 'Close the viewer'}), host = h('div')
  const pane = h('section', {class: 'tqf-pane', 'aria-label': 'Viewer', hidden: true}, h('div', {class: 'tqf-panehead'}, title, close), host)
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
    } catch (e) { host.replaceChildren(h('div', {class: 'tqf-message', role: 'alert', text: `The viewer could not be shown: ${e.message}`})) }
  }
  close.addEventListener('click', () => model.send({type: 'close'}), {signal})
  model.on('change:viewer', mount)
  signal.addEventListener('abort', () => { model.off('change:viewer', mount); turn++; empty() })
  mount()
  return pane
}

function render({model, el}) {
  const stop = new AbortController(), {signal} = stop, root = h('div', {class: 'tqn-confusions', 'data-lm-suppress-shortcuts': 'true'})  // keys are ours, not JupyterLab's
  el.append(root)
  const end = () => { stop.abort(); root.remove() }
  const heard = (names, f) => { for (const n of names) { model.on(n, f); signal.addEventListener('abort', () => model.off(n, f)) } }
  let theme = 'light', recolour = () => {}
  themes(model, t => { theme = t; root.classList.toggle('is-dark', t === 'dark'); recolour() }, signal)
  const fail = () => { if (model.get('error')) root.replaceChildren(h('div', {class: 'tqf-message', role: 'alert', text: model.get('error')})) }
  heard(['change:error'], fail)
  const meta = model.get('meta')
  if (model.get('error')) { fail(); return end }
  if (!meta?.names) { root.replaceChildren(h('div', {class: 'tqf-message', role: 'alert', text: 'There is nothing to show.'})); return end }
  const put = changes => { for (const [k, v] of Object.entries(changes)) model.set(k, v); model.save_changes() }
  const select = h('select', {'aria-label': 'question'}, ...meta.names.map(n => h('option', {value: n, text: n})))
  select.addEventListener('change', () => put({question: select.value}), {signal})
  const facts = h('span', {class: 'tqf-facts'}), note = h('div', {class: 'tqf-message', role: 'alert', hidden: true}), wait = h('div', {class: 'tqf-wait', role: 'status'})
  const open = id => { wait.textContent = `Opening ${id} …`; note.hidden = true; model.send({type: 'open', id}) }
  const map = makeMap(cell => put({cell: [...cell]}), signal), videos = makeVideos(model, put, open, signal)
  const pairs = h('div', {class: 'tqf-pairs'}), left = h('div', {class: 'tqf-left'}, h('div', {class: 'tqf-scroll'}, map.box), pairs)
  root.append(h('div', {class: 'tqf-tools'}, h('label', {class: 'tqf-choice'}, h('span', {text: 'question'}), select), facts), h('div', {class: 'tqf-body'}, left, videos.box), wait, note, makePane(model, signal))
  const size = () => map.measure(map.box.parentElement.clientWidth)
  const fill = () => {
    const grid = model.get('grid'), counts = ints(model.get('counts'))
    if (!grid?.rows || counts.length !== grid.rows.length * grid.cols.length) return
    let right = 0, all = 0
    counts.forEach((n, k) => { const i = Math.floor(k / grid.cols.length), j = k % grid.cols.length; all += n; if (grid.square ? i === j : j === 0 || j === 3) right += n })
    facts.textContent = `${whole(grid.n)} videos with a truth, ${all ? Math.floor(100 * right / all) : 0}% ${grid.left_out ? 'of those shown ' : ''}right. ${grid.square ? 'Rows: truth; columns: answered.' : ''}${grid.left_out ? ` ${grid.left_out} answers with the fewest confusions are left out.` : ''}`
    map.fill(grid, counts)
    map.choose(model.get('cell'))
    const most = worst(counts, grid.rows.length, grid.cols.length, grid.square)
    pairs.replaceChildren(...(most.length ? [h('span', {text: 'most confused'})] : []), ...most.map(([i, j, n]) => {
      const b = h('button', {type: 'button', class: 'tqf-pair', 'data-cell': `${i} ${j}`}, h('span', {text: grid.square ? `${grid.rows[i]} → ${grid.cols[j]}` : `${grid.rows[i]}: ${grid.cols[j]}`}), h('b', {text: n}))
      return b
    }))
    size()
  }
  pairs.addEventListener('click', e => { const b = e.target.closest('button'); if (b) put({cell: b.dataset.cell.split(' ').map(Number)}) }, {signal})
  recolour = () => map.colours(meta.colours[theme])
  const question = () => { select.value = model.get('question') }
  const noticed = () => { const text = model.get('notice'); note.textContent = text; note.hidden = !text; if (text) wait.textContent = '' }
  heard(['change:grid', 'change:counts'], fill)
  heard(['change:question'], question)
  heard(['change:cell'], () => map.choose(model.get('cell')))
  heard(['change:found', 'change:selected'], videos.show)
  heard(['change:notice'], noticed)
  heard(['msg:custom'], m => { if (m.type === 'opened') wait.textContent = '' })
  const seen = new ResizeObserver(size)
  seen.observe(root)
  signal.addEventListener('abort', () => seen.disconnect())
  map.colours(meta.colours[theme])
  question(); fill(); videos.show(); noticed()
  return end
}

export default {render}

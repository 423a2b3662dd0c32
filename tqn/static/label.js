// The labeller: answers and extents for one's own videos, written with the keyboard.
// The kernel keeps what is written; this file shows it and says what was pressed.
// Plain functions first (tested under node), then the parts that touch the page.

const AROUND = 60   // videos of the list that are in the page

/** What a key does: [action, number], or null. */
export function action(e) {
  if (e.ctrlKey || e.metaKey || e.altKey) return null
  const digit = /^Digit([0-9])$/.exec(e.code || '') || /^Numpad([0-9])$/.exec(e.code || '')
  if (digit) { const n = +digit[1]; return n ? ['answer', n - 1 + (e.shiftKey ? 9 : 0)] : ['clear', 0] }
  const step = e.shiftKey ? 10 : 1
  const keys = {
    ArrowLeft: ['step', -step], ArrowRight: ['step', step], ArrowUp: ['question', -1], ArrowDown: ['question', 1], Home: ['frame', 0], End: ['frame', -1],
    ' ': ['play', 0], Enter: ['enter', 0], Backspace: ['clear', 0], i: ['begin', 0], o: ['end', 0], e: ['another', 0],
    x: ['nowhere', +!!e.shiftKey], ',': ['extent', -1], '.': ['extent', 1],
    u: ['undo', 0], a: ['take', 0], r: ['refuse', 0],
    n: ['video', 1], p: ['video', -1], PageDown: ['video', 1], PageUp: ['video', -1],
  }
  return keys[e.key.length === 1 ? e.key.toLowerCase() : e.key] || null
}

/** An extent after its begin or end was set to a frame; the other edge gives way where it must. */
export function extentAfter(old, edge, frame, n) {
  const [a, b] = old || [0, n]
  if (edge === 'begin') return [frame, b > frame ? b : min(frame + 1, n)]
  return [a <= frame ? a : frame, frame + 1]
}

/** An extent while an edge of it is drawn to a frame, or a new one from a frame: edge 'begin', 'end' or ''. */
export function extentDrawn(old, edge, from, frame) {
  if (edge === 'begin') return [min(frame, old[1] - 1), old[1]]
  return edge ? [old[0], max(frame, old[0]) + 1] : [min(from, frame), max(from, frame) + 1]
}

/** What a row says of a question's extents, as a list of pairs; it keeps the pair itself where there is one. */
export const listed = e => !e ? [] : e[0]?.length ? e : [e]

/** Extents after the k-th became another, null for none; those that then overlap become one. As a row keeps them. */
export function extentsAfter(list, k, next) {
  const out = []
  for (const [a, b] of [...list.filter((_, i) => i !== k), ...(next ? [next] : [])].sort((x, y) => x[0] - y[0])) {
    const last = out.at(-1)
    if (last && a < last[1]) last[1] = max(last[1], b); else out.push([a, b])
  }
  return out.length > 1 ? out : out[0] || null
}

/** Which extent a key is about: the one around the frame, else for 'begin' the next, for 'end' the one before, and otherwise the nearest; -1 without any. */
export function extentAt(list, frame, edge) {
  const far = list.map(([a, b]) => frame < a ? a - frame : min(0, b - 1 - frame))      // above 0: it begins later
  const side = far.flatMap((d, i) => edge === 'begin' && d > 0 || edge === 'end' && d < 0 ? [i] : [])
  const among = side.length && !far.includes(0) ? side : far.map((_, i) => i)
  return among.reduce((best, i) => best < 0 || abs(far[i]) < abs(far[best]) ? i : best, -1)
}

/** What a model proposes for a question, where nobody has marked or refused it. */
export function proposed(row, question) {
  const p = row.proposals?.[question]
  return p && !p.refused && !row.extents[question] ? p : null
}

/** An answer after its key was pressed: chosen, or for a question with several answers added or taken away. */
export function answerAfter(old, choice, several) {
  if (!several) return choice
  const kept = (old || []).filter(a => a !== choice)
  const next = kept.length === (old || []).length ? [...kept, choice] : kept
  return next.length ? next : null
}

/** How many letters of all names are a folder that they share. */
export function sharedFolder(names) {
  const [first = '', ...rest] = names
  let n = first.lastIndexOf('/') + 1
  while (n && !rest.every(name => name.startsWith(first.slice(0, n)))) n = first.lastIndexOf('/', n - 2) + 1
  return n
}

export const answered = (row, questions) => questions.filter(q => row.answers[q.name] != null).length

// ---------------------------------------------------------------- the page

const h = elements('tql-')
const HELP = [['1–9', 'answer'], ['0', 'no answer'], ['↑ ↓', 'question'], ['← →', 'frame'], ['shift ← →', 'ten frames'], ['space', 'play'],
  ['I', 'begins here'], ['O', 'ends here'], ['E', 'once more here'], [', .', 'extent before, after'], ['X', 'remove extent'],
  ['N P', 'next, previous video'], ['enter', 'next gap'], ['U', 'undo']]

const PROPOSES = [['A', 'take what is proposed'], ['R', 'refuse it, or not']]

/** The film of one video after the other, in a stage; said: what is told of its frame, and of its state. */
function player(model, stage, shown, told) {
  let film = null, off = null, id = null
  const said = () => film && shown(film.frame), api = {
    stop() { off?.abort(); film?.video.remove(); film = null },
    get frame() { return film?.frame ?? 0 },
    get playing() { return !!film?.playing },
    open(row, times) {
      api.stop()
      id = row.id
      if (!row.bytes) return
      off = new AbortController()
      const end = 2 * times.at(-1) - (times.at(-2) ?? times.at(-1) - .04), ask = {send: m => model.send({...m, type: 'film', id: row.id})}
      film = makeFilm(ask, {times, end, meta: {}}, {frame: said, shown() {}, playing: said, status: told}, off.signal)
      stage.prepend(film.video)
      film.load()
    },
    receive(m, buffers) { if (m.id === id) film?.receive(m, buffers) },
    seek(i) { film?.pause(); film?.seek(i) },
    toggle() { if (film?.ready) film.playing ? film.pause() : film.play() },
  }
  return api
}

function render({model, el}) {
  const off = new AbortController(), {signal} = off, heard = hearing(model, signal), root = outermost('label', {tabIndex: 0, label: 'Labeller'})
  el.append(root)
  themes(model, dark => flag(root, 'dark', dark), signal)
  let film = null, timer = 0
  const end = () => { off.abort(); film?.stop(); clearInterval(timer); root.remove() }
  if (model.get('error')) { root.append(message(model.get('error'))); return end }

  const {questions, ids} = model.get('meta'), folder = sharedFolder(ids), pending = new Map(), $ = {}
  // mine: the row with what was pressed and is not confirmed yet; waiting: keys for the row that is about to come
  let q = 0, seq = 0, moving = false, held = false, mine = null, waiting = []
  const row = () => mine || model.get('row'), id = () => model.get('row').id, n = () => max(1, row().n_frames)
  const extents = (name = questions[q].name) => listed(row().extents[name])
  const tell = m => {
    const message = {...m, id: id(), seq: ++seq}, part = {answer: 'answers', extent: 'extents'}[m.type]
    pending.set(seq, {message, time: Date.now()})
    model.send(message)
    if (part) { mine = {...row(), [part]: {...row()[part], [m.question]: m.value}}; draw() }
    if (m.type === 'go' || m.type === 'undo') moving = true
    state()
  }
  const settled = () => { if (!pending.size) { mine = null; arrived() } }
  /** The row is there: what was pressed meanwhile is done now. */
  const arrived = () => {
    moving = false
    draw(); state()
    const keys = waiting
    waiting = []
    for (const k of keys) press(...k)
  }
  /** What the disk did not take is tried again, unless a later key has replaced it. */
  const again = () => {
    const last = new Map()
    for (const [k, {message: m}] of pending) last.set(`${m.type} ${m.id} ${m.question}`, k)
    for (const [k, p] of pending) {
      if (!p.failed) continue
      if (last.get(`${p.message.type} ${p.message.id} ${p.message.question}`) !== k) { pending.delete(k); continue }
      model.send(p.message)
    }
  }
  const heardOf = m => {
    const p = pending.get(m.seq)
    if (!p) return
    const kind = p.message.type
    if (m.type === 'failed' && (kind === 'answer' || kind === 'extent')) p.failed = m.error
    else pending.delete(m.seq)
    if (m.type === 'refused') mine = null
    state()
    setTimeout(settled, 60)
  }

  const by = d => h('button.small', {type: 'button', text: d < 0 ? '− frame' : '+ frame', onclick: () => film.seek(film.frame + d)})
  const room = () => h('span.room')
  root.append(
    h('div.head', $.title = h('span.title'), $.count = h('span.soft'), room(), $.state = h('span.state', {role: 'status'})),
    h('div.body',
      h('div.left', $.stage = h('div.stage', $.none = h('div.none', {role: 'status'})),
        h('div.bar', $.play = h('button.round', {type: 'button', title: 'Play or pause (space)', label: 'Play', text: '▶'}),
          $.clock = h('span.clock'), room(), by(-1), by(1)),
        $.lanes = h('div.lanes')),
      $.right = h('div.right')),
    $.notice = message(''), $.list = h('div.list', {role: 'listbox', label: 'Videos'}), 
    h('div.help', [...HELP, ...(model.get('meta').proposes ? PROPOSES : [])].map(([k, t]) => h('span', h('kbd', k), t))))

  let clocks = typed(model.get('times'), 'float64')
  const place = (e, f) => { e.style.left = `${100 * f / n()}%` }
  const shown = i => {
    write($.clock, `frame ${i} of ${n() - 1}   ${clock(clocks.length ? clocks[i] - clocks[0] : 0)}`)
    write($.play, film.playing ? '❚❚' : '▶'); put($.play, 'aria-label', film.playing ? 'Pause' : 'Play')
    for (const e of $.lanes.querySelectorAll('.tql-now')) place(e, i + .5)
    const here = extentAt(extents(), i)                      // which one of several the keys are about
    for (const all of [$.lanes.querySelectorAll('.tql-lane.is-on .tql-extent'), $.right.querySelectorAll('.is-on .tql-mark')]) {
      all.forEach((e, k) => flag(e, 'here', all.length > 1 && k === here))
    }
  }
  const told = (state, text, share) => { $.none.hidden = state === 'ready'; write($.none, text + (share ? `: ${round(share * 100)} %` : '')) }
  film = player(model, $.stage, shown, told)

  const makeLane = (o, k) => {
    const p = proposed(row(), o.name), list = p ? [p.span] : extents(o.name), now = h('div.now')
    const hint = p ? `Proposed: ${p.said}. A takes it, R refuses it; drag an edge to move it`
      : 'Click to go there; drag to mark where it is, or an edge of a mark'
    const track = h('div.track', {title: hint})
    const lay = list => track.replaceChildren(...list.map(x => {
      const bar = h(p ? 'div.extent.is-proposed' : 'div.extent')
      place(bar, x[0]); bar.style.width = `${100 * (x[1] - x[0]) / n()}%`
      return bar
    }), now)
    lay(list)
    track.addEventListener('pointerdown', e => {
      const b = box(track), at = e => clamp(floor((e.clientX - b.left) / b.width * n()), 0, n() - 1), from = at(e)
      const far = f => abs(e.clientX - b.left - f / n() * b.width), done = new AbortController()
      const edges = moving ? [] : list.flatMap((x, j) => [[far(x[0]), j, 'begin'], [far(x[1]), j, 'end']]).filter(c => c[0] < 7).sort((a, b) => a[0] - b[0])
      const [, j, edge] = edges[0] || [0, -1, '']
      let drawn
      held = true                                             // lanes that are drawn anew would let go of the pointer
      track.setPointerCapture(e.pointerId)
      track.addEventListener('pointermove', m => {
        if (moving || drawn === undefined && abs(m.clientX - e.clientX) < 4) return
        drawn = extentsAfter(p ? [] : list, j, extentDrawn(list[j], edge, from, at(m)))
        lay(listed(drawn))
        film.seek(at(m))
      }, done)
      track.addEventListener('lostpointercapture', () => {
        done.abort(); held = false
        q = k
        if (drawn) tell({type: 'extent', question: o.name, value: drawn}); else film.seek(from)
        choose(k)
      }, done)
    })
    const text = list.length > 1 ? `${list.length} extents` : list.map(x => `${x[0]}–${x[1]}${p ? ' ?' : ''}`).join('')
    return h(k === q ? 'div.lane.is-on' : 'div.lane', h('span.name', o.name), track, h('span.soft.span', {text, title: list.map(x => x.join('–')).join(', ')}))
  }
  /** The extents of a question as a list: go to one, remove one, mark it once more. */
  const makeMarks = (o, k) => {
    const list = extents(o.name), button = (name, props, ...rest) => h(`button.${name}`, {type: 'button', ...props}, ...rest)
    const marks = list.map(([a, b], j) => {
      const go = button('go', {title: 'Go there', text: `${a}–${b}`})
      const off = button('off', {title: 'Remove it', label: `Remove ${a}–${b}`, text: '×'})
      go.addEventListener('click', () => { if (!moving) { choose(k); film.seek(a); focusOn(root) } })
      off.addEventListener('click', () => {
        if (moving) return
        choose(k); tell({type: 'extent', question: o.name, value: extentsAfter(list, j, null)}); focusOn(root)
      })
      return h('span.mark', go, off)
    })
    const more = button('more', {title: 'Mark it once more, from this frame on (E)', text: '+ extent'})
    more.addEventListener('click', () => { choose(k); press('another'); focusOn(root) })
    return list.length || k === q ? h('div.marks', marks, more) : null
  }
  const makeQuestion = (o, k) => {
    const a = row().answers[o.name], on = v => o.kind === 'many' ? (a || []).includes(v) : a === v
    const odd = [a].flat().filter(v => v != null && !o.answers.includes(v)), sign = j => j < 9 ? j + 1 : j < 18 ? `⇧${j - 8}` : '·'
    const buttons = o.answers.map((v, j) => {
      const b = h(on(v) ? 'button.answer.is-on' : 'button.answer', {type: 'button', 'aria-pressed': String(on(v))}, h('kbd', {text: sign(j)}), v)
      b.addEventListener('click', () => { if (!moving) { choose(k); press('answer', j) } })
      return b
    })
    const el = h(k === q ? 'div.question.is-on' : 'div.question', {role: 'group', label: o.name},
      h('div.asked', h('b', o.name), o.text ? h('span.soft', o.text) : null), h('div.answers', buttons), makeMarks(o, k),
      odd.length ? h('div.odd', `The table says ${odd.join(', ')}, which is no answer here.`) : null)
    el.addEventListener('pointerdown', e => { if (e.target === el) choose(k) })
    return el
  }
  const draw = () => {
    const r = row()
    write($.title, r.id)
    write($.count, `video ${model.get('at') + 1} of ${ids.length}, ${answered(r, questions)} of ${questions.length} answered`)
    write($.notice, model.get('notice')); $.notice.hidden = !model.get('notice')
    if (!held) $.lanes.replaceChildren(...questions.map(makeLane))
    $.right.replaceChildren(...questions.map(makeQuestion))
    $.right.querySelector('.is-on')?.scrollIntoView({block: 'nearest'})
    shown(film.frame)
  }
  const list = () => {
    const at = model.get('at'), done = model.get('done'), from = max(0, min(at - AROUND / 2, ids.length - AROUND))
    $.list.replaceChildren(...ids.slice(from, from + AROUND).map((name, k) => {
      const i = from + k, props = {type: 'button', role: 'option', 'aria-selected': String(i === at), title: name, tabIndex: -1}
      const state = h('i', done[i] >= questions.length ? '●' : done[i] ? '◐' : '○')
      const b = h(i === at ? 'button.item.is-on' : 'button.item', props, state, h('span', name.slice(folder)))
      b.addEventListener('click', () => tell({type: 'go', at: i}))
      return b
    }))
    const on = $.list.querySelector('.is-on')
    if (on) $.list.scrollLeft = on.offsetLeft - $.list.clientWidth / 2
  }
  const state = () => {
    const all = [...pending.values()], failed = all.find(p => p.failed)?.failed, late = all.some(p => !p.failed && Date.now() - p.time > SLOW)
    if (late) waiting = []
    const opening = moving && `opening …${waiting.length ? ' ' + waiting.length + ' keys wait' : ''}`
    const calm = all.length ? 'keeping …' : model.get('saved') || 'nothing to keep yet'
    write($.state, late ? 'The kernel does not answer: what you press is not kept.' : failed || opening || calm)
    flag($.state, 'late', late || !!failed)
  }
  const choose = k => { q = clamp(k, 0, questions.length - 1); draw() }
  const press = (what, k) => {
    if (moving) { waiting.push([what, k]); return state() }   // these keys are for the row that is about to come
    const o = questions[q], r = row(), at = model.get('at'), f = film.frame, answer = value => tell({type: 'answer', question: o.name, value})
    const extent = value => tell({type: 'extent', question: o.name, value}), marks = extents()
    if (what === 'answer' && k < o.answers.length) answer(answerAfter(r.answers[o.name], o.answers[k], o.kind === 'many'))
    else if (what === 'clear' && r.answers[o.name] != null) answer(null)
    else if (what === 'begin' || what === 'end') { const j = extentAt(marks, f, what); extent(extentsAfter(marks, j, extentAfter(marks[j], what, f, n()))) }
    else if (what === 'another' && !marks.some(([a, b]) => a <= f && f < b)) extent(extentsAfter(marks, -1, [f, f + 1]))
    else if (what === 'extent') film.seek(marks.map(e => e[0]).filter(a => k < 0 ? a < f : a > f).at(k < 0 ? -1 : 0) ?? f)
    else if (what === 'nowhere' && marks.length) extent(k ? null : extentsAfter(marks, extentAt(marks, f), null))
    else if (what === 'take' && proposed(r, o.name)) extent(proposed(r, o.name).span)
    else if (what === 'refuse' && r.proposals?.[o.name] && !r.extents[o.name]) tell({type: 'refuse', question: o.name})   // once more brings it back
    else if (what === 'undo') tell({type: 'undo'})
    else if (what === 'step') film.seek(f + k)
    else if (what === 'frame') film.seek(k < 0 ? n() - 1 : k)
    else if (what === 'play') film.toggle()
    else if (what === 'question') choose((q + k + questions.length) % questions.length)
    else if (what === 'video' && at + k >= 0 && at + k < ids.length) tell({type: 'go', at: at + k})
    else if (what === 'enter') {
      const open = questions.findIndex(p => r.answers[p.name] == null)
      if (open >= 0) choose(open); else if (at + 1 < ids.length) tell({type: 'go', at: at + 1})
    }
  }
  root.addEventListener('keydown', e => {
    const a = action(e)
    if (!a || (e.target !== root && e.target.tagName === 'BUTTON' && (e.key === ' ' || e.key === 'Enter'))) return
    e.preventDefault(); e.stopPropagation(); press(...a)
  })
  root.addEventListener('pointerdown', e => { if (e.target.tagName !== 'BUTTON') focusOn(root) })
  $.play.addEventListener('click', () => { film.toggle(); focusOn(root) })
  const fresh = () => {
    const r = row()
    clocks = typed(model.get('times'), 'float64')
    told(r.bytes ? 'ready' : 'none', r.problem || '')
    $.stage.style.setProperty('--ratio', r.width ? r.width / r.height : 16 / 9)
    film.open(r, clocks); draw(); list()
  }
  let last = id()
  heard('change:row', () => { if (id() !== last) { last = id(); mine = null; q = 0; fresh(); arrived() } else if (!mine) draw(); list() })
  heard('change:done', list)
  heard('change:notice', draw)
  heard('change:saved', state)
  heard('msg:custom', (m, buffers) => {
    if (m.type === 'film') film.receive(m, buffers)
    if (['kept', 'refused', 'failed'].includes(m.type)) heardOf(m)
  })
  let turn = 0
  timer = setInterval(() => { state(); if (++turn % 3 === 0) again() }, 1000)
  fresh(); state()
  return end
}

export default {render}

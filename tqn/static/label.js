// The labeller: answers and extents for one's own videos, written with the keyboard. The kernel keeps what is written; this file shows it and says what was pressed.
// Plain functions first (tested under node), then the parts that touch the page.

const SLOW = 5000   // milliseconds after which a kernel counts as silent
const AROUND = 60   // videos of the list that are in the page

/** The frame on show at time t: the last one that has begun. */
export function frameAt(times, t) {
  let lo = 0, hi = times.length - 1
  while (lo < hi) { const m = (lo + hi + 1) >> 1; if (times[m] <= t + 1e-4) lo = m; else hi = m - 1 }
  return lo
}

/** A time inside frame i, far from its edges. */
export function timeOf(times, i) {
  const next = i + 1 < times.length ? times[i + 1] : times[i] + (i ? times[i] - times[i - 1] : .04)
  return (times[i] + next) / 2
}

/** What a key does: [action, number], or null. */
export function action(e) {
  if (e.ctrlKey || e.metaKey || e.altKey) return null
  const digit = /^Digit([0-9])$/.exec(e.code || '') || /^Numpad([0-9])$/.exec(e.code || '')
  if (digit) { const n = +digit[1]; return n ? ['answer', n - 1 + (e.shiftKey ? 9 : 0)] : ['clear', 0] }
  const step = e.shiftKey ? 10 : 1
  const keys = {ArrowLeft: ['step', -step], ArrowRight: ['step', step], ArrowUp: ['question', -1], ArrowDown: ['question', 1], Home: ['frame', 0], End: ['frame', -1], ' ': ['play', 0], Enter: ['enter', 0],
    Backspace: ['clear', 0], i: ['begin', 0], o: ['end', 0], x: ['nowhere', 0], n: ['video', 1], p: ['video', -1], PageDown: ['video', 1], PageUp: ['video', -1], u: ['undo', 0]}
  return keys[e.key.length === 1 ? e.key.toLowerCase() : e.key] || null
}

/** An extent after its begin or end was set to a frame; the other edge gives way where it must. */
export function extentAfter(old, edge, frame, n) {
  const [a, b] = old || [0, n]
  if (edge === 'begin') return [frame, b > frame ? b : Math.min(frame + 1, n)]
  return [a <= frame ? a : frame, frame + 1]
}

/** An answer after its key was pressed: chosen, or for a question with several answers added or taken away. */
export function answerAfter(old, choice, several) {
  if (!several) return choice
  const kept = (old || []).filter(a => a !== choice)
  const next = kept.length === (old || []).length ? [...kept, choice] : kept
  return next.length ? next : null
}

export const answered = (row, questions) => questions.filter(q => row.answers[q.name] != null).length
export const clock = s => `${Math.floor(s / 60)}:${(s % 60).toFixed(2).padStart(5, '0')}`

// ---------------------------------------------------------------- the page

function h(tag, props = {}, ...children) {
  const [name, ...classes] = tag.split('.'), e = document.createElement(name)
  if (classes.length) e.className = classes.map(c => c.startsWith('is-') ? c : 'tql-' + c).join(' ')
  for (const [k, v] of Object.entries(props)) if (k in e && k !== 'style') e[k] = v; else e.setAttribute(k, v)
  e.append(...children.filter(c => c != null))
  return e
}

function themed(model, root, signal) {
  const look = () => {
    const own = model.get('theme'), jp = document.body.dataset.jpThemeLight
    const dark = own === 'auto' ? (jp ? jp === 'false' : matchMedia('(prefers-color-scheme: dark)').matches) : own === 'dark'
    root.classList.toggle('is-dark', dark)
  }
  const seen = new MutationObserver(look)
  seen.observe(document.body, {attributes: true, attributeFilter: ['data-jp-theme-light']})
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', look, {signal})
  signal.addEventListener('abort', () => seen.disconnect())
  look()
}

/** The film of one video: asks for its pieces one after the other, and seeks by frame. */
function player(model, video, shown) {
  let id = null, parts = [], url = null, times = [], want = 0, ready = false, busy = false
  const stop = () => { video.pause(); video.removeAttribute('src'); video.load(); if (url) URL.revokeObjectURL(url); url = null; parts = []; ready = false; busy = false }
  const go = () => { if (!ready) return; if (video.seeking) { busy = true; return } video.currentTime = timeOf(times, want) }
  const api = {
    get frame() { return want },
    open(row, clocks) { stop(); id = row.id; times = clocks; want = 0; if (row.bytes) model.send({type: 'film', id, part: 0}) },
    receive(m, buffer) {
      if (m.id !== id) return
      if (m.error) return shown(want, m.error)
      parts.push(new Uint8Array(buffer.buffer || buffer, buffer.byteOffset || 0, buffer.byteLength))
      if (parts.length < m.parts) return model.send({type: 'film', id, part: parts.length})
      video.src = url = URL.createObjectURL(new Blob(parts, {type: m.mime})); parts = []
    },
    seek(i) { want = Math.max(0, Math.min(times.length - 1, i)); if (!video.paused) video.pause(); go(); shown(want) },
    toggle() { if (!ready) return; if (video.paused) video.play().catch(() => {}); else { video.pause(); api.seek(want) } }, stop}
  const each = (_, meta) => { if (!video.paused && ready) { want = frameAt(times, meta.mediaTime); shown(want) } if (id !== undefined) video.requestVideoFrameCallback?.(each) }
  video.requestVideoFrameCallback?.(each)
  video.addEventListener('loadeddata', () => { ready = true; go(); shown(want) })
  video.addEventListener('seeked', () => { if (busy) { busy = false; go() } })
  video.addEventListener('timeupdate', () => { if (!video.paused && !video.requestVideoFrameCallback) { want = frameAt(times, video.currentTime); shown(want) } })
  video.addEventListener('ended', () => api.seek(times.length - 1))
  for (const name of ['play', 'pause']) video.addEventListener(name, () => shown(want))
  return api
}

function render({model, el}) {
  const off = new AbortController(), {signal} = off, heard = []
  const root = h('div', {className: 'tqn-label', tabIndex: 0, 'data-lm-suppress-shortcuts': 'true', 'aria-label': 'Labeller'})
  const listen = (name, f) => { model.on(name, f); heard.push([name, f]) }
  el.append(root)
  themed(model, root, signal)
  listen('change:theme', () => themed(model, root, signal))
  const end = () => { off.abort(); heard.forEach(([n, f]) => model.off(n, f)); film?.stop(); clearInterval(timer); root.remove() }
  let film = null, timer = 0
  if (model.get('error')) { root.append(h('div.message', {role: 'alert', textContent: model.get('error')})); return end }

  const {questions, ids, name} = model.get('meta'), pending = new Map()
  let q = 0, seq = 0, moving = false, mine = null   // mine: the row with what was pressed and is not confirmed yet, so that fast fingers see their own keys
  const $ = {}
  const row = () => mine || model.get('row'), id = () => model.get('row').id
  const tell = m => {
    pending.set(++seq, Date.now())
    model.send({...m, id: id(), seq})
    const part = {answer: 'answers', extent: 'extents'}[m.type]
    if (part) { mine = {...row(), [part]: {...row()[part], [m.question]: m.value}}; draw() }
    if (m.type === 'go' || m.type === 'undo') moving = true
    state()
  }
  const settle = () => { if (!pending.size) { mine = null; moving = false; draw() } }

  root.append(
    h('div.head', {}, $.title = h('span.title'), $.count = h('span.soft'), h('span.room'), $.state = h('span.state', {role: 'status'})),
    h('div.body', {}, h('div.left', {},
      $.stage = h('div.stage', {}, $.video = h('video', {muted: true, playsInline: true, tabIndex: -1}), $.none = h('div.none')),
      h('div.bar', {}, $.play = h('button.round', {type: 'button', title: 'Play or pause (space)', textContent: '▶'}), $.clock = h('span.clock'), h('span.room'),
        h('button.small', {type: 'button', textContent: '− frame', onclick: () => film.seek(film.frame - 1)}), h('button.small', {type: 'button', textContent: '+ frame', onclick: () => film.seek(film.frame + 1)})),
      $.lanes = h('div.lanes')),
    $.right = h('div.right')),
    $.notice = h('div.message', {role: 'alert', hidden: true}),
    $.list = h('div.list', {role: 'listbox', 'aria-label': 'Videos'}),
    h('div.help', {}, ...[['1–9', 'answer'], ['0', 'no answer'], ['↑ ↓', 'question'], ['← →', 'frame'], ['shift ← →', 'ten frames'], ['space', 'play'], ['I', 'begins here'], ['O', 'ends here'], ['X', 'no extent'], ['N P', 'next, previous video'], ['enter', 'next gap'], ['U', 'undo']]
      .flatMap(([k, t]) => [h('kbd', {textContent: k}), h('span', {textContent: t})])))

  const times = () => { const b = model.get('times'); return b && b.byteLength ? new Float64Array(b.buffer ? b.buffer.slice(b.byteOffset, b.byteOffset + b.byteLength) : b.slice(0)) : new Float64Array(0) }
  let clocks = times()
  const n = () => Math.max(1, row().n_frames)
  const put = (e, f) => { e.style.left = `${100 * f / n()}%` }

  const shown = (i, error) => {
    if (error) { $.none.textContent = error; $.none.hidden = false }
    const t = clocks.length ? clocks[i] - clocks[0] : 0
    $.clock.textContent = `frame ${i} of ${row().n_frames || 0}   ${clock(t)}`
    $.play.textContent = $.video.paused ? '▶' : '❚❚'
    for (const e of $.lanes.querySelectorAll('.tql-head2')) put(e, i + .5)
  }
  film = player(model, $.video, shown)

  const draw = () => {
    const r = row(), done = answered(r, questions), total = questions.length
    $.title.textContent = r.id
    $.count.textContent = `video ${model.get('at') + 1} of ${ids.length}, ${done} of ${total} answered`
    $.notice.hidden = !model.get('notice'); $.notice.textContent = model.get('notice')
    $.lanes.replaceChildren(...questions.map((o, k) => {
      const x = r.extents[o.name], bar = x && h('div.extent', {style: `left:${100 * x[0] / n()}%;width:${100 * (x[1] - x[0]) / n()}%`})
      const track = h('div.track', {title: 'Click to go there'}, bar, h('div.head2'))
      track.addEventListener('pointerdown', e => { const b = track.getBoundingClientRect(); q = k; film.seek(Math.floor((e.clientX - b.left) / b.width * n())); choose(k) })
      return h(k === q ? 'div.lane.is-on' : 'div.lane', {}, h('span.name', {textContent: o.name}), track, h('span.soft.span', {textContent: x ? `${x[0]}–${x[1]}` : ''}))
    }))
    $.right.replaceChildren(...questions.map((o, k) => {
      const a = r.answers[o.name], on = v => o.kind === 'many' ? (a || []).includes(v) : a === v
      const odd = [a].flat().filter(v => v != null && !o.answers.includes(v))
      const buttons = o.answers.map((v, j) => { const b = h(on(v) ? 'button.answer.is-on' : 'button.answer', {type: 'button', 'aria-pressed': String(on(v))}, h('kbd', {textContent: j < 9 ? j + 1 : j < 18 ? `⇧${j - 8}` : '·'}), v); b.addEventListener('click', () => { choose(k); press('answer', j) }); return b })
      const box = h(k === q ? 'div.question.is-on' : 'div.question', {role: 'group', 'aria-label': o.name}, h('div.asked', {}, h('b', {textContent: o.name}), o.text ? h('span.soft', {textContent: o.text}) : null), h('div.answers', {}, ...buttons),
        odd.length ? h('div.odd', {textContent: `The table says ${odd.join(', ')}, which is no answer here.`}) : null)
      box.addEventListener('pointerdown', e => { if (e.target === box) choose(k) })
      return box
    }))
    $.right.querySelector('.is-on')?.scrollIntoView({block: 'nearest'})
    shown(film.frame)
  }
  const list = () => {
    const at = model.get('at'), done = model.get('done'), from = Math.max(0, Math.min(at - AROUND / 2, ids.length - AROUND))
    $.list.replaceChildren(...ids.slice(from, from + AROUND).map((v, k) => {
      const i = from + k, full = done[i] >= questions.length
      const b = h(i === at ? 'button.item.is-on' : 'button.item', {type: 'button', role: 'option', 'aria-selected': String(i === at), title: v, tabIndex: -1}, h('i', {textContent: full ? '●' : done[i] ? '◐' : '○'}), v)
      b.addEventListener('click', () => tell({type: 'go', at: i}))
      return b
    }))
    const on = $.list.querySelector('.is-on')
    if (on) $.list.scrollLeft = on.offsetLeft - $.list.clientWidth / 2
  }
  const state = () => {
    const late = [...pending.values()].some(t => Date.now() - t > SLOW)
    $.state.textContent = late ? 'The kernel does not answer: what you press is not kept.' : pending.size ? 'keeping …' : model.get('saved') || 'nothing to keep yet'
    $.state.classList.toggle('is-late', late)
  }
  const choose = k => { q = Math.max(0, Math.min(questions.length - 1, k)); draw() }
  const press = (what, k) => {
    if (moving && what !== 'step' && what !== 'play') return   // the row on show is about to change
    const o = questions[q], r = row(), at = model.get('at'), f = film.frame
    if (what === 'answer' && k < o.answers.length) tell({type: 'answer', question: o.name, value: answerAfter(r.answers[o.name], o.answers[k], o.kind === 'many')})
    else if (what === 'clear' && r.answers[o.name] != null) tell({type: 'answer', question: o.name, value: null})
    else if (what === 'begin' || what === 'end') tell({type: 'extent', question: o.name, value: extentAfter(r.extents[o.name], what, f, n())})
    else if (what === 'nowhere' && r.extents[o.name]) tell({type: 'extent', question: o.name, value: null})
    else if (what === 'undo') tell({type: 'undo'})
    else if (what === 'step') film.seek(f + k)
    else if (what === 'frame') film.seek(k < 0 ? n() - 1 : k)
    else if (what === 'play') film.toggle()
    else if (what === 'question') choose((q + k + questions.length) % questions.length)
    else if (what === 'video' && at + k >= 0 && at + k < ids.length) { q = 0; tell({type: 'go', at: at + k}) }
    else if (what === 'enter') {
      const open = questions.findIndex(p => r.answers[p.name] == null)
      if (open >= 0) choose(open); else if (at + 1 < ids.length) { q = 0; tell({type: 'go', at: at + 1}) }
    }
  }
  root.addEventListener('keydown', e => {
    const a = action(e)
    if (!a || (e.target !== root && e.target.tagName === 'BUTTON' && (e.key === ' ' || e.key === 'Enter'))) return
    e.preventDefault(); e.stopPropagation(); press(...a)
  })
  root.addEventListener('pointerdown', e => { if (e.target.tagName !== 'BUTTON') root.focus({preventScroll: true}) })
  $.play.addEventListener('click', () => { film.toggle(); root.focus({preventScroll: true}) })
  const fresh = () => {
    const r = row()
    clocks = times(); $.none.hidden = !!r.bytes; $.none.textContent = r.problem || ''
    $.stage.style.setProperty('--ratio', r.width ? r.width / r.height : 16 / 9)
    film.open(r, clocks); draw(); list()
  }
  let last = id()
  listen('change:row', () => { if (id() !== last) { last = id(); mine = null; moving = false; fresh() } else if (!mine) draw(); list() })
  listen('change:done', list)
  listen('change:notice', draw)
  listen('change:saved', state)
  listen('msg:custom', (m, buffers) => {
    if (m.type === 'film') film.receive(m, buffers?.[0])
    if (m.type === 'kept') { pending.delete(m.seq); state(); setTimeout(settle, 60) }
  })
  timer = setInterval(state, 1000)
  fresh(); state()
  return end
}

export default {render}

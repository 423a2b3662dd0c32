// One viewer from its parts: what it hears from Python and from the film, how it begins and ends.

/** Builds a viewer in an element; returns what removes it. */
function mount(model, el) {
  const stop = new AbortController(), {signal} = stop, v = makeView(model, signal), {s, $, get, set} = v, heard = hearing(model, signal)
  v.film = makeFilm(model, v, {
    frame: i => { s.frame = v.root.dataset.frame = i; v.moved(); set('frame', i, v.film.playing) },
    shown: i => { v.root.dataset.shown = i },
    playing: p => {
      flag(v.root, 'playing', p)
      put($.play, 'aria-label', p ? 'Pause' : 'Play'); $.play.title = `${p ? 'Pause' : 'Play'} (space)`
      set('frame', s.frame); set('playing', p)
    },
    status: (state, text, share) => {
      v.root.dataset.video = state
      write($.status, text + (share ? `: ${round(share * 100)} %` : ''))
      $.stage.hidden = state === 'none'
      if (state === 'ready') v.moments()
    },
  }, signal)
  v.ask = makeAsk(model, late => { s.late = late; v.what() }, signal)
  layout(v)
  for (const part of [answers, lanes, timeAxis, moving, pointing, whatIf, panels, keys]) part(v)

  v.changed = k => {
    $[k]?.pick?.()
    const value = get(k)
    if (['layer', 'head', 'how'].includes(k)) { v.remap(); if (v.hidden().length) v.revise() }
    else if (['order', 'rows', 'pinned', 'folded'].includes(k)) v.arrange()
    else if (k === 'scale') v.redraw()
    else if (k === 'moved') { v.ends(); v.redraw() }
    else if (k === 'lane') { if (value !== s.lane) v.pick(v.lane()) }
    else if (k === 'speed') v.film.rate(value)
    else if (k === 'frame') { if (value !== s.frame && !v.film.playing) v.go(value, true) }
    else if (k === 'playing') { if (value !== v.film.playing) v.toggle() }
    else if (!s.ruling && JSON.stringify([v.hidden(), get('keep')]) !== s.rule) { v.revise(); v.redraw() }
  }
  const told = (m, buffers) => {
    if (m.type === 'video') return v.film.receive(m, buffers)
    const kind = v.ask.take(m)
    if (!kind) return
    s.trouble = m.error ?? ''
    if (kind === 'preview') s.preview = null
    if (m.answers) {
      const maps = buffers?.length && String(m.show) === String(v.shows()) ? {maps: typed(buffers[0], 'float32'), n: m.seen} : null
      if (kind !== 'preview') s.ruled = maps
      v.see(maps ?? s.ruled)
      s[kind === 'preview' ? 'preview' : 'answers'] = Object.fromEntries(m.answers.map(a => [a.name, a])); v.labels(); v.detail()
    }
    if ('needed' in m) { s.needed[`${m.question} ${m.span}`] = m.needed; v.ends() }
    if (m.share) { s.curves[m.question] = m; if (s.panel === 'curves') v.curves() }
    v.what()
    if (m.answers && !s.drag) v.say($.what.querySelector(kind === 'preview' ? '.tqn-preview' : '.tqn-soft')?.textContent)
  }

  el.append(v.root)
  themes(model, dark => {
    s.ramp = ramp(dark ? 'dark' : 'light').map(([r, g, b]) => r + 256 * g + 65536 * b + 255 * 2 ** 24)  // as a pixel lies in memory
    flag(v.root, 'dark', dark)
    $.tones.style.background = `linear-gradient(90deg, ${PALETTE[dark ? 'dark' : 'light'].tones})`
    v.redraw()
  }, signal)
  const watch = new ResizeObserver(() => { v.fit(); v.draw(); v.shade() })
  v.stage = v.meta.video !== false
  for (const e of [v.root, $.board]) watch.observe(e)
  const around = v.root.closest('.jp-WindowedPanel-outer, .jp-Notebook')
  if (around) watch.observe(around)
  v.remap(); v.openSprite(); v.revise()
  v.film.rate(get('speed')); v.film.load()
  v.go(get('frame'), true)
  for (const k of Object.keys(STATE)) heard(`change:${k}`, () => v.changed(k))
  heard('msg:custom', told)
  if (get('playing')) v.film.play()
  return () => { stop.abort(); watch.disconnect(); v.root.remove() }
}

/** What anywidget calls, and the page. */
export function render({model, el}) {
  let end = null, due = false
  const refuse = text => el.replaceChildren(shared('div.viewer', message(text)))
  const start = () => {
    const error = model.get('error')
    due = false; end?.(); end = null
    el.replaceChildren()
    if (error) return refuse(error)
    try { end = mount(model, el) } catch (e) { refuse(e.message) }
  }
  const again = () => { if (!due) { due = true; queueMicrotask(() => due && start()) } }
  const names = ['meta', 'attn', 'error'].map(k => `change:${k}`)
  for (const n of names) model.on(n, again)
  start()
  return () => { due = false; for (const n of names) model.off(n, again); end?.() }
}

export default {render}

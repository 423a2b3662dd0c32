// Moments: spans in the lanes, whose ends a person may move, by mouse or by keys.

function moving(v) {
  const {asked, columns, times, at, F, N, s, $, get, on} = v
  const same = (a, b) => String(a) === String(b), told = m => m.map(f => v.when(at(f))).join(' – ')
  s.needed = {}  // what hiding a span costs, by question and span
  /** The moments of a question, as they were read or as they were moved. */
  v.found = i => get('moved')[asked[i].name] ?? asked[i].moments ?? []

  /** Moment k of question i is now this span. */
  const move = (i, k, span, slow) => {
    const {[asked[i].name]: _, ...others} = get('moved'), all = v.found(i).map((m, j) => j === k ? span : m)
    v.set('moved', same(all, asked[i].moments) ? others : {...others, [asked[i].name]: all}, slow)
    v.ends(); v.redraw()
  }
  const back = (i, k) => { move(i, k, asked[i].moments[k]); v.say(`Put back: ${told(asked[i].moments[k])}`) }
  /** Put one end at a frame, and show the frame there. */
  const setEnd = (i, k, e, frame, slow) => {
    const m = moveEnd(v.found(i)[k], e, frame, F)
    move(i, k, m, slow)
    v.go(m[e] - e, true)
  }

  for (const r of v.rows) r.grips = (r.q.moments ?? []).flatMap((_, k, all) => ['start', 'end'].map((name, e) => {
    const end = () => v.found(r.i)[k][e], what = `${r.q.name}: ${name} of the moment${all[1] ? ' ' + (k + 1) : ''}`
    const g = h(`div.grip.is-${name}`, {role: 'slider', label: what, 'aria-valuemin': 0, 'aria-valuemax': F,
      title: `${name}: drag; arrows, with Shift by clips; Backspace puts it back`})
    v.drag(g, ev => ev.clientX - v.x(at(end())) * s.width, (ev, from) => {
      const t = s.view[0] + (ev.clientX - from) / s.width * v.wide(), f = frameAt(times, t)
      setEnd(r.i, k, e, f + (at(f + 1) - t < t - at(f)), true)
      return from
    })
    on(g, 'focus', () => v.pick(r.i))
    on(g, 'keydown', ev => {
      const f = end(), step = ev.shiftKey ? max(1, round(F / N)) : 1, {key} = ev
      const to = {ArrowLeft: f - step, ArrowDown: f - step, ArrowRight: f + step, ArrowUp: f + step, Home: 0, End: F}[key]
      if (key === 'Escape') focusOn(r.el)
      else if (key === 'Backspace' || key === 'Delete') back(r.i, k)
      else if (to != null) setEnd(r.i, k, e, to)
      else return
      ev.preventDefault(); ev.stopPropagation()
    })
    $.grips.append(g)
    return g
  }))
  /** The focus goes to the ends of the chosen lane's moments, one after the other. */
  v.toEnd = () => {
    const all = v.rows[v.lane()].grips
    all[(all.indexOf(document.activeElement) + 1) % all.length]?.focus()
  }

  /** Handles stand where their spans end, unless that is out of sight. */
  v.place = () => {
    if (!$.grips) return
    const y0 = box($.grips).top, low = box($.axis).top, top = box($.film).bottom, stuck = r => get('pinned').includes(r.q.name)
    const high = max(top, ...v.rows.filter(stuck).map(r => box(r.el).bottom))
    for (const r of v.rows) {
      const b = box(r.track), seen = s.order.includes(r.i) && b.top >= (stuck(r) ? top : high) - 1 && b.bottom <= low + 1
      r.grips.forEach((g, j) => {
        const f = v.found(r.i)[j >> 1][j % 2], x = v.x(at(f))
        g.hidden = !seen || x < -1e-9 || x > 1 + 1e-9
        g.style.cssText = `left: ${100 * x}%; top: ${b.top - y0}px; height: ${b.height}px`
        valued(g, f, `${v.when(at(f))}, frame ${f}`)
      })
    }
  }
  on($.scroll, 'scroll', v.place)

  /** The numbers of the chosen lane's moments. */
  v.ends = () => {
    const i = v.lane(), q = asked[i]
    v.hold($.spans)
    $.spans.replaceChildren(...v.found(i).map((m, k) => {
      const moved = !same(m, q.moments[k]), key = `${i} ${m}`, lost = s.needed[key] ?? (moved ? null : q.needed?.[k])
      if (lost == null && !(key in s.needed) && v.live) v.ask.put({type: 'needed', question: i, span: m})
      return h('div', h('i.stroke', MUTE), h('b', told(m)), h('span.soft', `${v.frames(...m)}, ${round(100 * inside(v.map(i), columns, m))} % of the attention`
        + (lost == null ? '' : `, needed ${lost.toFixed(2)}`)), moved && button('plain', 'Put back (Backspace)', () => back(i, k), 'Put back'))
    }))
  }
}

// What if the model did not see a part: choosing a range, hiding it, and what changes.

function whatIf(v) {
  const {asked, spans, at, bin, N, Q, live, s, $, get, hidden, say, hold} = v

  /** Choose clips [a, b), or none; the model is asked at once what it says without them. */
  v.choose = (a, b) => {
    const had = s.range
    s.range = b ? [a, b] : null
    if (String(had) === String(s.range)) return
    if (!b) { hold($.pop); $.pop.hidden = $.range.hidden = true; return quit() }
    v.shade(); v.what()
    if (live) v.ask.put({type: 'whatif', hidden: merge([...(get('keep') ? [] : hidden()), s.range], N), keep: false, show: v.shows()}, 'preview')
  }
  /** No preview any more: lanes say again what follows from what is hidden. */
  const quit = () => { v.ask.drop('preview'); s.preview = null; s.trouble = ''; v.see(s.ruled); v.labels(); v.detail(); v.what() }
  /** Layer, head and rollout on show, which the maps that the kernel sends must be of. */
  v.shows = () => [get('layer'), get('head'), get('how')]
  /** Lanes show these maps, those before as ghosts; none: the maps before. */
  v.see = maps => { if (s.now !== maps) { s.now = maps; v.redraw(); if (s.panel === 'table') v.table() } }
  v.shade = () => { $.range.hidden = !s.range; if (s.range) { v.band($.range, ...s.range); if (!$.pop.hidden) v.popover() } }
  v.popover = () => {
    const [a, b] = s.range, r = v.rows[v.lane()], m = v.map(r.i, !s.ruled), f0 = spans[2 * a], f1 = spans[2 * b - 1], whole = box(v.root)
    const part = sum(m.slice(floor(a / bin), ceil(b / bin))) / sum(m)
    $.pop.replaceChildren(
      h('div', h('b', v.frames(f0, f1)), h('span', `${b - a} clip${b - a > 1 ? 's' : ''}, ${clock(at(f1) - at(f0))}`),
        h('span', `${round(100 * part)} % of the attention of ${r.q.name}`), $.count = h('span.preview', {role: 'status'})),
      h('div.acts',
        live && button('plain', 'Hide from the model (H)', () => v.hide(false), 'Hide'),
        live && button('plain', 'Keep only this for the model (K)', () => v.hide(true), 'Keep only'),
        button('plain', 'Zoom in', () => { v.zoom(at(f0), at(f1)); v.choose() }, 'Zoom'),
        button('plain', 'Loop this range (L)', () => v.again(), 'Loop'), button('nav', 'Close (Escape)', () => v.choose(), icon('close'))))
    $.pop.hidden = false
    write($.count, previewed())
    const p = box($.range), t = box(r.track), {offsetWidth: w, offsetHeight: tall} = $.pop, y0 = whole.top
    const inside = y => y >= 6 && y + tall + 6 <= whole.height, seen = y => y0 + y >= 0 && y0 + y + tall <= innerHeight
    const places = [t.bottom - y0 + 6, t.top - y0 - tall - 6].filter(inside)  // below the lane, else above it
    const x = clamp((p.left + p.right) / 2 - whole.left - w / 2, 6, max(6, whole.width - w - 6))
    $.pop.style.transform = `translate(${x}px, ${places.find(seen) ?? places[0] ?? max(6, whole.height - tall - 6)}px)`
    say(`Chosen: ${v.frames(f0, f1)}, ${b - a} clips`)
  }

  const changing = n => `${n} of ${Q} answers ${n === 1 ? 'changes' : 'change'}`
  const changed = () => v.rows.filter(r => !v.said(r.i).same).length
  /** What the range would change, if it were hidden: beyond what is hidden already. */
  const previewed = () => {
    if (!live || !s.range) return ''
    return s.preview ? `Preview: hidden${hidden().length && !get('keep') ? ' as well' : ''}, ${changing(changed())}` : 'Preview …'
  }

  /** Play the chosen range, or the clip at the play head, again and again; or stop that. */
  v.again = () => {
    const c = clipAt(spans, s.frame), [a, b] = s.range ?? [c, c + 1]
    s.loop = v.film.loop = s.loop && !s.range ? null : [spans[2 * a], spans[2 * b - 1]]
    if (s.range) v.choose()
    if (s.loop) { v.film.seek(s.loop[0]); if (!v.film.playing) v.film.play() }
    v.what(); v.redraw()
    say(s.loop ? `Loops ${v.frames(...s.loop)}` : 'No loop')
  }

  v.hide = keep => {
    if (!live) return say('This needs a running notebook.')
    const c = clipAt(spans, s.frame), chosen = s.range ?? [c, c + 1], old = hidden()
    hold($.pop)
    s.range = s.preview = null
    v.ask.drop('preview')
    v.rule(keep === get('keep') ? [...old, chosen] : [chosen], keep)
    $.pop.hidden = $.range.hidden = true
  }
  /** A new rule for what the model sees. */
  v.rule = (ranges, keep, undo) => {
    if (!undo) s.undo.push([hidden(), get('keep')])
    s.ruling = true                                       // both are set before the kernel is asked, once
    v.set('hidden', merge(ranges, N)); v.set('keep', keep)
    s.ruling = false
    v.revise(); v.redraw()
  }
  v.back = () => { const u = s.undo.pop(); if (u) v.rule(...u, true) }
  v.revise = () => {
    const ranges = hidden(), keep = get('keep')
    s.rule = JSON.stringify([ranges, keep]); s.trouble = ''
    if (ranges.length && live) v.ask.put({type: 'whatif', hidden: ranges, keep, show: v.shows()})
    else { v.ask.drop('whatif'); s.late = false; s.answers = null; v.see(s.ruled = null); v.labels(); v.detail() }
    v.what()
  }
  /** The line below the lanes: what is hidden, how many answers change, what a preview would change, and what went wrong. */
  v.what = () => {
    const ranges = hidden(), keep = get('keep'), now = q => s.answers?.[q.name] ?? q
    const count = s.answers ? changing(asked.filter(q => String(now(q).said) !== String(q.said)).length) : ''
    const chip = (r, i) => {
      const text = v.frames(spans[2 * r[0]], spans[2 * r[1] - 1])
      return h('span.chip', text, button('nav', `Take back ${text}`, () => v.rule(ranges.filter((_, j) => j !== i), keep), icon('close')))
    }
    const rule = ranges.length ? [h('b', keep ? 'Only' : 'Without'), ...ranges.map(chip), h('span.soft', count),
      s.undo.length && button('plain', 'Undo (U)', v.back, 'Undo'), button('plain', 'Show all to the model (C)', () => v.rule([], false), 'Show all')] : []
    const trouble = s.trouble || (s.late ? 'The kernel has not answered for 5 s: it is busy or has stopped. All else works.' : ''), preview = previewed()
    const looped = s.loop && h('span.chip', `Loop ${v.frames(...s.loop)}`, button('nav', 'Stop the loop (L)', () => v.again(), icon('close')))
    hold($.what)
    $.what.hidden = !(ranges.length || preview || trouble || looped)
    $.what.replaceChildren(...rule.filter(Boolean), looped || '', h('span.preview', preview), h('span.trouble', {role: 'status'}, trouble))
    if ($.count) write($.count, preview)
    flag(v.root, 'preview', !!s.preview)
  }
}

// The pointer: what lies under it, clicks, scrubbing along the film, choosing a range along a lane, and the wheel.

function pointing(v) {
  const {times, spans, cols, columns, edges, end, t0, s, $, on} = v
  const px = e => e.clientX - box($.film).left, rowAt = e => v.rows.find(r => r.track.contains(e.target))

  /** The frame and column at pixel p; in a lane the highest that share it. */
  function under(p, r) {
    const per = v.wide() / s.width, left = s.view[0] + floor(p) * per
    const [a, b] = [left, left + per].map((t, i) => lastAtMost(edges, t + (i ? -1e-6 : 1e-6) * per))
    if (r && b - a > 1) { const c = argmax(v.map(r.i), min(a, cols - 1), min(b + 1, cols)); return {c, frame: v.middle(c)} }
    const frame = frameAt(times, clamp(s.view[0] + p * per, t0, end))
    return {frame, c: lastAtMost(columns, frame, 2)}
  }

  function tip(e, r) {
    const p = px(e), {c, frame} = under(p, r), value = r && v.map(r.i)[c], whole = box(v.root)
    write($.tip1, r ? `${number(value)}   ${v.over(value)} uniform${s.now ? ' (was ' + times_(v.map(r.i, true)[c] / v.uniform) + ')' : ''}` : `frame ${frame}`)
    write($.tip2, r ? `${v.bin > 1 ? 'highest of clips' : 'clip'} ${v.clips(c)}, ${v.frames(v.first(c), v.after(c))}` : `clip ${clipAt(spans, frame)}`)
    write($.tip3, r ? `${v.when(edges[c])} – ${v.when(edges[c + 1])}` : v.when(times[frame]))
    $.hover.hidden = $.tip.hidden = false
    $.hover.style.transform = `translateX(${p}px)`
    if (s.tipped !== frame) {
      s.tipped = frame
      $.look.hidden = !s.sprite && !v.film.ready
      v.paint($.look, v.sprite(times[frame]))
      v.film.picture(frame, video => { if (s.tipped === frame) { v.paint($.look, video); v.root.dataset.preview = frame } }, true)
    }
    const {offsetWidth: w, offsetHeight: tall} = $.tip, y = box(r?.track ?? $.slider).top - whole.top, up = y - tall - 8
    $.tip.style.transform = `translate(${clamp(e.clientX - whole.left - w / 2, 4, whole.width - w - 4)}px, ${up > 0 ? up : y + (r ? 44 : 70)}px)`
  }
  v.untip = () => { $.tip.hidden = $.hover.hidden = true; s.tipped = -1 }

  on($.board, 'pointerdown', e => {
    const r = rowAt(e)
    if (e.button || !(r || $.slider.contains(e.target))) return
    e.target.setPointerCapture(e.pointerId)
    e.preventDefault()
    s.drag = {r, p: px(e), clip: clipAt(spans, under(px(e)).frame)}
    if (r) v.pick(r.i, true); else { focusOn($.slider); v.go(under(s.drag.p).frame, true) }
  })
  on($.board, 'pointermove', e => {
    const p = px(e), r = rowAt(e), drag = s.drag
    if (!drag) return r || $.slider.contains(e.target) ? tip(e, r) : v.untip()
    v.untip()
    if (!drag.r) return v.go(under(p).frame, true)
    if (!drag.moved && abs(p - drag.p) < 5) return
    drag.moved = true
    const c = clipAt(spans, under(p).frame)
    v.choose(min(drag.clip, c), max(drag.clip, c) + 1)
  })
  on($.board, 'pointerup', () => {
    const d = s.drag
    s.drag = null
    if (d?.moved) v.popover()
    else if (d?.r) { v.choose(); v.go(under(d.p, d.r).frame) } else if (d) v.say(v.where(s.frame))
  })
  on($.board, 'pointercancel', () => { s.drag = null; v.choose() })
  on($.board, 'pointerleave', v.untip)
  on($.board, 'wheel', e => {
    const {ctrlKey, metaKey, deltaX, deltaY} = e, d = deltaX * v.wide() / s.width
    if (ctrlKey || metaKey) { e.preventDefault(); v.scale(Math.exp(clamp(deltaY, -50, 50) / 100), times[under(px(e)).frame]) }
    else if (!$.whole.hidden && abs(deltaX) > abs(deltaY)) { e.preventDefault(); v.zoom(s.view[0] + d, s.view[1] + d) }
  }, {passive: false})
}

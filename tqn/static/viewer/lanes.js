// The lanes: which map each question shows, their order, the chosen one, and how one is drawn.

function lanes(v) {
  const {asked, cols, edges, at, s, $, get} = v
  const part = (maps, i) => maps.subarray(i * cols, (i + 1) * cols)
  /** What a question attends to: now, with what is hidden, or before. */
  v.map = (i, before) => part(!before && s.now?.maps || s.maps, i)
  v.top = i => { const a = v.map(i), k = argmax(a); return {at: k, top: a[k], when: (edges[k] + edges[k + 1]) / 2} }
  v.lane = () => clamp(get('lane'), 0, v.Q - 1)

  v.rows = asked.map((q, i) => {
    const r = {q, i}
    r.el = h('div.row.lane', {role: 'option', 'data-name': q.name},
      h('div.name', h('b', {title: q.name}, q.name), r.note = h('span')), r.track = h('div.track', r.canvas = h('canvas', MUTE)),
      h('div.said', r.mark = h('i'), h('div', h('div.first', r.answer = h('span'), r.p = h('b')), r.second = h('div.second'))))
    v.on(r.el, 'focus', () => v.pick(i))
    v.on(r.el, 'pointerdown', e => r.track.contains(e.target) || v.pick(i, true))
    return r
  })

  /** The maps that layer, head and rollout ask for. */
  v.remap = () => {
    const how = get('how') === 'rollout' && v.roll
    $.layer.disabled = $.head.disabled = !!how
    s.now = s.ruled = null
    s.maps = how || combine(v.attn, v.shape, get('layer'), get('head'))
    s.info = asked.map((q, i) => { const a = v.map(i, true), k = argmax(a); return {top: a[k], peak: edges[k], p: q.p, focus: focus(a)} })
    s.top = max(...s.info.map(m => m.top))
    v.arrange()
  }

  v.arrange = () => {
    const held = document.activeElement
    const heldBy = get('pinned'), folded = get('folded')
    s.order = shownLanes(order(s.info, get('order')), asked, heldBy, $.find ? $.find.value : '')
    for (const r of v.rows) {
      const pinned = heldBy.includes(r.q.name)
      flag(r.el, 'pinned', pinned); flag(r.el, 'folded', folded.includes(r.q.name))
      r.el.style.zIndex = pinned ? 2 : ''
    }
    $.none.hidden = s.order.length > 0
    const els = s.order.map(i => v.rows[i].el)
    if (els.length !== $.lanes.children.length || els.some((e, i) => e !== $.lanes.children[i])) {
      $.lanes.replaceChildren(...els)
      if (els.includes(held)) held.focus()
    }
    v.labels(); v.pick(v.lane()); v.detail(); v.fit(); v.redraw()
    if (s.panel === 'table' || s.panel === 'grid') v[s.panel]()
  }

  v.pick = (i, focus) => {
    const same = s.lane === i
    s.lane = i
    v.set('lane', i)
    for (const r of v.rows) { put(r.el, 'aria-selected', r.i === i); for (const e of [r.el, ...r.grips]) e.tabIndex = r.i === i ? 0 : -1 }
    if (focus) focusOn(v.rows[i].el)
    if (same) return
    v.detail(); v.redraw()
    if (s.panel === 'curves' || s.panel === 'grid') v[s.panel]()
    if (s.range && !$.pop.hidden) v.popover()
  }

  /** Bars of a map, and as ghosts those of another: its context, width, height, pixels of the screen in one of the page, and the highest bar. */
  v.bars = (canvas, a, top, ghost) => {
    const [g, W, H, k] = sharp(canvas), room = H - min(4, canvas.clientHeight / 8) * k
    const image = g.createImageData(W, H), dots = new Uint32Array(image.data.buffer)
    const fill = (a, colour) => pool(a, edges, ...s.view, W).forEach((a, c) => {
      const share = min(1, a / top)
      if (share > 0) for (let y = round(H - max(k, share * room)), tone = colour(a); y < H; y++) dots[y * W + c] = tone
    })
    if (ghost) fill(ghost, () => s.ghost)
    fill(a, a => s.ramp[round(255 * darkness(a / v.flat()))])
    g.putImageData(image, 0, 0)
    return [g, W, H, k, room]
  }

  /** One lane: bars, relative to the lane, whose tone says times uniform; dotted at uniform; a bracket around the evidence, a stroke under moments. */
  v.drawLane = (r, ink, soft, ground, accent) => {
    const shared = get('scale') === 'shared', now = s.now && v.map(r.i), peak = i => max(s.info[i].top, s.now ? v.top(i).top : 0)
    const top = shared ? (s.now ? max(...s.order.map(peak)) : s.top) : peak(r.i)
    const [g, W, H, k, room] = v.bars(r.canvas, v.map(r.i), top, now && v.map(r.i, true))
    const place = f => v.x(at(f)) * W, e = [r.q.extent ?? []].flat(2).map(place)
    g.save()
    g.globalCompositeOperation = 'destination-over'; g.globalAlpha = .06; g.fillStyle = ink
    e.forEach((x, i) => i % 2 && g.fillRect(e[i - 1], 0, x - e[i - 1], H))
    g.restore()
    const path = (width, colour, ...lines) => {
      g.lineWidth = width * k; g.strokeStyle = colour; g.beginPath()
      for (const [[x0, y0], ...rest] of lines) { g.moveTo(x0, y0); for (const p of rest) g.lineTo(...p) }
      g.stroke()
    }
    const y = round(H - v.flat() / top * room) + .5
    if (y > 0) { g.setLineDash([k, 3 * k]); path(1, soft, [[0, y], [W, y]]); g.setLineDash([]) }
    const o = 1.2 * k, bracket = (x, i) => {
      const p = x + clamp((e[i ^ 1] - x) / 3, -5 * k, 5 * k)
      return [[p, o], [x, o], [x, H - o], [p, H - o]]
    }
    for (const style of [[4.6, ground], [1.8, ink]]) path(...style, ...e.map(bracket))
    for (const m of v.found(r.i)) path(3, accent, m.map(f => [place(f), H - 2 * k]))
  }
}

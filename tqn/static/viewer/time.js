// One axis of time for all lanes: the filmstrip above, the ticks below, the play head, what is hidden, and zoom.

/** A canvas with as many pixels as the screen has there: its context, width, height, and pixels of the screen in one of the page. */
function sharp(c) {
  const k = devicePixelRatio || 1, W = max(1, round(c.clientWidth * k)), H = max(1, round(c.clientHeight * k)), g = c.getContext('2d')
  if (c.width !== W || c.height !== H) [c.width, c.height] = [W, H]; else g.clearRect(0, 0, W, H)
  return [g, W, H, k]
}

function timeAxis(v) {
  const {asked, times, spans, end, at, F, N, t0, s, $, get} = v

  // ---- pictures

  /** Fill a canvas with a video or a part of the filmstrip. */
  v.paint = (c, picture, x = 0, w = c.width) => {
    if (!picture) return
    const [img, sx, sw, sh] = Array.isArray(picture) ? picture : [picture, 0, picture.videoWidth, picture.videoHeight], g = c.getContext('2d')
    const k = min(sw / w, sh / c.height)
    g.imageSmoothingQuality = 'high'
    if (k) g.drawImage(img, sx + (sw - w * k) / 2, (sh - c.height * k) / 2, w * k, c.height * k, x, 0, w, c.height)
  }
  /** The picture of the filmstrip that is nearest to t. */
  v.sprite = t => {
    if (!s.sprite) return null
    const {img, taken: k} = s.sprite, w = img.width / k.length, i = lastAtMost(k, t), j = min(i + 1, k.length - 1)
    return [img, (k[j] - t < t - k[i] ? j : i) * w, w, img.height]
  }
  v.openSprite = async () => {
    const strip = v.model.get('strip'), taken = typed(v.model.get('strip_times'), 'float64')
    if (!strip?.byteLength || !taken.length) return
    const img = await createImageBitmap(new Blob([strip])).catch(() => null)
    if (!img || v.signal.aborted) return img?.close()
    s.sprite = {img, taken}
    atEnd(v.signal, () => img.close())
    v.moments(); v.redraw()
  }

  // ---- drawing

  let due = 0
  v.redraw = () => { due ||= requestAnimationFrame(() => { due = 0; v.draw() }) }
  atEnd(v.signal, () => cancelAnimationFrame(due))
  v.x = t => (t - s.view[0]) / v.wide()  // where a time is, from 0 to 1
  v.draw = () => {
    if (!$.film.clientWidth) return
    const css = getComputedStyle(v.root), [ink, soft, ground, accent] = ['--ink', '--soft', '--bg', '--accent'].map(n => css.getPropertyValue(n).trim())
    const [r, g, b] = rgb(soft)
    s.ghost = r + 256 * g + 65536 * b + 72 * 2 ** 24
    for (const i of s.order) v.drawLane(v.rows[i], ink, soft, ground, accent)
    drawFilm(); drawTicks(soft, css.fontFamily); veil(); drawMini(); v.moved(); v.place()
    v.root.dataset.ready = '1'
  }
  function drawFilm() {
    const [, W, H, k] = sharp($.film), n = max(1, round(W / (H * v.aspect)))
    for (let j = 0; j < n; j++) {
      const a = round(j * W / n), b = round((j + 1) * W / n) - (j < n - 1 ? k : 0)
      v.paint($.film, v.sprite(s.view[0] + (j + .5) / n * v.wide()), a, b - a)
    }
  }
  function drawTicks(soft, font) {
    const [g, W, , k] = sharp($.axis), all = ticks(...s.view.map(t => t - t0), max(2, W / k / 78)), step = all[1] - all[0] || 1
    g.fillStyle = soft; g.font = `${11 * k}px ${font}`; g.textBaseline = 'top'
    for (const t of all) {
      const p = min(W - k, round(v.x(t + t0) * W)), text = clock(t, step < .1 ? 2 : step < 1 ? 1 : 0), w = g.measureText(text).width
      g.fillRect(p, 0, k, 4 * k)
      g.fillText(text, clamp(p - w / 2, 0, W - w), 7 * k)
    }
  }
  /** Lay an element over clips [a, b). */
  v.band = (e, a, b) => {
    const l = max(0, v.x(at(spans[2 * a]))), r = min(1, v.x(at(spans[2 * b - 1])))
    e.style.left = `${100 * l}%`; e.style.width = `${100 * max(0, r - l)}%`
    return e
  }
  const veil = () => {
    $.veil.replaceChildren(...unseen(v.hidden(), get('keep'), N).map(r => v.band(h('div.hidden'), ...r)))
    $.loop.hidden = !s.loop
    if (s.loop) v.band($.loop, ...s.loop.map((f, i) => clipAt(spans, f - i) + i))
  }
  /** The chosen lane over the film from end to end, and which part of it is on show. */
  function drawMini() {
    if ($.mini.hidden) return
    const view = s.view, [a, b] = view.map(t => 100 * (t - t0) / (end - t0)), m = v.map(v.lane())
    s.view = [t0, end]
    v.bars($.small, m, m[argmax(m)])
    s.view = view
    $.thumb.style.left = `${a}%`; $.thumb.style.width = `${b - a}%`
    valued($.mini, round(a + b >> 1), `${v.when(view[0])} to ${v.when(view[1])}`)
  }

  /** What follows the play head. */
  v.moved = () => {
    const i = s.frame, p = v.x((times[i] + (i + 1 < F ? times[i + 1] : end)) / 2)
    $.now.style.transform = `translateX(${(p * s.width).toFixed(2)}px)`
    $.now.hidden = p < 0 || p > 1
    if (document.activeElement !== $.time) $.time.value = v.when(times[i])
    write($.place, `frame ${i} of ${F - 1}   clip ${clipAt(spans, i)} of ${N - 1}`)
    valued($.slider, i, v.where(i))
    if (v.film.playing) v.follow()
    s.here?.()
  }
  // ---- room for film and lanes

  /** An element that is drawn along: begin gives where from, move where now. */
  const drag = v.drag = (el, begin, move) => {
    let from = null
    v.on(el, 'pointerdown', e => { e.preventDefault(); el.setPointerCapture(e.pointerId); el.focus(); from = begin(e) })
    v.on(el, 'pointermove', e => { if (from != null) from = move(e, from) })
    v.on(el, 'lostpointercapture', () => { from = null })
  }
  const keyed = (el, keys, act) => v.on(el, 'keydown', e => { if (e.key in keys) { e.preventDefault(); e.stopPropagation(); act(keys[e.key]) } })

  /** Film and lanes share the height that is in sight, and lanes scroll where it is short. */
  v.fit = () => {
    const {root} = v, head = $.slider.parentNode, narrow = root.clientWidth < 560, panel = root.closest('.jp-WindowedPanel-outer, .jp-Notebook')
    const full = v.filled(), framed = window !== window.parent && !panel
    const sight = full ? innerHeight : min(max(innerHeight, framed ? 640 : 480), panel?.clientHeight || Infinity)
    const set = (dense, film, lanes) => {
      flag(root, 'compact', dense)
      if (abs(film - (s.high ?? 0)) >= 2) root.style.setProperty('--film', `${s.high = floor(film)}px`)
      $.scroll.style.maxHeight = lanes ? `${ceil(lanes)}px` : ''
    }
    if (!root.clientWidth) return
    if (narrow) set(get('rows') === 'compact', s.film || 240, 0)
    else {
      const tall = dense => { flag(root, 'compact', dense); return $.lanes.offsetHeight }
      const rest = head.offsetHeight + $.axis.parentNode.parentNode.offsetHeight + 8
      const others = box($.legend).bottom - box(root).top - box($.board).height - box($.top).height + 14
      const room = sight - others - rest, rows = get('rows'), high = rows === 'compact' ? tall(true) : tall(false)
      const most = full ? .62 * root.clientWidth / v.ratio : FILM[1]     // on a full screen: as high as a film is that is as wide as it may be
      const got = share(room, high, rows === 'auto' ? tall(true) : high, v.stage ? [FILM[0], most] : [96, 170], s.film)
      set(rows === 'auto' ? got.dense : rows === 'compact', got.film, got.lanes + rest + 2)
    }
    put($.split, 'aria-valuenow', round($.top.offsetHeight))
    let y = head.offsetHeight
    for (const i of s.order ?? []) if (get('pinned').includes(asked[i].name)) { v.rows[i].el.style.top = `${y}px`; y += v.rows[i].el.offsetHeight }
    v.measure()
  }
  /** Let the film be this high; 0: as it fits. */
  v.filmHeight = y => { s.film = y && clamp(round(y), FILM[0] - 50, 800); v.fit(); v.redraw() }
  v.filled = () => document.fullscreenElement === v.root
  v.full = () => v.filled() ? document.exitFullscreen()
    : v.root.requestFullscreen?.().catch(() => v.say('No full screen here.'))
  v.on(document, 'fullscreenchange', () => { v.fit(); v.redraw() })
  v.on(window, 'resize', () => v.fit())
  drag($.split, e => e.clientY - $.top.offsetHeight, (e, from) => { v.filmHeight(e.clientY - from); return from })
  keyed($.split, {ArrowUp: -20, ArrowDown: 20, Enter: 0}, by => v.filmHeight(by && $.top.offsetHeight + by))
  v.on($.split, 'dblclick', () => v.filmHeight(0))

  v.measure = () => {
    const [b, f, a] = [$.board, $.film, $.axis].map(box)
    const place = {left: `${f.left - b.left}px`, width: `${f.width}px`, top: `${f.top - b.top}px`, bottom: `${b.bottom - a.top}px`}
    s.width = f.width
    for (const e of [$.now.parentNode, $.grips]) if (e) Object.assign(e.style, place)
  }

  // ---- zoom

  v.zoom = (a, b) => {
    const all = end - t0, len = clamp(b - a, min(all, 8 * all / F), all), from = clamp((a + b - len) / 2, t0, end - len)
    s.view = len > .999 * all ? [t0, end] : [from, from + len]
    $.whole.hidden = $.mini.hidden = len > .999 * all
    v.shade(); v.redraw()
  }
  const pan = d => v.zoom(s.view[0] + d, s.view[1] + d)
  drag($.mini, e => {
    const b = box($.mini), [from, to] = s.view, at = t0 + (e.clientX - b.left) / b.width * (end - t0)
    if (at < from || at > to) pan(at - (from + to) / 2)
    return e.clientX
  }, (e, from) => { pan((e.clientX - from) / box($.mini).width * (end - t0)); return e.clientX })
  keyed($.mini, {ArrowLeft: -.2, ArrowRight: .2, PageUp: -1, PageDown: 1, Home: -1e9, End: 1e9}, by => pan(by * v.wide()))
  v.scale = (k, t = times[s.frame]) => v.zoom(t - (t - s.view[0]) * k, t + (s.view[1] - t) * k)
  v.follow = () => {
    const [a, b] = s.view, t = times[s.frame], k = v.film.playing ? .05 : .5
    if (t < a || t > b) v.zoom(t - (b - a) * k, t + (b - a) * (1 - k))
  }
}

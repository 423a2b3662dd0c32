// One axis of time for all lanes: the filmstrip above, the ticks below, the play head, what is hidden, and zoom.

/** A canvas with as many pixels as the screen has there: its context, width, height, and pixels of the screen in one of the page. */
function sharp(c) {
  const k = devicePixelRatio || 1, W = max(1, round(c.clientWidth * k)), H = max(1, round(c.clientHeight * k)), g = c.getContext('2d')
  if (c.width !== W || c.height !== H) [c.width, c.height] = [W, H]; else g.clearRect(0, 0, W, H)
  return [g, W, H, k]
}

function timeAxis(v) {
  const {times, spans, end, at, F, N, t0, s, $, get} = v

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
    v.signal.addEventListener('abort', () => img.close())
    v.moments(); v.redraw()
  }

  // ---- drawing

  let due = 0
  v.redraw = () => { due ||= requestAnimationFrame(() => { due = 0; v.draw() }) }
  v.signal.addEventListener('abort', () => cancelAnimationFrame(due))
  v.x = t => (t - s.view[0]) / (s.view[1] - s.view[0])  // where a time is, from 0 to 1
  v.draw = () => {
    if (!$.film.clientWidth) return
    const css = getComputedStyle(v.root), [ink, soft, ground] = ['--ink', '--soft', '--bg'].map(n => css.getPropertyValue(n).trim())
    for (const i of s.order) v.drawLane(v.rows[i], ink, soft, ground)
    drawFilm(); drawTicks(soft, css.fontFamily); veil(); v.moved()
    v.root.dataset.ready = '1'
  }
  function drawFilm() {
    const [, W, H, k] = sharp($.film), n = max(1, round(W / (H * v.aspect)))
    for (let j = 0; j < n; j++) {
      const a = round(j * W / n), b = round((j + 1) * W / n) - (j < n - 1 ? k : 0)
      v.paint($.film, v.sprite(s.view[0] + (j + .5) / n * (s.view[1] - s.view[0])), a, b - a)
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
  const veil = () => $.veil.replaceChildren(...unseen(v.hidden(), get('keep'), N).map(r => v.band(h('div.hidden'), ...r)))

  /** What follows the play head. */
  v.moved = () => {
    const i = s.frame, p = v.x((times[i] + (i + 1 < F ? times[i + 1] : end)) / 2)
    $.now.style.transform = `translateX(${(p * s.width).toFixed(2)}px)`
    $.now.hidden = p < 0 || p > 1
    write($.time, v.when(times[i]))
    write($.place, `frame ${i} of ${F - 1}   clip ${clipAt(spans, i)} of ${N - 1}`)
    put($.slider, 'aria-valuenow', i); put($.slider, 'aria-valuetext', v.where(i))
    if (v.film.playing) v.follow()
    s.here?.()
  }
  v.measure = () => {
    const [b, f, a] = [$.board, $.film, $.axis].map(box)
    s.width = f.width
    Object.assign($.now.parentNode.style, {left: `${f.left - b.left}px`, width: `${f.width}px`, top: `${f.top - b.top}px`, bottom: `${b.bottom - a.top}px`})
  }

  // ---- zoom

  v.zoom = (a, b) => {
    const all = end - t0, len = clamp(b - a, min(all, 8 * all / F), all), from = clamp((a + b - len) / 2, t0, end - len)
    s.view = len > .999 * all ? [t0, end] : [from, from + len]
    $.whole.hidden = len > .999 * all
    v.shade(); v.redraw()
  }
  v.scale = (k, t = times[s.frame]) => v.zoom(t - (t - s.view[0]) * k, t + (s.view[1] - t) * k)
  v.follow = () => {
    const [a, b] = s.view, t = times[s.frame], k = v.film.playing ? .05 : .5
    if (t < a || t > b) v.zoom(t - (b - a) * k, t + (b - a) * (1 - k))
  }
}

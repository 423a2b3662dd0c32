// The film of the viewer: fetched in parts, and shown frame by frame.

const RVFC = 'requestVideoFrameCallback', CANNOT = 'This browser cannot play the film.'

/** The film: fetched in parts, shown frame by frame; a clock where there is none. */
function makeFilm(model, data, on, signal) {
  const {times, end} = data, props = {muted: true, playsInline: true, preload: 'auto', ...MUTE}
  const video = h('video.video', props), spy = h('video.spy', props), exact = RVFC in video
  const film = {video, spy, ready: false, frame: 0, shown: -1, playing: false, speed: 1}
  const listen = (e, name, f) => e.addEventListener(name, f, {signal})
  const status = (state, text = '', share) => { film.ready = state === 'ready'; on.status(state, text, share) }
  let parts = [], url, feeds, waits, again, timer, since = 0, now = 0, loop = 0

  const loading = share => status('loading', 'Loading the film', share)
  const ask = part => {
    clearTimeout(timer)
    const silent = () => {
      timer = setTimeout(silent, SLOW)
      if (!film.ready || waits || video.readyState < 3) status('late', 'The film has not come: the kernel is busy or has stopped.')
    }
    timer = setTimeout(silent, SLOW)
    model.send({type: 'video', part})
  }
  film.load = () => {
    if (data.meta.video === false) return status('none')
    loading()
    ask(0)
  }
  film.receive = (m, buffers) => {
    if (url) return
    if (m.error) { clearTimeout(timer); return status('error', m.error) }
    if (m.firsts) return stretch(m, buffers[0])
    if (m.part !== parts.length || !buffers?.length) return
    parts.push(buffers[0])
    loading(parts.length / m.parts)
    if (parts.length < m.parts) return ask(parts.length)
    clearTimeout(timer)
    video.src = spy.src = url = URL.createObjectURL(new Blob(parts, {type: m.mime || 'video/mp4'}))
    parts = []
  }
  const stretch = async (m, piece) => {
    clearTimeout(timer)
    try { await (feeds ??= makeFeeds([video, spy], m, times, end, ask)).take(m, piece) }
    catch { return status('error', CANNOT) }
    if (!film.ready) video.readyState > 1 && begin(); else if (waits) go(); else near()
    aim()
  }
  const near = () => { waits = feeds && !feeds.near(0, film.frame) }
  const go = () => {
    near()
    if (!film.ready && !waits) return begin()  // this frame is there, whatever else is late
    again = video.seeking
    if (!again && !waits) video.currentTime = seekTime(times, film.frame, end)
  }
  const show = i => { if (i !== film.shown) { on.shown(film.shown = i); near() } }
  const tell = i => {
    if (film.loop && film.playing && (i >= film.loop[1] || i < film.loop[0])) return film.seek(film.loop[0])
    if (i !== film.frame) on.frame(film.frame = i)
  }
  const presented = t => { const i = frameAt(times, t); show(i); if (film.playing && !video.paused && !video.seeking) tell(i) }
  const each = (_, m) => { presented(m.mediaTime); video[RVFC](each) }
  if (exact) video[RVFC](each); else listen(video, 'timeupdate', () => presented(video.currentTime))
  const begin = () => {
    if (film.ready) return
    status('ready')
    video.playbackRate = film.speed
    go()
    if (film.playing) { halt(); roll() }
  }
  listen(video, 'loadeddata', begin)
  const late = f => setTimeout(f, exact ? 400 : 0)  // should no frame be announced
  listen(video, 'seeked', () => again ? go() : late(() => video.seeking || film.playing || show(frameAt(times, video.currentTime))))
  listen(video, 'error', () => (url || feeds) && status('error', CANNOT))
  listen(video, 'ended', () => film.loop ? (film.seek(film.loop[0]), roll()) : (tell(times.length - 1), film.pause()))

  film.seek = i => {
    film.frame = clamp(round(i), 0, times.length - 1)
    since = 0
    if (film.ready || feeds) go()
    on.frame(film.frame)
  }
  const tick = at => {
    now = since ? now + (at - since) / 1000 * film.speed : times[film.frame]
    since = at
    if (now >= end && !film.loop) { tell(times.length - 1); return film.pause() }
    tell(now >= end ? times.length : frameAt(times, now))
    loop = requestAnimationFrame(tick)
  }
  const halt = () => { cancelAnimationFrame(loop); since = 0 }
  const roll = () => { if (film.ready) video.play().catch(() => film.pause()); else loop = requestAnimationFrame(tick) }
  film.play = () => {
    if (film.frame >= times.length - 1) film.seek(0)
    film.playing = true
    roll(); on.playing(true)
  }
  film.pause = () => {
    if (!film.playing) return
    film.playing = false
    halt()
    if (film.ready) { video.pause(); if (film.shown >= 0 && !video.ended) tell(film.shown); go() }
    on.playing(false)
  }
  film.rate = x => { film.speed = video.playbackRate = x }

  let jobs = [], job = null, seen = -1
  const next = () => {
    job = jobs.shift() ?? null
    if (!job) return
    if (job.frame === seen) return done()
    aim()
  }
  const aim = () => { if (job && (!feeds || feeds.near(1, job.frame))) spy.currentTime = seekTime(times, job.frame, end) }
  const done = () => { job?.draw(spy); next() }
  const spied = (_, m) => { seen = frameAt(times, m.mediaTime); spy[RVFC](spied); if (job?.frame === seen) done() }
  if (exact) spy[RVFC](spied)
  listen(spy, 'seeked', () => { const j = job; late(() => { if (j && j === job) { seen = j.frame; done() } }) })
  film.picture = (frame, draw, urgent) => {
    if (!film.ready) return
    jobs = urgent ? [{frame, draw, urgent}, ...jobs.filter(j => !j.urgent)] : [...jobs, {frame, draw}]
    if (!job || urgent && job.urgent) next()
  }

  atEnd(signal, () => {
    clearTimeout(timer); halt(); jobs = []; job = feeds = null
    for (const v of [video, spy]) { v.pause(); v.removeAttribute('src'); v.load() }
    URL.revokeObjectURL(url)
  })
  return film
}

// A film too large to send: it comes in stretches, and elements that show it hold those around their frames.

/** Done at the next event of this name. */
const until = (o, name) => new Promise(done => { o[name] = done })

/** What one element holds; times: when each frame begins, end: of the last. */
function makeFeed(video, {mime, firsts}, times, end) {
  const media = new MediaSource(), url = video.src = URL.createObjectURL(media), at = p => p < 0 ? 0 : times[firsts[p]] ?? end, last = firsts.length - 1
  let b, work = until(media, 'onsourceopen').then(() => {
    URL.revokeObjectURL(url)
    b = media.addSourceBuffer(mime)
    media.duration = end
  })
  const did = () => until(b, 'onupdateend')
  const has = p => { const r = b?.buffered, t = at(p) + .002; return range(r?.length ?? 0, k => r.start(k) <= t && t < r.end(k)).includes(true) }
  const feed = {
    wish: -1,
    /** Whether frame i is there; a stretch is wished for where it is not, or where what follows is not. */
    near(i, more) {
      let p = lastAtMost(firsts, i)
      const held = has(p)
      feed.wish = !held ? p : more && p < last && !has(++p) ? p : -1
      return held
    },
    /** Takes a stretch, and forgets what lies far from it. */
    add: ({part, late}, piece) => work = work.then(async () => {
      for (const [from, to] of [[0, at(part - 3)], [at(part + 4), end + 1]]) if (to > from && from < media.duration) { b.remove(from, to); await did() }
      b.timestampOffset = at(part) - late
      b.appendBuffer(piece)
      await did()
      if (has(last)) media.endOfStream()  // it is over after that one
      feed.wish = -1
    }),
  }
  return feed
}

/** Feeds for all elements, which ask for one stretch at a time, those of the first element first; m: the first one that came. */
function makeFeeds(elements, m, times, end, ask) {
  const all = elements.map(e => makeFeed(e, m, times, end))
  let asked = 0
  all[0].wish = 0
  return {
    /** Whether element k holds frame i; if not, it comes. */
    near(k, i) {
      const held = all[k].near(i, !k), wish = all.find(f => f.wish >= 0)?.wish
      if (asked < 0 && wish >= 0) ask(asked = wish)
      return held
    },
    async take(m, piece) {
      for (const f of all) if (f.wish === m.part) await f.add(m, piece)
      asked = -1
    },
  }
}

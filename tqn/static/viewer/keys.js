// What the keys do, and the list of them.

const KEYS = `Space: play or pause
← →: one frame back or on
Shift ← →: one clip back or on
Home End: first or last frame
P N: previous or next peak of the lane
↑ ↓: lane above or below
< >: slower or faster
+ − 0: zoom in, out, whole film
[ ]: begin or end a range at this clip
H K: hide the range, or keep only it
U C: undo, or show everything again
L: loop the range; stop the loop
G: go to a time, a frame or a clip
I X: pin or collapse the lane
E: to the ends of the moment; arrows move them, Backspace puts them back
T: table of numbers
D: deletion and insertion curves
M: maps of all layers and heads
F: full screen
Esc: close
?: these keys`.split('\n').map(k => k.split(': '))

function keys(v) {
  const {spans, N, F, t0, end, s, $, get, go, say} = v
  v.toggle = () => v.film.playing ? v.film.pause() : v.film.play()
  v.clip = d => { const c = clipAt(spans, s.frame); go(spans[2 * clamp(d < 0 && s.frame > spans[2 * c] ? c : c + d, 0, N - 1)]) }
  const peak = d => { const c = nextPeak(v.map(v.lane()), v.column(), d); if (c < 0) say('No more peaks'); else go(v.middle(c)) }
  const step = d => { const i = s.order[s.order.indexOf(v.lane()) + d]; if (i >= 0) { v.pick(i, true); v.rows[i].el.scrollIntoView({block: 'nearest'}) } }
  const speed = d => { const k = SPEEDS.indexOf(get('speed')); v.set('speed', SPEEDS[clamp((k < 0 ? 3 : k) + d, 0, SPEEDS.length - 1)]); v.changed('speed') }
  const border = last => {
    const c = clipAt(spans, s.frame), [a, b] = s.range ?? [c, c + 1]
    if (last) v.choose(min(a, c), c + 1); else v.choose(c, max(b, c + 1))
    v.popover()
  }
  const escape = e => {
    v.untip()
    if (e.target === $.find) { $.find.value = ''; v.arrange() }
    if (e.target.tagName === 'INPUT') focusOn(v.root); else if (s.range) v.choose(); else if (s.panel) v.panel(s.panel)
    else if (v.filled()) v.full()
  }
  const ACTS = {
    ' ': v.toggle, ArrowLeft: e => e.shiftKey ? v.clip(-1) : go(s.frame - 1), ArrowRight: e => e.shiftKey ? v.clip(1) : go(s.frame + 1),
    Home: () => go(0), End: () => go(F - 1), p: () => peak(-1), n: () => peak(1), ArrowUp: () => step(-1), ArrowDown: () => step(1),
    '<': () => speed(-1), '>': () => speed(1), '+': () => v.scale(.5), '-': () => v.scale(2), 0: () => v.zoom(t0, end),
    '[': () => border(false), ']': () => border(true), h: () => v.hide(false), k: () => v.hide(true), u: v.back,
    c: () => v.hidden().length && v.rule([], false),
    l: v.again, g: () => { $.time.focus(); $.time.select() }, i: () => v.mark('pinned'), x: () => v.mark('folded'), f: v.full, e: v.toEnd,
    m: () => $.grid && v.panel('grid'),
    t: () => v.panel('table'), d: () => v.live && v.panel('curves'), '?': () => v.panel('help'), Escape: escape,
  }
  v.on(v.root, 'keydown', e => {
    const {tagName: tag} = e.target, key = e.key.length > 1 ? e.key : e.key.toLowerCase(), act = ACTS[key], arrow = /^(Arrow|Home|End)/.test(key)
    const listed = tag === 'SELECT' && (arrow || /[a-z0-9 ]$/.test(key) && key !== 'Escape')  // a list has these keys for itself
    const typed = tag === 'INPUT' && key !== 'Escape'
    if (!act || e.ctrlKey || e.metaKey || e.altKey || listed || typed || (tag === 'BUTTON' && key === ' ') || (arrow && $.panel.contains(e.target))) return
    e.preventDefault(); e.stopPropagation()
    act(e)
  })
  v.on(v.film.video, 'click', v.toggle)
  /** Pin or collapse the chosen lane, or no longer. */
  v.mark = key => {
    const {name} = v.asked[v.lane()], was = get(key)
    v.set(key, was.includes(name) ? was.filter(n => n !== name) : [...was, name])
    v.arrange()
    say(`${name} ${was.includes(name) ? 'no longer ' : ''}${key === 'pinned' ? 'pinned' : 'collapsed'}`)
  }
  v.on($.time, 'keydown', e => {
    if (e.key !== 'Enter') return
    const p = parsePlace($.time.value)
    if (!p) return say('Write a time such as 4.8 or 1:04.5, a frame such as f137, or a clip such as c12.')
    focusOn(v.root)
    go('time' in p ? frameAt(v.times, clamp(p.time + t0, t0, end)) : 'frame' in p ? p.frame : spans[2 * clamp(p.clip, 0, N - 1)])
  })
  v.on($.time, 'focus', () => $.time.select())
  v.on($.time, 'blur', v.moved)
  if ($.find) v.on($.find, 'input', v.arrange)
}

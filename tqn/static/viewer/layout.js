// What one view knows, what it shares with Python, and the elements it consists of.

const h = elements('tqn-')
const STATE = {frame: 0, playing: false, speed: 1, layer: -1, head: -1, how: 'attn', scale: 'lane', order: 'given', lane: 0, hidden: [], keep: false,
  rows: 'auto', pinned: [], folded: [], moved: {}}
const FILM = [170, 320]  // pixels, least and most, where the film's height is not chosen
const SPEEDS = [.1, .25, .5, 1, 1.5, 2, 4]
const ICONS = {
  play: 'M4 2.5v11l9-5.5z', pause: 'M4 3h3v10H4zM9 3h3v10H9z', frameBack: 'M10.5 3.5 5 8l5.5 4.5z', frameOn: 'M5.5 3.5 11 8l-5.5 4.5z',
  zoomIn: 'M7.2 3h1.6v4.2H13v1.6H8.8V13H7.2V8.8H3V7.2h4.2z', zoomOut: 'M3 7.2h10v1.6H3z',
  full: 'M3 3h4v1.6H4.6V7H3zM9 3h4v4h-1.6V4.6H9zM3 9h1.6v2.4H7V13H3zM11.4 9H13v4H9v-1.6h2.4z',
  clipBack: 'M3 3.5h1.6v9H3zM13 3.5v9L6 8z', clipOn: 'M11.4 3.5H13v9h-1.6zM3 3.5v9L10 8z', close: 'm4 4 8 8m0-8-8 8',
}
const icon = name => h(`svg.icon.icon-${name}`, {viewBox: '0 0 16 16', width: 16, height: 16, ...MUTE}, h('path', {d: ICONS[name]}))

/** What a slider says of itself. */
const valued = (e, now, text) => { put(e, 'aria-valuenow', now); put(e, 'aria-valuetext', text) }

function button(kind, label, act, ...kids) {
  const b = h(`button.${kind}`, {type: 'button', label, title: label}, ...kids)
  b.onclick = act
  return b
}

const GO = 'Go to a time, such as 1:04.5; a frame, f137; a clip, c12 (G)', FIND = 'Find a question'

/** What each selector does, shown where it stands. */
const ABOUT = {
  speed: 'Of the film.',
  how: 'attention: where a question looks, in the layer and head chosen. rollout: attention followed through all layers, '
    + 'also by way of the other questions; no layer or head to choose.',
  layer: 'Layers of the decoder, numbered from 0 as in Python; the last gives the answer. mean: of all layers.',
  head: 'Heads of a layer, numbered from 0. mean: of all heads; max: the highest of them at each clip.',
  scale: 'Height of the bars. each lane: up to its own peak; shared: up to the highest of all. Colours are not scaled.',
  order: 'probability: surest answer first. time of peak: as they look. '
    + 'focus: most concentrated first; all on one clip is 1, uniform is 0.',
  rows: 'Height of the lanes. auto: compact where they would not all be in sight beside the film.',
}

/** The numbers of a view, its state, and how a value is shared with Python; the other parts add what they do. */
function makeView(model, signal) {
  const data = read(model), {meta, times, spans, columns, end, ratio} = data
  const v = {...data, model, signal, asked: meta.questions, Q: meta.questions.length, N: meta.n_clips, F: times.length, t0: times[0]}
  v.live = !!meta.has_kernel
  v.aspect = clamp(ratio, .6, 1.78)                                               // of the small pictures
  v.s = {frame: 0, view: [v.t0, end], undo: [], panel: '', curves: {}, width: 1}  // what only this view knows
  v.$ = {}                                                                        // the elements that change
  v.on = (e, name, f, options) => e.addEventListener(name, f, {signal, ...options})
  v.get = k => model.get(k) ?? STATE[k]
  v.hidden = () => v.get('hidden')
  let saving = 0
  v.set = (k, value, slow) => {
    if (JSON.stringify(model.get(k)) === JSON.stringify(value)) return
    model.set(k, value)
    const save = () => { clearTimeout(saving); saving = 0; model.save_changes() }
    if (slow) saving ||= setTimeout(save, 250); else save()
  }
  atEnd(signal, () => clearTimeout(saving))
  v.say = text => write(v.$.live, text)
  v.hold = e => e.contains(document.activeElement) && focusOn(v.root)  // before an element with the focus goes
  v.first = c => columns[2 * c]
  v.after = c => columns[2 * c + 1]
  v.middle = c => v.first(c) + v.after(c) >> 1
  v.column = () => lastAtMost(columns, v.s.frame, 2)
  v.when = t => clock(t - v.t0)
  v.wide = () => v.s.view[1] - v.s.view[0]
  v.where = i => `frame ${i}, ${v.when(times[i])}, clip ${clipAt(spans, i)}`
  v.frames = (a, b) => b - a > 1 ? `frames ${a}–${b - 1}` : `frame ${a}`
  v.clips = c => v.bin > 1 ? `${c * v.bin}–${min(v.N, (c + 1) * v.bin) - 1}` : String(c)
  v.over = x => times_(x / v.flat())
  v.flat = () => v.s.now ? 1 / v.s.now.n : v.uniform  // uniform among the clips that the model sees
  v.go = (i, quiet) => { v.film.seek(i); v.follow(); if (!quiet) v.say(v.where(v.s.frame)) }
  return v
}

/** The page of a view, empty as yet. */
function layout(v) {
  const {meta, $, get, live, F, N, t0, end} = v
  const nav = (label, name, act) => button('nav', label, act, icon(name))
  const pick = (label, key, about, options) => {
    const list = $[key] = h('select', {label, 'aria-description': about}, options.map(([value, text]) => h('option', {value, text})))
    list.pick = () => { list.selectedIndex = options.findIndex(o => o[0] === get(key)) }
    list.pick()
    list.onchange = () => { v.set(key, options[list.selectedIndex][0]); v.changed(key) }
    return h('label.choice', h('span', label), list, h('p.about', MUTE, about))
  }
  const numbered = n => range(n, i => [i, String(i)])
  const facts = [`${F.toLocaleString('en')} frames`, meta.fps && `${+meta.fps.toFixed(2)} fps`, v.when(end), `${N.toLocaleString('en')} clips`]
  const header = h('div.header', h('strong', meta.name), h('span.facts', facts.filter(Boolean).map(f => f.replaceAll(' ', '\xa0')).join('  ·  ')),
    document.fullscreenEnabled && button('nav.full', 'Full screen (F)', () => v.full(), icon('full')), meta.origin && h('div.facts.origin', meta.origin))
  const top = h('div.top',
    $.stage = h('div.stage', {style: `--ratio:${v.ratio}`}, v.film.video, v.film.spy, h('div.status', $.status = h('span', {role: 'status'}))),
    $.detail = h('div.detail'))
  const bar = h('div.bar',
    h('div.transport', {role: 'group', label: 'Play'},
      nav('Previous clip', 'clipBack', () => v.clip(-1)), nav('Previous frame', 'frameBack', () => v.go(v.s.frame - 1)),
      $.play = button('nav.play', 'Play', () => v.toggle(), icon('play'), icon('pause')),
      nav('Next frame', 'frameOn', () => v.go(v.s.frame + 1)), nav('Next clip', 'clipOn', () => v.clip(1))),
    h('div.clock', $.time = h('input', {label: 'Time', 'aria-description': GO, title: GO, spellcheck: 'false'}), $.place = h('span')),
    h('div.choices',
      pick('Speed', 'speed', ABOUT.speed, SPEEDS.map(x => [x, `${x}×`])),
      pick('Show', 'how', ABOUT.how, [['attn', 'attention'], ...(v.roll ? [['rollout', 'rollout']] : [])]),
      pick('Layer', 'layer', ABOUT.layer, [[-1, 'mean'], ...numbered(meta.layers)]),
      pick('Head', 'head', ABOUT.head, [[-1, 'mean'], [-2, 'max'], ...numbered(meta.heads)]),
      pick('Scale', 'scale', ABOUT.scale, [['lane', 'each lane'], ['shared', 'shared']]),
      pick('Order', 'order', ABOUT.order, [['given', 'as given'], ['probability', 'probability'], ['peak', 'time of peak'], ['focus', 'focus']]),
      pick('Lanes', 'rows', ABOUT.rows, [['auto', 'auto'], ['tall', 'tall'], ['compact', 'compact']])))
  const split = $.split = h('div.split', {role: 'separator', tabindex: '0', 'aria-orientation': 'horizontal', label: 'Height of the film',
    'aria-valuemin': FILM[0], 'aria-valuemax': 800, title: 'Drag, or up and down: height of the film; Enter: as it fits'})
  const slider = {role: 'slider', tabindex: '0', label: 'Frame', 'aria-valuemin': '0', 'aria-valuemax': F - 1}
  const board = $.board = h('div.board',
    $.scroll = h('div.rows',
      h('div.row.filmrow', h('div.name', $.find = v.Q > 5 && h('input.find', {type: 'search', placeholder: FIND, label: FIND})),
        $.slider = h('div.track', slider, $.film = h('canvas')),
        h('div.said.end', nav('Zoom out (−)', 'zoomOut', () => v.scale(2)), nav('Zoom in (+)', 'zoomIn', () => v.scale(.5)),
          $.whole = button('plain', 'Show the whole film (0)', () => v.zoom(t0, end), 'Whole film'))),
      $.lanes = h('div.lanes', {role: 'listbox', label: 'Questions'}),
      $.none = h('p.soft', {role: 'status', hidden: true}, 'No question holds this text.'),
      h('div.row.axisrow', h('div.name'), h('div.track.axis', $.axis = h('canvas', MUTE), $.mini = h('div.mini', {role: 'scrollbar', tabindex: '0',
        'aria-orientation': 'horizontal', label: 'Part of the film on show', 'aria-valuemin': 0, 'aria-valuemax': 100},
        $.small = h('canvas', MUTE), $.thumb = h('div.thumb'))),
        h('div.said.end.tools', $.curves = live && button('plain', 'Curves of deletion and insertion (D)', () => v.panel('curves'), 'Curves'),
          $.grid = meta.layers * meta.heads > 1 && button('plain', 'Maps of this question (M)', () => v.panel('grid'), 'Maps'),
          $.table = button('plain', 'Table of numbers (T)', () => v.panel('table'), 'Table'),
          $.help = button('plain', 'Keys (?)', () => v.panel('help'), '?')))),
    h('div.over', $.veil = h('div'), $.loop = h('div.looped'), $.range = h('div.range'), $.hover = h('div.hover'), $.now = h('div.playhead')),
    $.grips = v.asked.some(q => q.moments) && h('div.over.grips', {role: 'group', label: 'Moments'}))
  const tip = $.tip = h('div.tip', MUTE, $.look = h('canvas', {height: 180, width: round(180 * v.aspect)}),
    $.tip1 = h('b'), $.tip2 = h('span'), $.tip3 = h('span'))
  v.root = outermost('viewer', {role: 'group', label: `Attention viewer: ${meta.name}`, tabindex: '-1'})
  const notes = h('div.notes', (meta.notes ?? []).map(n => h('p', n)))
  const sign = (kind, text) => h('span.sign', h(`i.${kind}`, MUTE), text)
  const legend = h('div.legend', {role: 'note', label: 'Legend'},
    h('span.sign', 'times uniform 1×', $.tones = h('i.tones', MUTE), '16×'), sign('dots', 'uniform'),
    v.asked.some(q => q.extent) && sign('bracket', 'evidence'), v.asked.some(q => q.moments) && sign('moment', 'moment'),
    live && sign('hatch', 'hidden from the model'),
    live && sign('ghost', 'attention before'), live && sign('tick', 'probability before'))
  v.root.append(header, top, bar, split, board, $.legend = legend, $.what = h('div.what'), $.panel = h('div.panel', {role: 'region'}), notes, tip,
    $.pop = h('div.pop', {role: 'group', label: 'Chosen range'}), $.live = h('div.live', {role: 'status'}))
  $.top = top
  for (const k of ['whole', 'range', 'hover', 'tip', 'pop', 'what', 'panel', 'mini', 'loop']) $[k].hidden = true
}

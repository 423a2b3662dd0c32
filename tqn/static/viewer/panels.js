// What opens below the lanes: curves of deletion and insertion, the table of numbers, and the keys.

const CURVES = 'The model is shown more and more clips: insertion begins with those this question attends to most, deletion with those it attends to least. '
  + 'Where attention finds what matters, insertion rises early and deletion late. Figures: means.'

function panels(v) {
  const {asked, cols, edges, meta, t0, s, $} = v
  v.panel = k => {
    v.hold($.panel)
    s.panel = s.panel === k ? '' : k
    s.here = null
    for (const n of ['curves', 'grid', 'table', 'help']) if ($[n]) put($[n], 'aria-expanded', s.panel === n)
    $.panel.hidden = !s.panel
    if (s.panel) { v[s.panel](); $.panel.scrollIntoView({block: 'nearest'}) }
  }
  function fill(title, ...kids) {
    put($.panel, 'aria-label', title)
    $.panel.replaceChildren(h('div.title', h('strong', title), button('nav.close', 'Close (Escape)', () => v.panel(s.panel), icon('close'))), ...kids)
  }

  const missing = {M: !$.grid, E: !$.grips, F: !document.fullscreenEnabled}
  const keysHere = KEYS.filter(k => (v.live || !/^(H K|U C|D)/.test(k[0])) && !missing[k[0]])
  v.help = () => fill('Keys', h('dl.keys', keysHere.map(([k, text]) => h('div', h('dt', k.split(' ').map(k => h('kbd', k))), h('dd', text)))),
    h('p.soft', 'Click to go there. Drag along the film to scrub, along a lane to choose a range. Ctrl and wheel zooms.'))

  v.grid = () => {
    const i = v.lane(), {layers: L, heads: H} = meta, Q = v.Q, own = new Float32Array(L * H * cols), made = []
    for (let k = 0; k < L * H; k++) own.set(v.attn.subarray((k * Q + i) * cols, (k * Q + i + 1) * cols), k * cols)
    const name = (what, k) => k < 0 ? `${k === -2 ? 'max' : 'mean'} of ${what}s` : `${what} ${k}`
    const one = (l, k) => {
      const a = combine(own, [L, H, 1, cols], l, k), top = a[argmax(a)], on = v.get('how') === 'attn' && v.get('layer') === l && v.get('head') === k
      const canvas = h('canvas', MUTE), label = `${name('layer', l)}, ${name('head', k)}, peak ${times_(top / v.uniform)} uniform`
      const b = button('cell', label, () => {
        for (const [n, x] of [['how', 'attn'], ['layer', l], ['head', k]]) { v.set(n, x); $[n].pick() }
        v.changed('layer')
      }, canvas)
      put(b, 'aria-pressed', on)
      made.push([canvas, a, top])
      return b
    }
    const hs = [...range(H, k => k), ...(H > 1 ? [-1] : [])], ls = [...range(L, l => l), ...(L > 1 ? [-1] : [])]
    const held = document.activeElement?.getAttribute('aria-label')?.split(', peak')[0]
    fill(`${asked[i].name}: what each layer and head attends to`,
      h('div.grid', {style: `--n:${hs.length}`}, h('span'), hs.map(k => h('span.soft', name('head', k))),
        ls.map(l => [h('span.soft', name('layer', l)), hs.map(k => one(l, k))])),
      h('p.soft', 'Each map up to its own peak, colours by times uniform, with all clips seen. Click a map to see it in all lanes.'))
    const now = s.now
    s.now = null
    for (const m of made) v.bars(...m)
    s.now = now
    if (held) focusOn([...$.panel.querySelectorAll('.tqn-cell')].find(e => e.title.startsWith(held)))
  }

  v.curves = () => {
    const i = v.lane(), q = asked[i], c = s.curves[i]
    if (!c) v.ask.put({type: 'curves', question: i})
    fill(`Does ${q.name} need what it looked at?`, c ? plot(c) : h('p.soft', 'Asking the model'), h('p.soft', CURVES))
  }
  function plot(c) {
    const W = 600, H = 226, X = a => 36 + a * 450, Y = a => 26 + (1 - a) * 156, kinds = ['insertion', 'deletion', 'random'].filter(k => c[k]?.length)
    const line = a => a.map((y, i) => `${X(c.share[i])},${Y(y)}`), mean = k => c.areas?.[k] ?? sum(c[k]) / c[k].length
    const text = (x, y, t, more) => h('text', {x, y, ...more}, t)
    const names = kinds.map(k => ({k, y: Y(c[k][floor(c[k].length / 3)])})).sort((a, b) => a.y - b.y)
    names.forEach((e, i) => { e.y = max(e.y, i ? names[i - 1].y + 16 : 20) })
    return h('div.curves', {role: 'img', label: kinds.map(k => `${k} ${mean(k).toFixed(2)}`).join(', ')}, h('svg', {viewBox: `0 0 ${W} ${H}`},
      [0, .5, 1].map(a => [h('line.grid', {x1: X(0), x2: X(1), y1: Y(a), y2: Y(a)}), text(30, Y(a) + 4, String(a), {'text-anchor': 'end'}),
        text(X(a), H - 24, `${100 * a} %`, {'text-anchor': 'middle'})]),
      text(X(.5), H - 6, 'share of the clips shown', {'text-anchor': 'middle'}), text(X(0), 9, `probability of ${c.answer ?? 'the answer'}`),
      c.low && c.high && h('polygon.spread', {points: [...line(c.low), ...line(c.high).reverse()].join(' ')}),
      kinds.map(k => h(`polyline.${k}`, {points: line(c[k]).join(' ')})),
      names.map(({k, y}) => text(X(1) + 10, y, `${k} ${mean(k).toFixed(2)}`, {class: `tqn-${k}`}))))
  }

  v.table = () => {
    const TALL = 24, n = 24, body = h('tbody'), above = h('tr', MUTE), below = h('tr', MUTE), {first, after, when, clips} = v
    const maps = s.order.map(i => [asked[i].name, v.map(i)]), head = ['clip', 'frames', 'from', 'to', ...maps.map(l => l[0])]
    const row = c => [clips(c), `${first(c)}–${after(c) - 1}`, when(edges[c]), when(edges[c + 1]), ...maps.map(l => number(l[1][c]))]
    const scroll = h('div.scroll', {tabindex: '0', role: 'group', label: 'Numbers'},
      h('table', {'aria-rowcount': cols + 1}, h('thead', h('tr', head.map(t => h('th', {scope: 'col'}, t)))), body))
    let seen = ''
    s.here = () => {  // only rows in sight
      const k = clamp(floor(scroll.scrollTop / TALL) - 6, 0, max(0, cols - n)), c0 = v.column()
      if (seen === (seen = `${k} ${c0}`)) return
      above.style.height = `${k * TALL}px`; below.style.height = `${max(0, cols - k - n) * TALL}px`
      body.replaceChildren(above, ...range(min(n, cols), j => {
        const c = k + j, tr = h('tr', {'aria-rowindex': c + 2, class: c === c0 && 'is-now'}, row(c).map(t => h('td', t)))
        tr.onclick = () => v.go(v.middle(c))
        return tr
      }), below)
    }
    scroll.onscroll = () => s.here?.()
    const save = () => {
      const text = csv([['clip', 'first frame', 'last frame', 'from (s)', 'to (s)', ...head.slice(4)],
        ...range(cols, c => [v.bin > 1 ? clips(c) : c, first(c), after(c) - 1, edges[c] - t0, edges[c + 1] - t0, ...maps.map(l => l[1][c])])])
      const href = URL.createObjectURL(new Blob([text], {type: 'text/csv'}))
      h('a', {href, download: `${meta.name}.attention.csv`}).click()
      setTimeout(() => URL.revokeObjectURL(href), 1000)
    }
    fill('Attention', scroll, button('plain', 'Save as CSV', save, 'Save as CSV'))
    s.here()
    scroll.scrollTop = (v.column() - 4) * TALL
    s.here()
  }
}

// What the model said: beside each lane, and in full for the chosen one.

const MARKS = {true: ['✓', 'right'], false: ['✗', 'wrong'], null: ['', '']}

function answers(v) {
  const {asked, edges, meta, s, $, get, over, when} = v

  /** What a question is answered now, and before: in a preview without what is hidden already, else with all clips seen. */
  v.said = i => {
    const q = asked[i], ruled = s.answers?.[q.name], preview = s.preview?.[q.name], now = preview ?? ruled, was = preview ? ruled ?? q : now && q
    const {said, p, ranked} = now ?? q, text = String(said), same = !was || text === String(was.said)
    const right = q.truth == null ? null : text === String(q.said) ? q.right ?? null : text === String(q.truth)
    return {text, p, ranked: ranked ?? [], was, same, right}
  }

  v.labels = () => {
    for (const r of v.rows) {
      const {text, p, was, same, right, ranked} = v.said(r.i), q = r.q, [sign, name] = MARKS[right], m = v.top(r.i)
      const truth = right === false ? `truth: ${q.truth}` : '', next = truth || (ranked[1] ? `then ${ranked[1][0]} ${prob(ranked[1][1])}` : '')
      write(r.answer, r.answer.title = text); write(r.p, prob(p))
      write(r.mark, sign); r.mark.className = `tqn-mark is-${name}`
      write(r.second, r.second.title = !was ? next : !same ? `was ${was.said} ${prob(was.p)}` : p == null ? '' : change(p - was.p))
      flag(r.el, 'changed', !same); flag(r.el, 'off', right === false)
      write(r.note, `peak ${over(m.top)}`)
      const peak = `attention peaks at ${when(m.when)}, ${over(m.top)} uniform`
      const told = [`${q.name}: ${text}`, prob(p) && `probability ${prob(p)}`, name, truth, !same && `was ${was.said}`, peak]
      put(r.el, 'aria-label', told.filter(Boolean).join(', '))
    }
  }

  /** All answers to the chosen question, and where it looked most. */
  v.detail = () => {
    const i = v.lane(), q = asked[i], {ranked, right, was, text} = v.said(i), [sign, name] = MARKS[right], before = Object.fromEntries(was?.ranked ?? [])
    const how = q.name === 'class' && meta.reading ? `read by ${meta.reading}` : {many: 'several answers', count: 'a count'}[q.kind]
    const one = ([a, p]) => h(`div.answer.${a === text ? 'best' : 'other'}`, {role: 'listitem'}, h('span', {title: a}, a),
      h('div.gauge', h('div', {style: `width:${100 * p}%`}), a in before && h('em', {style: `left:${100 * before[a]}%`, title: `was ${prob(before[a])}`})),
      h('b', prob(p)), h('i', String(a) === String(q.truth) ? 'truth' : ''))
    const set = (key, label, title) => {
      const b = button('plain', title, () => v.mark(key), label)
      put(b, 'aria-pressed', get(key).includes(q.name))
      return b
    }
    v.hold($.detail)
    $.detail.replaceChildren(
      h('div.title', h('strong', q.name), how && h('span.soft', how),
        sign && h('span', {class: `tqn-verdict is-${name}`}, h('i.mark', sign), right ? 'right' : `wrong: it is ${q.truth}`),
        h('div.acts', set('pinned', 'Pin', 'Pin this lane above the others (I)'), set('folded', 'Collapse', 'Collapse this lane (X)'))),
      $.spans = h('div.spans'),
      h('div.answers', {role: 'list', label: `Answers to ${q.name}`}, ranked.slice(0, 6).map(one)),
      h('div.most', h('div.caption', 'Looked at most'), $.moments = h('div.moments')))
    v.moments(); v.ends()
  }

  /** Pictures of the three highest peaks. */
  v.moments = () => {
    const a = v.map(v.lane())
    $.moments?.replaceChildren(...peaks(a).sort((x, y) => a[y] - a[x]).slice(0, 3).map(c => {
      const f = v.middle(c), t = (edges[c] + edges[c + 1]) / 2 - v.t0, picture = h('canvas', {height: 144, width: round(144 * v.aspect)})
      v.paint(picture, v.sprite(v.times[f]))
      setTimeout(() => picture.isConnected && v.film.picture(f, video => v.paint(picture, video)), 150)
      return button('moment', `Go to the peak at ${clock(t)}, ${over(a[c])} uniform`, () => v.go(f), picture, h('span', `${clock(t, 1)} `, h('b', over(a[c]))))
    }))
  }
}

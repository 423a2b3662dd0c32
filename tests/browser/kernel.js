// Stands in for the notebook's kernel in the tests of the page: answers what-if and curves, unless `dead`; keeps what it was asked
globalThis.world = {models: [], ends: [], sent: [], dead: false, slow: 0, open: new Set()}
{
  const {createObjectURL, revokeObjectURL} = URL
  URL.createObjectURL = b => { const u = createObjectURL(b); world.open.add(u); return u }
  URL.revokeObjectURL = u => { world.open.delete(u); revokeObjectURL(u) }
}
const traits = () => JSON.parse(document.querySelector('.tqn-traits').textContent, (_, v) => v && typeof v.base64 === 'string' ? fromBase64(v.base64) : v)
const parts = [...document.querySelectorAll('.tqn-part')].map(e => () => fromBase64(e.textContent))
for (const el of document.querySelectorAll('.tqn-page')) {
  const t = traits(), model = standIn(t, parts), heard = new Map(), {on, off, send} = model
  model.on = (n, f) => { heard.set(f, n); on(n, f) }
  model.off = (n, f) => { heard.delete(f); off(n, f) }
  model.count = () => heard.size
  model.reply = (m, buffers = []) => [...heard].forEach(([f, n]) => n === 'msg:custom' && f(m, buffers))
  model.send = m => {
    world.sent.push(m)
    if (world.dead) return
    if (m.type === 'video') return send(m)
    const n = m.hidden?.reduce((s, [a, b]) => s + b - a, 0), share = Array.from({length: 10}, (_, i) => (i + 1) / 10)
    const {layers: L, heads: H, questions, n_clips: C} = t.meta, hit = c => m.hidden?.some(([a, b]) => c >= a && c < b) !== !!m.keep
    const maps = Float32Array.from({length: questions.length * C}, (_, i) => hit(i % C) ? 0 : i % C === C - 1 ? .5 : .5 / (C - n - 1))  // they look at the last clip
    setTimeout(() => model.reply(m.type === 'curves' ? {type: 'curves', id: m.id, question: m.question, answer: 'Back', share, insertion: share.map(v => v ** .3), deletion: share.map(v => v ** 3), random: share, areas: {insertion: .8, deletion: .3, random: .55}}
      : n >= t.meta.n_clips ? {type: 'whatif', id: m.id, error: 'everything is hidden; leave at least one clip'}
      : {type: 'whatif', id: m.id, answers: t.meta.questions.map((q, i) => ({name: q.name, said: i ? q.said : 'Forward', p: q.p - n / 100, ranked: [[i ? q.said : 'Forward', q.p - n / 100], ['x', n / 100]], was: q.said, p_was: q.p})), show: m.show, seen: t.meta.n_clips - n}, world.maps && m.show ? [new DataView(maps.buffer)] : []), world.slow)
  }
  world.models.push(model)
  world.ends.push(render({model, el}))
}
globalThis.render = render

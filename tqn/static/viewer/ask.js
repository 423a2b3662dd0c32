/** Questions to the kernel: one of a kind at a time. */
function makeAsk(model, late, signal) {
  let id = floor(Math.random() * 1e6) * 1000
  const kinds = {}
  const send = k => {
    [k.sent, k.next] = [k.next, null]
    k.id = ++id
    clearTimeout(k.timer)
    k.timer = setTimeout(() => { k.sent = null; late(true); if (k.next) send(k) }, SLOW)
    model.send({...k.sent, id})
  }
  signal.addEventListener('abort', () => Object.values(kinds).forEach(k => clearTimeout(k.timer)))
  return {
    put(m) { const k = kinds[m.type] ??= {}; k.next = m; if (!k.sent) send(k) },
    drop(type) { clearTimeout(kinds[type]?.timer); delete kinds[type] },
    take(m) {
      const k = kinds[m.type]
      if (k?.id !== m.id) return false
      clearTimeout(k.timer)
      k.sent = null; late(false)
      if (k.next) send(k)
      return true
    },
  }
}

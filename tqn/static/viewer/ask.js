/** Questions to the kernel: one of a kind at a time. A kind is the message's type, or what it calls itself. */
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
  atEnd(signal, () => Object.values(kinds).forEach(k => clearTimeout(k.timer)))
  return {
    put(m, kind = m.type) { const k = kinds[kind] ??= {}; k.next = m; if (!k.sent) send(k) },
    drop(kind) { clearTimeout(kinds[kind]?.timer); delete kinds[kind] },
    /** The kind that was answered; '' where nobody waits for this answer any more. */
    take(m) {
      const [kind, k] = Object.entries(kinds).find(([, k]) => k.id === m.id) ?? []
      if (!kind) return ''
      clearTimeout(k.timer)
      k.sent = null; late(false)
      if (k.next) send(k)
      return kind
    },
  }
}

// In a saved page there is no kernel: this stands in for it, and hands the viewer what the page itself carries.

/** Base64 text as bytes. */
export function fromBase64(text) {
  const s = atob(text), b = new Uint8Array(s.length)
  for (let i = 0; i < s.length; i++) b[i] = s.charCodeAt(i)
  return b
}

/** A model like a widget's: what was set can be read, changes are told, and the film comes in its parts (functions that give bytes). */
export function standIn(traits, parts = [], mime = 'video/mp4') {
  const heard = new Map(), later = f => setTimeout(f, 0)
  const tell = (name, ...args) => [...heard.get(name) ?? []].forEach(f => f(...args))
  return {
    get: k => traits[k],
    set(k, v) { if (traits[k] !== v) { traits[k] = v; later(() => tell(`change:${k}`)) } },
    save_changes() {},
    on(name, f) { heard.set(name, [...heard.get(name) ?? [], f]) },
    off(name, f) { heard.set(name, (heard.get(name) ?? []).filter(g => f && g !== f)) },
    send(m) {
      if (m.type !== 'video') return
      later(() => m.part < parts.length ? tell('msg:custom', {type: 'video', part: m.part, parts: parts.length, mime}, [new DataView(parts[m.part]().buffer)])
        : tell('msg:custom', {type: 'video', part: m.part, error: 'This page carries no film.'}))
    },
  }
}

/** The viewer of the page: its traits are JSON, where {base64} stands for bytes. */
export function open(document, render) {
  const find = name => [...document.querySelectorAll(`script.tqn-${name}`)]
  const traits = JSON.parse(find('traits')[0].textContent, (_, v) => v && typeof v.base64 === 'string' ? fromBase64(v.base64) : v)
  const parts = find('part').map(e => () => fromBase64(e.textContent))
  return render({model: standIn(traits, parts, traits.meta?.mime), el: document.querySelector('.tqn-page')})
}

// What the viewer's companions share beside common.js: small pictures, lists to choose from, and a place for the viewer.

export const thousands = n => String(n).replace(/\B(?=(\d{3})+$)/g, ',')

/** Bars from the ground up as pixels (rows, a.length, 4): a bar of `top` is as high as the rows, and its colour says times uniform. */
export function bars(a, top, rows, colours, uniform = 1) {
  const m = a.length, out = new Uint8ClampedArray(4 * m * rows)
  for (let x = 0; x < m; x++) {
    const v = min(1, a[x] / (top || 1)), high = v > 0 ? max(1, round(v * rows)) : 0, tone = colours[round(255 * darkness(a[x] / uniform))]
    for (let y = rows - high; y < rows; y++) out.set([...tone, 255], 4 * (y * m + x))
  }
  return out
}

/** Put pixels into a canvas, which takes their size. */
function paintPixels(canvas, pixels, width, height) {
  if (canvas.width !== width) canvas.width = width
  if (canvas.height !== height) canvas.height = height
  canvas.getContext('2d').putImageData(new ImageData(pixels, width, height), 0, 0)
}

/** Tells the kernel new values of traits. */
const telling = model => changes => { for (const [k, v] of Object.entries(changes)) model.set(k, v); model.save_changes() }

/** A select with its label. */
function choice(label, options, signal, changed) {
  const select = shared('select', {label}), box = shared('label.choice', shared('span', label), select)
  const fill = list => select.replaceChildren(...list.map(([value, text]) => shared('option', {value, text})))
  fill(options)
  select.addEventListener('change', () => changed(select.value), {signal})
  return {box, select, fill}
}

/** Under a list of videos: the viewer of the one that was opened, whatever widget that is. */
function makePane(model, signal) {
  const title = shared('span'), close = shared('button.shut', {type: 'button', text: '×', label: 'Close the viewer'}), host = shared('div')
  const pane = shared('section.pane', {label: 'Viewer', hidden: true}, shared('div.panehead', title, close), host)
  let view = null, turn = 0
  const empty = () => { view?.remove?.(); view = null; host.replaceChildren() }
  const mount = async () => {
    const mine = ++turn, ref = model.get('viewer')
    empty()
    pane.hidden = !ref
    if (!ref) return
    write(title, model.get('selected'))
    try {
      const child = await model.widget_manager.get_model(String(ref).replace('IPY_MODEL_', ''))
      const made = await model.widget_manager.create_view(child)
      if (mine !== turn || signal.aborted) return made.remove?.()
      view = made
      host.replaceChildren(made.el)
      pane.scrollIntoView?.({block: 'nearest'})
    } catch (e) { host.replaceChildren(message(`The viewer could not be shown: ${e.message}`)) }
  }
  close.addEventListener('click', () => model.send({type: 'close'}), {signal})
  hearing(model, signal)('change:viewer', mount)
  atEnd(signal, () => { turn++; empty() })
  mount()
  return pane
}

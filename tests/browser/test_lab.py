"The notebooks in the place where people open them: a real JupyterLab"
import re
from pathlib import Path
import pytest

NBS = Path(__file__).resolve().parents[2]/'nbs'
KNOWN = re.compile('Failed to load resource.*(favicon|/api/contents/.*checkpoints|/static/.*\\.map)')  # JupyterLab's own, not ours


@pytest.mark.parametrize('path', ['tutorials/see_attention.ipynb'])
def test_runs_from_top_to_bottom(notebook, shots, path):
    nb = notebook(path)
    cells = nb.run_all()
    name = Path(path).stem
    nb.shot(shots/f'{name}.png')
    pictures = [o for o in nb.page.locator('.jp-RenderedImage img, .jp-RenderedSVG svg').all() if o.is_visible()]   # a live viewer hides its own still picture
    assert len(pictures) > 1
    for i, output in enumerate(pictures):
        output.scroll_into_view_if_needed()
        output.screenshot(path=str(shots/f'{name}_{i}.png'))
    assert cells and all(n for n, _ in cells), 'not every cell ran'
    assert not any(error for _, error in cells)
    assert nb.strangers() == []
    assert [e for e in nb.errors if not KNOWN.search(e)] == []

"""Pictures of the viewer for the README and the notebooks: `python tools/screenshots.py` renders a dive, opens the viewer's page in Chromium with this process as its kernel, hides the entry, and takes pictures.

Writes nbs/images/viewer.png, viewer_dark.png and viewer_narrow.png. TQN_CHROMIUM names another browser than the one on the path."""
import io, os, shutil, sys, tempfile
from pathlib import Path
from PIL import Image
from playwright.sync_api import sync_playwright
from tqn.features.stream import clip_features
from tqn.studies.demo import small_model
from tqn.dives.dives import SyntheticDives
from tqn.core.files import write_atomic
from tqn.video.video import Video
from tqn.widgets.viewer import respond, view

IMAGES = Path(__file__).resolve().parents[1]/'nbs/images'
SHOTS = dict(viewer=(1000, 900, 'light'), viewer_dark=(1000, 900, 'dark'), viewer_narrow=(400, 900, 'light'))  # width, height, colours
FLAGS = ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync']
START = '\nopen(document, render)\n'  # how a saved page begins; the lines below begin it with a kernel
KERNEL = '''
{ const traits = JSON.parse(document.querySelector('.tqn-traits').textContent, (_, v) => v && typeof v.base64 === 'string' ? fromBase64(v.base64) : v)
  const parts = [...document.querySelectorAll('.tqn-part')].map(e => () => fromBase64(e.textContent))
  traits.hidden = globalThis.hide
  const model = standIn(traits, parts), heard = [], {on, send} = model
  model.on = (n, f) => { if (n === 'msg:custom') heard.push(f); on(n, f) }
  model.send = m => m.type === 'video' ? send(m) : ask(m).then(r => heard.forEach(f => f(r, [])))
  render({model, el: document.querySelector('.tqn-page')}) }
'''


def make_viewer(folder):
    "The viewer of one rendered dive, at its splash"
    dive = SyntheticDives(folder, 'test', n=7, size=192, workers=0, progress=False)[6]   # the dive of the README's first picture
    model = small_model()
    names = [*model.queries.names, 'class']
    first, last = dive['extents']['entry']
    viewer = view(model, dive, features=clip_features(model, Video(dive['path'])), order='peak', frame=(first + last)//2, lane=names.index('entry'))
    return viewer, [[first//8, -(-last//8)]]


def photograph(browser, path, viewer, hidden, width, height, colours):
    "A picture of the page as a palette PNG, about a third of the size"
    context = browser.new_context(viewport=dict(width=width, height=height), color_scheme=colours, device_scale_factor=1 if width > 500 else 1.5)
    tab = context.new_page()
    tab.expose_function('ask', lambda m: respond(viewer, m)[0])
    tab.add_init_script(f'globalThis.hide = {hidden}')
    tab.goto(f'file://{path}')
    tab.wait_for_selector('.tqn-viewer[data-ready="1"][data-video="ready"]', timeout=60_000)
    tab.wait_for_function('() => { const v = document.querySelector(".tqn-viewer"); return v.dataset.shown === v.dataset.frame && v.textContent.includes("was Large"); }')
    tab.wait_for_timeout(500)
    shot = tab.locator('.tqn-viewer').screenshot()
    context.close()
    out = io.BytesIO()
    Image.open(io.BytesIO(shot)).convert('RGB').quantize(256, dither=Image.Dither.NONE).save(out, 'PNG', optimize=True)
    return out.getvalue()


def main():
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as p:
        viewer, hidden = make_viewer(Path(folder))
        path = Path(viewer.save(Path(folder)/'view.html')).resolve()
        path.write_text(path.read_text().replace('"has_kernel": false', '"has_kernel": true').replace(START, KERNEL))
        chromium = os.environ.get('TQN_CHROMIUM') or shutil.which('chromium') or sys.exit('Chromium is missing; install it, or name a browser in TQN_CHROMIUM')
        browser = p.chromium.launch(executable_path=chromium, args=FLAGS)
        for name, look in SHOTS.items(): print(write_atomic(IMAGES/f'{name}.png', photograph(browser, path, viewer, hidden, *look)))
        browser.close()


if __name__ == '__main__': main()

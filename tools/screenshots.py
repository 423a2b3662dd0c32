"""Pictures of the viewer for the README and the notebooks: `python tools/screenshots.py` renders a dive, writes the viewer's page and photographs it in Chromium.

Writes nbs/images/viewer.png, viewer_dark.png and viewer_narrow.png. TQN_CHROMIUM names another browser than the one on the path."""
import io, os, shutil, sys, tempfile
from pathlib import Path
from PIL import Image
from playwright.sync_api import sync_playwright
from tqn.demo import small_model
from tqn.dives import SyntheticDives
from tqn.queries import write_atomic
from tqn.widgets import view

IMAGES = Path(__file__).resolve().parents[1]/'nbs/images'
SHOTS = dict(viewer=(1100, 900, 'light'), viewer_dark=(1100, 900, 'dark'), viewer_narrow=(400, 900, 'light'))  # width, height, colours
FLAGS = ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync']
AT = .7    # where the lane of the position is clicked, as a share of its width


def page(folder):
    "The viewer of one rendered dive as one file"
    dive = SyntheticDives(folder, 'test', n=7, size=192, workers=0, progress=False)[6]   # the dive of the README's first picture
    truth = {**dive['answers'], **({'class': dive['class_name']} if dive['class_name'] else {})}
    return view(small_model(), dive['path'], truth=truth, extents=dive['extents']).save(folder/'view.html')


def photograph(browser, path, width, height, colours):
    "A picture of the page as a palette PNG, about a third of the size"
    context = browser.new_context(viewport=dict(width=width, height=height), color_scheme=colours, device_scale_factor=1.5 if width > 500 else 2)
    tab = context.new_page()
    tab.goto(f'file://{path}')
    tab.wait_for_selector('.tqn-viewer[data-ready="1"][data-video="ready"]', timeout=60_000)
    lane = tab.locator('.tqn-lane[data-name="position"] canvas').first
    box = lane.bounding_box()
    lane.click(position=dict(x=box['width']*AT, y=box['height']/2))
    tab.mouse.move(2, 2)
    tab.wait_for_function('() => { const v = document.querySelector(".tqn-viewer"); return v.dataset.shown === v.dataset.frame; }')
    tab.wait_for_timeout(500)
    shot = tab.locator('.tqn-viewer').screenshot()
    context.close()
    out = io.BytesIO()
    Image.open(io.BytesIO(shot)).convert('RGB').quantize(256, dither=Image.Dither.NONE).save(out, 'PNG', optimize=True)
    return out.getvalue()


def main():
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as p:
        path = Path(page(Path(folder))).resolve()
        chromium = os.environ.get('TQN_CHROMIUM') or shutil.which('chromium') or sys.exit('Chromium is missing; install it, or name a browser in TQN_CHROMIUM')
        browser = p.chromium.launch(executable_path=chromium, args=FLAGS)
        for name, look in SHOTS.items(): print(write_atomic(IMAGES/f'{name}.png', photograph(browser, path, *look)))
        browser.close()


if __name__ == '__main__': main()

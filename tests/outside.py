"Data that is not in the repository: real clips in videos/, Diving48's label files in data/"
import os
from pathlib import Path

FOLDER = Path(os.environ.get('TQN_TEST_DATA') or Path(__file__).resolve().parents[2]/'shared')
VIDEOS, VOCAB = FOLDER/'videos', FOLDER/'data'/'Diving48_vocab.json'
MISSING = 'set TQN_TEST_DATA to a folder with videos/ and data/'

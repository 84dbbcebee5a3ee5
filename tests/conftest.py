import sys
from pathlib import Path

# With --import-mode=importlib the test folder is not importable by itself.
sys.path.insert(0, str(Path(__file__).parent))

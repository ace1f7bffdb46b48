"""Scripts of this folder that tests run in a process of their own."""

import os
import subprocess
import sys
from pathlib import Path


def run_script(name, *arguments):
    script = Path(__file__).parent / name
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(script.parent), *sys.path])}
    command = [sys.executable, str(script), *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

"""Upscale a file with `subpixel serve`: python examples/web_client.py FILE RESULT [ADDRESS]."""

import json
import sys
import time
from pathlib import Path
from urllib.parse import quote
from urllib.request import Request, urlopen

source, result = Path(sys.argv[1]), Path(sys.argv[2])
server = sys.argv[3] if len(sys.argv) > 3 else "http://127.0.0.1:8765"
options = quote(json.dumps({"scale": 2}))
with source.open("rb") as file:
    length = {"Content-Length": str(source.stat().st_size)}
    url = f"{server}/api/jobs?name={quote(source.name)}&options={options}"
    job = json.load(urlopen(Request(url, file, length, method="POST")))
while job["state"] not in ("done", "failed", "cancelled"):
    time.sleep(0.5)
    job = json.load(urlopen(f"{server}/api/jobs/{job['id']}"))
    print(job["state"], job["progress"] or "")
if job["error"]:
    sys.exit(job["error"])
with urlopen(server + job["links"]["result"]) as answer, result.open("wb") as file:
    while data := answer.read(2**20):
        file.write(data)

"""Requests to Azurite, signed with its well-known key ("Authorize with Shared Key", Azure Storage
REST API): `azure.py PORT METHOD PATH [QUERY]`; the answer's body goes to standard output."""

import base64, email.utils, hashlib, hmac, sys, urllib.request

ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

port, method, path, query = (sys.argv[1:] + [""])[:4]
headers = {"x-ms-date": email.utils.formatdate(usegmt=True), "x-ms-version": "2021-08-06"}
text = "\n".join([method] + [""] * 11) + "\n"
text += "".join(f"{name}:{value}\n" for name, value in sorted(headers.items()))
text += f"/{ACCOUNT}/{ACCOUNT}{path}"
for pair in sorted(filter(None, query.split("&"))):
    name, value = pair.split("=")
    text += f"\n{name}:{value}"
signature = hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()
headers["Authorization"] = f"SharedKey {ACCOUNT}:{base64.b64encode(signature).decode()}"
if method == "PUT":
    headers["Content-Length"] = "0"
url = f"http://127.0.0.1:{port}/{ACCOUNT}{path}" + (f"?{query}" if query else "")
with urllib.request.urlopen(urllib.request.Request(url, method=method, headers=headers)) as answer:
    sys.stdout.buffer.write(answer.read())

"""A plain page that lists the operations of the service; it loads nothing."""

from __future__ import annotations

import base64
import hashlib
from html import escape
from typing import Any

from medseg.serve.pages import Page

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto; padding: 0 1rem; }
code, pre { font-family: ui-monospace, monospace; }
pre { overflow-x: auto; padding: 0.75rem; border: 1px solid; border-radius: 0.375rem; }
th, td { text-align: left; vertical-align: top; padding: 0.125rem 1rem 0.125rem 0; }
"""
_EXAMPLES = """curl -T photo.png -o mask.png -X POST -H 'Content-Type: image/png' ADDRESS/v1/predict
curl -F image=@photo.png -H 'Accept: application/json' 'ADDRESS/v1/predict?spacing=0.5'"""


def docs_page(schema: dict[str, Any]) -> Page:
    """The operations of an OpenAPI document.

    Args:
        schema: OpenAPI 3.1.
    """
    operations = "\n".join(
        _operation(method, path, operation)
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
    )
    html = f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>medseg: the API of this service</title>
<style>{_STYLE}</style>
<h1>medseg {escape(schema["info"]["version"])}</h1>
<p>{escape(schema["info"]["summary"])} For programs: <a href="/openapi.json">/openapi.json</a>.</p>
<pre>{escape(_EXAMPLES)}</pre>
{operations}
</html>
"""
    digest = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    return Page(html, f"default-src 'none'; style-src 'sha256-{digest}'; frame-ancestors 'none'")


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    parameters = "".join(
        f"<tr><td><code>{escape(each['name'])}</code><td>{escape(each.get('description', ''))}"
        for each in operation.get("parameters", [])
    )
    answers = "".join(
        f"<tr><td>{escape(status)}<td>{escape(', '.join(response.get('content', {})))}"
        for status, response in operation["responses"].items()
    )
    return f"""<section>
<h2><code>{escape(method.upper())} {escape(path)}</code></h2>
<p>{escape(operation.get("description", ""))}</p>
<table>{parameters}</table>
<h3>Answers</h3>
<table>{answers}</table>
</section>"""

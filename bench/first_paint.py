#!/usr/bin/env python3
"""How long the page takes to its first paint, from a running server, in Debian's Chromium: bench/first_paint.py [URL] (in .deps/venv)."""
import shutil
import statistics
import sys

from playwright.sync_api import sync_playwright

url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:7860/"
PAINTS = "new Promise(done => new PerformanceObserver((list) => done(list.getEntries()[0].startTime)).observe({type: 'paint', buffered: true}))"
with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
    paints, sizes = [], []
    for _ in range(15):
        context = browser.new_context(viewport={"width": 1280, "height": 800})  # nothing cached
        page = context.new_page()
        page.goto(url)
        paints.append(page.evaluate(PAINTS))
        sizes.append(page.evaluate("[...performance.getEntriesByType('resource'), ...performance.getEntriesByType('navigation')]"
                                   ".filter(r => !r.name.includes('/api/')).reduce((n, r) => n + r.encodedBodySize, 0)"))
        context.close()
    browser.close()
paints.sort()
print(f"first paint: median {statistics.median(paints):.0f} ms, slowest of {len(paints)} {paints[-1]:.0f} ms; the page's files: {max(sizes) / 1000:.1f} kB as sent")

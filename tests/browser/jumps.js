// What the page moved by itself: Chromium reports what is visible and changed its place by 3 pixels or more.
window.streamlabJumps = [];
new PerformanceObserver(list => {
  for (const entry of list.getEntries()) {
    for (const { node, previousRect: from, currentRect: to } of entry.sources) {
      window.streamlabJumps.push({ node, from: [from.x, from.y], to: [to.x, to.y] });
    }
  }
}).observe({ type: "layout-shift", buffered: true });

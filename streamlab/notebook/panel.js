// Draws the panel: regions of HTML that the kernel made and escaped, and two Bokeh charts. A message brings what changed, whole:
// a view that comes later paints the newest of each, so nothing depends on the order in which views and messages come.

const panels = new Map(); // by identity: the newest of everything, for views that come later

// the page may have a BokehJS of its own, of another version: ours stands beside it
async function bokeh(model) {
  const version = model.get("bokeh_version");
  const key = "__streamlab_bokeh_" + version;
  window[key] ??= (async () => {
    if (!window.Bokeh?.[version]) {
      const packed = model.get("bokeh_gz");
      const bytes = new Uint8Array(packed.buffer, packed.byteOffset, packed.byteLength);
      const text = await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
      (0, eval)(text);
    }
    return window.Bokeh[version];
  })();
  return window[key];
}

// a view is made before it stands in the page, and there it has neither colours nor a font
async function standing(el) {
  while (!el.isConnected) await new Promise((resolve) => setTimeout(resolve, 20));
}

function paint(el, regions) {
  for (const [name, html] of Object.entries(regions)) {
    const region = el.querySelector(`[data-region="${name}"]`);
    if (region && region.innerHTML !== html) region.innerHTML = html;
  }
}

function colour(el, name) {
  const probe = document.createElement("span");
  probe.style.color = `var(${name})`;
  el.appendChild(probe);
  const brush = document.createElement("canvas").getContext("2d");
  brush.fillStyle = getComputedStyle(probe).color; // mixed colours have a form that BokehJS does not read
  brush.fillRect(0, 0, 1, 1);
  const [red, green, blue, alpha] = brush.getImageData(0, 0, 1, 1).data;
  probe.remove();
  return `rgba(${red}, ${green}, ${blue}, ${alpha / 255})`;
}

function dress(documents, el) {
  const [soft, line] = [colour(el, "--sl-soft"), colour(el, "--sl-line")];
  const font = getComputedStyle(el).fontFamily || "sans-serif";
  for (const doc of documents) {
    for (const model of doc._all_models.values()) {
      if (model.type.endsWith("Axis")) model.setv({ major_label_text_color: soft, major_label_text_font: font });
      if (model.type === "Grid") model.setv({ grid_line_color: line });
      if (model.type === "Text") model.setv({ text_font: { value: font } });
    }
  }
}

function feed(doc, sources) {
  for (const [name, data] of Object.entries(sources)) {
    const source = doc.get_model_by_name(name);
    if (source) source.data = data;
  }
  const range = doc.get_model_by_name("heights");
  const bounds = sources.bounds;
  if (range && bounds) range.setv({ start: bounds.low[0], end: bounds.high[0] });
  const along = doc.get_model_by_name("along");
  if (along && bounds) along.setv({ start: bounds.left[0], end: bounds.right[0] });
}

export default {
  initialize({ model }) {
    const newest = { regions: {}, charts: {}, figures: null, views: new Set() };
    panels.set(model.get("identity"), newest);
    model.on("msg:custom", (message) => {
      Object.assign(newest.regions, message.regions);
      Object.assign(newest.charts, message.charts);
      newest.figures = message.figures ?? newest.figures;
      for (const view of newest.views) view(message);
    });
    return () => panels.delete(model.get("identity"));
  },

  async render({ model, el }) {
    const newest = panels.get(model.get("identity"));
    const frame = document.createElement("div");
    frame.innerHTML = model.get("html");
    // the saved picture of the same panel stands in the next output: it is for readers without a kernel
    const style = document.createElement("style");
    const mine = `[data-streamlab="${model.get("identity")}"]`;
    style.textContent = `.jp-OutputArea-child:has(${mine}), ${mine} { display: none !important; }`;
    el.append(style, frame);
    paint(frame, newest.regions);

    const act = (event) => {
      const button = event.target.closest?.("[data-do]");
      if (!button) return;
      button.disabled = true;
      model.send({ do: button.dataset.do });
    };
    frame.addEventListener("click", act);

    const documents = {};
    const shown = ({ regions = {}, charts = {}, figures }) => {
      paint(frame, regions);
      for (const [name, sources] of Object.entries(charts)) if (documents[name]) feed(documents[name], sources);
      if (figures) draw(figures);
    };
    const panel = frame.querySelector(".sl");
    const themed = new MutationObserver(() => dress(Object.values(documents), panel));
    let [closed, end] = [false, null];
    const ended = new Promise((resolve) => { end = resolve; });

    async function draw(figures) {
      const B = await bokeh(model);
      await Promise.race([standing(panel), ended]);
      if (closed) return;
      for (const [name, item] of Object.entries(JSON.parse(figures))) {
        const place = frame.querySelector(`[data-chart="${name}"]`);
        if (!place) continue;
        documents[name]?.clear();
        place.replaceChildren();
        place.setAttribute("role", "img");
        place.setAttribute("aria-label", item.label);
        const doc = B.require("document").Document.from_json(item.doc);
        documents[name] = doc;
        dress([doc], panel);
        if (newest.charts[name]) feed(doc, newest.charts[name]);
        await B.require("embed/standalone").add_document_standalone(doc, place, { [item.root]: place });
      }
    }

    newest.views.add(shown);
    themed.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "data-jp-theme-name", "class"] });
    draw(newest.figures ?? model.get("charts")); // not awaited: the page puts the view in its place when this returns
    return () => {
      closed = true;
      end();
      newest.views.delete(shown);
      themed.disconnect();
      frame.removeEventListener("click", act);
      for (const doc of Object.values(documents)) doc.clear();
    };
  },
};

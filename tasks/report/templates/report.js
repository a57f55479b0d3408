"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const root = document.documentElement;
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  const narrow = matchMedia("(max-width: 600px)");
  const PAPER_WIDTH = 690; // pixels of a chart that fits A4 and Letter
  let chosen = null; // the reader's choice of theme; null follows the system
  let printing = false;

  const isDark = () => !printing && (chosen === null ? prefersDark.matches : chosen === "dark");

  // Figures come in light colours; every other theme is an exchange of exact strings.
  function recoloured(value) {
    if (typeof value === "string") return data.dark[value] ?? value;
    if (Array.isArray(value)) return value.map(recoloured);
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, recoloured(inner)]));
    }
    return value;
  }

  function bytesOf(base64) {
    const text = atob(base64);
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i += 1) bytes[i] = text.charCodeAt(i);
    return bytes;
  }

  async function loadPlotly() {
    const packed = bytesOf(document.getElementById("plotly").textContent);
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
  }

  // "Share chart" would upload the figure; nothing of a report leaves the machine.
  const config = {
    responsive: true,
    displaylogo: false,
    modeBarButtons: [["zoom2d", "pan2d", "resetScale2d", "toImage"]],
  };

  const heat = data.heat && heatmap(data.heat);

  function draw(place) {
    const name = place.dataset.chart;
    let figure = structuredClone(data.charts[name]);
    if (name === "heat") heat.fill(figure);
    if (isDark()) figure = recoloured(figure);
    if (printing) Object.assign(figure.layout, { width: PAPER_WIDTH, autosize: false });
    if (narrow.matches) {
      figure.layout.margin = { ...figure.layout.margin, l: 44, r: 6 };
      figure.layout.height = Math.min(figure.layout.height, 360);
      figure.data.filter((trace) => trace.type === "heatmap").forEach((trace) => { delete trace.texttemplate; });
    }
    return Plotly.react(place, figure.data, figure.layout, { ...config, displayModeBar: narrow.matches ? false : "hover" });
  }

  const drawAll = () => Promise.all([...document.querySelectorAll("[data-chart]")].map(draw));

  function heatmap(cube) {
    const params = cube.params.map((param) => ({ ...param, codes: new Uint16Array(bytesOf(param.codes).buffer) }));
    const figures = cube.figures.map((figure) => ({ ...figure, values: new Float32Array(bytesOf(figure.values).buffer) }));
    const state = {
      figure: 0,
      x: 0,
      y: params.length > 1 ? 1 : 0,
      held: params.map((param) => param.winner ?? 0),
      others: "held",
    };

    const free = () => params.map((_, index) => index).filter((index) => index !== state.x && index !== state.y);
    const show = (kind, value) => {
      if (!Number.isFinite(value)) return "n/a";
      const text = kind === "percent" ? `${(value * 100).toFixed(1)} %` : value.toFixed(kind === "count" ? 0 : 2);
      return text.replace("-", "−");
    };

    function pivot() {
      const [x, y] = [params[state.x], params[state.y]];
      const flat = state.x === state.y;
      const values = figures[state.figure].values;
      const cells = Array.from({ length: flat ? 1 : y.levels.length }, () => new Array(x.levels.length).fill(null));
      const counts = cells.map((row) => row.map(() => 0));
      const rest = free();
      for (let i = 0; i < values.length; i += 1) {
        const value = values[i];
        if (!Number.isFinite(value)) continue;
        if (state.others === "held" && rest.some((index) => params[index].codes[i] !== state.held[index])) continue;
        const [row, column] = [flat ? 0 : y.codes[i], x.codes[i]];
        const old = cells[row][column];
        counts[row][column] += 1;
        if (old === null) cells[row][column] = value;
        else if (state.others === "best") cells[row][column] = Math.max(old, value);
        else cells[row][column] = old + (value - old) / counts[row][column];
      }
      return cells;
    }

    const upperHalf = (scale) => scale.filter(([at]) => at >= 0.5).map(([at, colour]) => [at * 2 - 1, colour]);

    function fill(figure) {
      const [x, y, shown] = [params[state.x], params[state.y], figures[state.figure]];
      const cells = pivot();
      const finite = cells.flat().filter((value) => value !== null);
      const flat = state.x === state.y;
      const reach = Math.max(...finite.map(Math.abs), 1e-12);
      const [map] = figure.data;
      const rows = flat ? [""] : y.levels;
      Object.assign(map, { x: x.levels, y: rows, z: cells });
      map.text = cells.map((line) => line.map((value) => (value === null ? "" : show(shown.kind, value))));
      map.hovertemplate = flat
        ? `${x.title} %{x}<br>${shown.title} %{text}<extra></extra>`
        : `${x.title} %{x}<br>${y.title} %{y}<br>${shown.title} %{text}<extra></extra>`;
      if (cells.length * x.levels.length <= 150 && !narrow.matches) map.texttemplate = "%{text}";
      // Counts have no bad side: their scale is the upper half alone.
      Object.assign(map, shown.kind === "count" ? { zmin: 0, zmax: reach, colorscale: upperHalf(map.colorscale) } : { zmin: -reach, zmax: reach });
      const bar = narrow.matches ? { orientation: "h", y: 1.02, yanchor: "bottom", len: 1, title: { text: "" } } : { title: { text: shown.title, side: "right" } };
      map.colorbar = { ...map.colorbar, ...bar };
      if (shown.kind === "percent") map.colorbar.tickformat = ".0%";
      const hit = state.others !== "held" || free().every((index) => state.held[index] === params[index].winner);
      const placed = hit && x.winner !== null && y.winner !== null;
      const [column, row] = placed ? [x.winner, flat ? 0 : y.winner] : [0, 0];
      const reachOfFrame = { x0: column - 0.5, x1: column + 0.5, y0: row - 0.5, y1: row + 0.5, visible: placed };
      figure.layout.shapes.forEach((shape) => Object.assign(shape, reachOfFrame));
      figure.layout.xaxis.title = { text: x.title };
      figure.layout.yaxis.title = { text: flat ? "" : y.title };
      figure.layout.xaxis.categoryarray = x.levels;
      figure.layout.yaxis.categoryarray = rows;
      if (flat) figure.layout.height = 220;
    }

    function element(tag, attributes, ...children) {
      const node = Object.assign(document.createElement(tag), attributes);
      node.append(...children);
      return node;
    }

    function select(label, options, value, onchange) {
      const list = element("select", { onchange: (event) => onchange(event.target.value) });
      options.forEach(([key, title]) => list.append(element("option", { value: key, textContent: title, selected: String(key) === String(value) })));
      return element("label", {}, label, list);
    }

    function slider(index) {
      const param = params[index];
      const output = element("output", { textContent: param.levels[state.held[index]] });
      const range = element("input", { type: "range", min: 0, max: param.levels.length - 1, value: state.held[index] });
      range.oninput = () => {
        state.held[index] = Number(range.value);
        output.textContent = param.levels[state.held[index]];
        redraw();
      };
      range.disabled = state.others !== "held";
      return element("label", {}, param.title, range, output);
    }

    const redraw = () => draw(document.querySelector('[data-chart="heat"]'));

    function choose(axis, value) {
      const other = axis === "x" ? "y" : "x";
      if (params.length > 1 && state[other] === value) state[other] = state[axis];
      state[axis] = value;
    }

    function controls() {
      const place = document.getElementById("heat-controls");
      const names = params.map((param, index) => [index, param.title]);
      const again = (change) => (value) => { change(value); controls(); redraw(); };
      const parts = [select("Show", figures.map((figure, index) => [index, figure.title]), state.figure, again((value) => { state.figure = Number(value); }))];
      if (params.length > 1) {
        parts.push(select("across", names, state.x, again((value) => choose("x", Number(value)))));
        parts.push(select("up", names, state.y, again((value) => choose("y", Number(value)))));
      }
      if (free().length) {
        const ways = [["held", "held at"], ["mean", "averaged"], ["best", "at their best"]];
        parts.push(select("others", ways, state.others, again((value) => { state.others = value; })));
        parts.push(...free().map(slider));
      }
      place.replaceChildren(...parts);
    }

    return { fill, controls };
  }

  function applyTheme() {
    root.style.colorScheme = chosen ?? "";
    document.getElementById("theme").textContent = isDark() ? "Light theme" : "Dark theme";
  }

  document.getElementById("theme").addEventListener("click", () => {
    chosen = isDark() ? "light" : "dark";
    applyTheme();
    drawAll();
  });
  prefersDark.addEventListener("change", () => { applyTheme(); drawAll(); });
  narrow.addEventListener("change", drawAll);
  addEventListener("beforeprint", () => { printing = true; drawAll(); });
  addEventListener("afterprint", async () => {
    printing = false;
    await drawAll();
    document.querySelectorAll("[data-chart]").forEach((place) => Plotly.Plots.resize(place));
  });

  // A meaning is placed in the window, not in its table, which would clip it.
  document.querySelectorAll(".term").forEach((term, number) => {
    const meaning = term.querySelector(".meaning");
    meaning.id = `meaning-${number}`;
    term.setAttribute("aria-describedby", meaning.id);
    const place = () => {
      term.classList.add("placed");
      const [box, size] = [term.getBoundingClientRect(), meaning.getBoundingClientRect()];
      const left = Math.max(8, Math.min(box.left, innerWidth - size.width - 8));
      const below = box.bottom + 6 + size.height <= innerHeight;
      term.style.setProperty("--left", `${left}px`);
      term.style.setProperty("--top", `${below ? box.bottom + 6 : box.top - size.height - 6}px`);
    };
    term.addEventListener("mouseenter", place);
    term.addEventListener("focus", place);
    term.addEventListener("keydown", (event) => { if (event.key === "Escape") term.blur(); });
  });

  for (const list of document.querySelectorAll("[data-swaps]")) {
    const place = document.getElementById(list.dataset.swaps);
    list.addEventListener("change", () => {
      place.dataset.chart = list.value;
      draw(place);
    });
  }

  applyTheme();
  if (heat) heat.controls();
  loadPlotly().then(drawAll).then(
    () => { root.dataset.charts = "ready"; },
    (error) => {
      const notice = document.getElementById("failure");
      notice.textContent = `The charts could not be drawn (${error.message}). Tables and figures below are complete.`;
      notice.hidden = false;
      root.dataset.charts = "failed";
    },
  );
})();

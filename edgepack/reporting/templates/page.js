"use strict";
(() => {
  const data = JSON.parse(document.getElementById("report-data").textContent);
  const root = document.documentElement;
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];
  const make = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };

  // ---- theme -------------------------------------------------------------------------------
  const system = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const palettes = {
    light: ["#1d4ed8", "#c2410c", "#0f766e", "#9333ea", "#b45309", "#be185d", "#4d7c0f", "#0369a1"],
    dark: ["#7aa7ff", "#ff9b66", "#4fd1b5", "#c79bff", "#f2c063", "#ff8fc0", "#a3d65c", "#66c7f4"],
  };
  const tones = {
    light: ["#1e40af", "#60a5fa", "#0d9488", "#a78bfa", "#f59e0b"],
    dark: ["#6f9bff", "#2f5fc4", "#34b8a0", "#a78bfa", "#d99a2b"],
  };
  const css = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  const color = (index) => palettes[dark() ? "dark" : "light"][index % 8];

  function paint(trace) {
    const { color: hue, tone } = trace.meta;
    const painted = { ...trace };
    if (tone !== undefined) {
      const fill = tone === "rest" ? css("--line") : tones[dark() ? "dark" : "light"][tone % 5];
      painted.marker = { ...trace.marker, color: fill };
    } else if (hue === "line") painted.line = { ...trace.line, color: css("--quiet") };
    else if (hue === "ink") painted.marker = { ...trace.marker, color: css("--ink") };
    else {
      const value = Array.isArray(hue) ? hue.map(color) : color(hue);
      painted.marker = { ...trace.marker, color: value };
      if (trace.mode === "lines" || trace.type === "box") painted.line = { ...trace.line, color: value };
    }
    return painted;
  }

  // Plotly abbreviates the ticks of a short logarithmic axis to single digits.
  const ticks = { tickvals: [], ticktext: [] };
  for (let power = -4; power < 9; power += 1) {
    for (const lead of [1, 2, 5]) {
      const value = Number(`${lead}e${power}`);
      ticks.tickvals.push(value);
      ticks.ticktext.push(value.toLocaleString("en", { maximumFractionDigits: 4 }));
    }
  }
  function themed(layout) {
    const axis = (given) => ({
      gridcolor: css("--line"), zeroline: false, linecolor: css("--line"), tickcolor: css("--line"),
      automargin: true, ...((given || {}).type === "log" ? ticks : {}), ...given,
      title: { ...(given || {}).title, font: { size: 12, color: css("--quiet") }, standoff: 10 },
    });
    const accent = css("--bad");
    return {
      height: 360, margin: { l: 58, r: 16, t: 20, b: layout.showlegend ? 88 : 48 }, hovermode: "closest",
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: css("--ink") },
      hoverlabel: { bgcolor: css("--panel"), bordercolor: css("--line"), font: { color: css("--ink") }, align: "left" },
      ...layout,
      legend: { orientation: "h", yref: "container", y: 0, yanchor: "bottom", x: 0, font: { color: css("--quiet") }, ...layout.legend },
      xaxis: axis(layout.xaxis), yaxis: axis(layout.yaxis),
      shapes: (layout.shapes || []).map((shape) => ({
        ...shape, line: { ...shape.line, color: accent },
        label: { ...shape.label, font: { size: 11, color: accent }, textangle: 0, padding: 4 },
      })),
    };
  }

  function draw(element, figure) {
    const layout = themed(figure.layout);
    // A height of its own: a printer's page would give the plot none.
    element.style.height = `${layout.height}px`;
    Plotly.react(element, figure.data.map(paint), layout, {
      responsive: true, displayModeBar: false,
    });
  }

  // ---- distributions ------------------------------------------------------------------------
  const escaped = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const latency = (cells) => {
    const slow = Math.max(...cells.map((cell) => median(cell.samples))) >= 1000;
    return {
      unit: slow ? "ms" : "µs", of: (samples) => samples.map((s) => (slow ? s / 1000 : s)),
      axis: { title: { text: `Latency (${slow ? "ms" : "µs"})` }, type: wide(cells) ? "log" : "linear" },
    };
  };
  const median = (samples) => [...samples].sort((a, b) => a - b)[samples.length >> 1];
  function wide(cells) {
    const medians = cells.map((cell) => median(cell.samples));
    const most = Math.max(...cells.map((cell) => Math.max(...cell.samples)));
    return Math.min(...medians) > 0 && most > 12 * Math.min(...medians);
  }
  const kinds = {
    box: (cells) => ({
      data: cells.map((cell) => ({
        type: "box", orientation: "h", x: latency(cells).of(cell.samples), name: escaped(cell.recipe), boxpoints: "outliers",
        hoverinfo: "x+name", marker: { size: 4, opacity: 0.7 }, line: { width: 1.5 }, meta: { color: cell.color },
      })),
      layout: {
        height: 110 + 52 * cells.length, showlegend: false,
        xaxis: latency(cells).axis,
        yaxis: { autorange: "reversed", type: "category" },
      },
    }),
    ecdf: (cells) => ({
      data: cells.map((cell) => ({
        type: "scatter", mode: "lines", name: escaped(cell.recipe), x: latency(cells).of(cell.samples).sort((a, b) => a - b),
        y: cell.samples.map((_, i) => ((i + 1) / cell.samples.length) * 100), line: { shape: "hv", width: 2 },
        hovertemplate: "%{y:.0f} % take at most %{x:,.4~g} " + latency(cells).unit, meta: { color: cell.color },
      })),
      layout: {
        showlegend: true, xaxis: latency(cells).axis,
        yaxis: { title: { text: "Inferences (%)" }, range: [0, 101] },
      },
    }),
    time: (cells) => ({
      data: cells.map((cell) => ({
        type: "scatter", mode: "lines", name: escaped(cell.recipe), x: cell.samples.map((_, i) => i * cell.every + 1),
        y: latency(cells).of(cell.samples), line: { width: 1.25 },
        hovertemplate: "run %{x}: %{y:,.4~g} " + latency(cells).unit, meta: { color: cell.color },
      })),
      layout: {
        showlegend: true, xaxis: { title: { text: "Inference" } },
        yaxis: latency(cells).axis,
      },
    }),
  };

  function distribution(article, groups) {
    const canvas = article.querySelector("[data-distribution]");
    if (!canvas) return () => {};
    const controls = article.querySelector("[data-distribution-controls]");
    const note = article.querySelector("[data-distribution-note]");
    let kind = "box", device = 0;
    const show = () => {
      const group = groups[device];
      draw(canvas, kinds[kind](group.cells));
      const counts = group.cells.map((c) => `${c.recipe}: ${c.samples.length}${c.every > 1 ? ` of ${c.of}` : ""}`);
      note.textContent = `Raw samples on ${group.device}${group.emulated ? " (emulated)" : ""} — ${counts.join(", ")}.`;
    };
    controls.hidden = false;
    controls.querySelector("[data-device]").addEventListener("change", (event) => {
      device = Number(event.target.value);
      show();
    });
    all("[data-kind]", controls).forEach((button) => button.addEventListener("click", () => {
      kind = button.dataset.kind;
      all("[data-kind]", controls).forEach((b) => b.setAttribute("aria-pressed", b === button));
      show();
    }));
    return show;
  }

  // ---- tables -------------------------------------------------------------------------------
  const order = (cell) => {
    const given = cell.dataset.order;
    if (given === undefined) return null;
    return given !== "" && Number.isFinite(Number(given)) ? Number(given) : given;
  };
  function compare(a, b) {
    if (a === null || b === null) return a === b ? 0 : a === null ? 1 : -1;
    if (typeof a === "number" && typeof b === "number") return a - b;
    return String(a).localeCompare(String(b), undefined, { numeric: true });
  }
  function sortable(table) {
    const heads = all("thead th", table);
    heads.forEach((head, column) => {
      const button = make("button", { type: "button", textContent: head.textContent });
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const rows = [...table.tBodies[0].rows].map((row) => [order(row.cells[column]), row]);
        // What was not measured stays last in both directions.
        rows.sort(([a], [b]) => (a === null || b === null ? compare(a, b) : down ? compare(b, a) : compare(a, b)));
        table.tBodies[0].append(...rows.map(([, row]) => row));
      });
    });
  }
  function filter(table, input, status) {
    const apply = () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      const rows = [...table.tBodies[0].rows];
      let shown = 0;
      rows.forEach((row) => {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
        shown += !row.hidden;
      });
      status.textContent = words.length ? `${shown} of ${rows.length} rows` : "";
    };
    input.addEventListener("input", apply);
    return apply;
  }

  // ---- operators ----------------------------------------------------------------------------
  const columns = [
    ["#", 1], ["Operator", 0], ["Layer", 0], ["Type", 0], ["Weights", 0], ["Output", 0],
    ["Parameters", 1], ["MACs", 1], ["Bytes moved", 1], ["Weight bytes", 1],
  ];
  function operatorTable(rows, recipe) {
    const sums = columns.map((_, i) => (i > 5 ? rows.reduce((sum, row) => sum + row[i], 0) : 0));
    const head = make("tr", {}, ...columns.map(([title, numeric]) =>
      make("th", { scope: "col", textContent: title, className: numeric ? "num" : "" })));
    const body = rows.map((row) => make("tr", {}, ...row.map((value, i) => {
      const text = value === null ? "–" : i > 5 ? value.toLocaleString("en") : String(value).split(";")[0];
      const cell = make(i === 0 ? "th" : "td", { textContent: text, className: columns[i][1] ? "num" : i === 2 ? "layer" : "" });
      if (i === 0) cell.scope = "row";
      if (i === 2) cell.title = value;  // what the converter fused, whole
      if (value !== null) cell.dataset.order = value;
      if (sums[i] > 0 && value > 0) {
        cell.classList.add("share");
        cell.style.setProperty("--share", `${(100 * value) / sums[i]}%`);
        cell.title = `${((100 * value) / sums[i]).toFixed(1)} % of all`;
      }
      return cell;
    })));
    return make("table", {}, make("caption", { textContent: `Every operator of ${recipe}, with its share of the whole` }),
      make("thead", {}, head), make("tbody", {}, ...body));
  }
  function operators(article, tables) {
    const place = article.querySelector("[data-operators]");
    if (!place) return;
    const controls = article.querySelector("[data-operator-controls]");
    const input = controls.querySelector("[data-operator-filter]");
    let apply = () => {};
    const show = (index) => {
      const table = operatorTable(tables[index].rows, tables[index].recipe);
      place.replaceChildren(table);
      sortable(table);
      const fresh = input.cloneNode();
      fresh.value = input.isConnected ? input.value : controls.querySelector("[data-operator-filter]").value;
      controls.querySelector("[data-operator-filter]").replaceWith(fresh);
      apply = filter(table, fresh, controls.querySelector("[data-operator-count]"));
      apply();
    };
    controls.hidden = false;
    controls.querySelector("[data-recipe]").addEventListener("change", (event) => show(Number(event.target.value)));
    show(0);
  }

  // ---- sections -----------------------------------------------------------------------------
  const articles = all("[data-section]");
  const drawn = new Set();
  const shows = articles.map((article, index) => {
    const { figures } = data.sections[index];
    const samples = distribution(article, figures.distribution);
    operators(article, data.sections[index].operators);
    return () => {
      drawn.add(index);
      all("[data-figure]", article).forEach((place) => draw(place, figures[place.dataset.figure]));
      samples();
    };
  });
  function redraw() {
    drawn.forEach((index) => shows[index]());
  }
  function select(index, focus) {
    articles.forEach((article, i) => { article.hidden = i !== index; });
    tabs.forEach((tab, i) => {
      tab.setAttribute("aria-selected", i === index);
      tab.tabIndex = i === index ? 0 : -1;
      if (i === index && focus) tab.focus();
    });
    if (!drawn.has(index)) shows[index]();
    else redraw();
  }
  const tabs = all("[data-tabs] a");
  if (tabs.length) {
    tabs[0].parentElement.setAttribute("role", "tablist");
    tabs.forEach((tab, index) => {
      tab.setAttribute("role", "tab");
      tab.id = `tab-${index + 1}`;
      tab.setAttribute("aria-controls", articles[index].id);
      articles[index].setAttribute("role", "tabpanel");
      tab.addEventListener("keydown", (event) => {
        const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        if (step) select((index + step + tabs.length) % tabs.length, true);
      });
    });
    all('a[href^="#section-"]').forEach((link) => link.addEventListener("click", (event) => {
      event.preventDefault();
      const index = articles.findIndex((article) => `#${article.id}` === link.getAttribute("href"));
      select(index, false);
      history.replaceState(null, "", link.getAttribute("href"));
    }));
    const asked = articles.findIndex((article) => `#${article.id}` === location.hash);
    select(Math.max(0, asked), false);
  } else if (shows.length) shows[0]();

  all("[data-sortable]").forEach(sortable);
  all(".filter").forEach((box) => {
    box.hidden = false;
    filter(box.parentElement.querySelector("table"), box.querySelector("input"), box.querySelector("[role=status]"));
  });

  // ---- theme toggle and print ---------------------------------------------------------------
  const toggle = document.querySelector("[data-theme-toggle]");
  const label = () => {
    toggle.textContent = dark() ? "Light theme" : "Dark theme";
    toggle.setAttribute("aria-pressed", dark());
  };
  toggle.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    label();
    redraw();
  });
  system.addEventListener("change", () => { label(); redraw(); });
  document.querySelector("[data-tools]").hidden = false;
  document.querySelector("[data-print]").addEventListener("click", () => print());
  label();

  let before;
  addEventListener("beforeprint", () => {
    before = root.dataset.theme;
    root.dataset.theme = "light";
    articles.forEach((article) => { article.dataset.was = article.hidden; article.hidden = false; });
    all("details").forEach((box) => { box.dataset.was = box.open; box.open = true; });
    shows.forEach((show) => show());
  });
  addEventListener("afterprint", () => {
    if (before === undefined) delete root.dataset.theme;
    else root.dataset.theme = before;
    articles.forEach((article) => { article.hidden = article.dataset.was === "true"; });
    all("details").forEach((box) => { box.open = box.dataset.was === "true"; });
    redraw();
  });
})();

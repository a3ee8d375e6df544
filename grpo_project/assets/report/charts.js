"use strict";
// Figures. Each has a title, a sentence that says what to see, the chart, and its numbers as a table.

const PALETTE = {
  light: ["#1d4ed8", "#c2410c", "#0f766e", "#a21caf", "#b45309", "#4d7c0f", "#be123c", "#0369a1", "#6d28d9", "#57534e"],
  dark: ["#8ab4ff", "#ffa25e", "#4fd1b5", "#f09bf5", "#f5c451", "#b4da60", "#ff8fa3", "#67c7f5", "#bda5ff", "#c9c2ba"],
};
const LEVELS = { foundation: 2, elementary: 0, intermediate: 8, advanced: 4, expert: 6 }; // places in the palette
const OUTCOME = {
  light: { solved: "#0f766e", mixed: "#93c5fd", hopeless: "#f08a3c", passed: "#0f766e", failed: "#f08a3c", error: "#be123c",
    timeout: "#7c3aed", memory: "#334155", wrong_format: "#94a3b8", infrastructure: "#111827" },
  dark: { solved: "#2fae97", mixed: "#4f86d9", hopeless: "#d97a35", passed: "#2fae97", failed: "#d97a35", error: "#f4708a",
    timeout: "#a78bfa", memory: "#cbd5e1", wrong_format: "#7f8ea3", infrastructure: "#ffffff" },
};

let theme = "light";
const drawn = new Map(); // chart's element -> {chart, option, renderer}
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const colour = (i) => PALETTE[theme][i % PALETTE[theme].length];
const levelColour = (name, i) => LEVELS[name] ?? i; // a place in the palette
const outcomeColour = (name) => OUTCOME[theme][name] || colour(7);

// option: () => ECharts option, built anew for each theme. rows: () => {columns, rows} for the table.
function figure({ id, title, note, option, height = 300, rows, key, renderer = "svg", onClick }) {
  const box = el("div", { class: "chart", style: `height:${height}px`, role: "img", "aria-label": `${title}. ${note || ""}` });
  const caption = el("figcaption", {}, el("h3", {}, title), note ? el("p", { class: "note" }, note) : null);
  const node = el("figure", { id, class: "card" }, caption, keyOf(key || [], box), box,
    rows ? later("The numbers as a table", () => { const t = rows(); return table(t.columns, t.rows, title); }) : null);
  waiting.push({ box, option, renderer, onClick });
  return node;
}

// The legend: buttons, so that a keyboard can hide a curve too, and so that many names wrap on a narrow screen.
// entries: [name, () => colour].
const keyOf = (entries, box) => (entries.length < 2 ? null : el("div", { class: "key" }, entries.map(([name, paint]) =>
  el("button", { type: "button", "aria-pressed": "true", onclick: (event) => {
    const button = event.currentTarget, on = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(on));
    drawn.get(box).chart.dispatchAction({ type: on ? "legendSelect" : "legendUnSelect", name });
  } }, swatch(paint), name))));

const swatches = new Map();
function swatch(paint) {
  const node = el("i", { class: "swatch", style: `background:${paint()}` });
  swatches.set(node, paint);
  return node;
}

const waiting = [];
function drawWaiting() {
  const next = waiting.shift();
  if (!next) { document.documentElement.dataset.drawn = "true"; return; }
  if (next.box.isConnected) draw(next);
  (window.requestIdleCallback || setTimeout)(drawWaiting);
}

function draw(entry) {
  const chart = echarts.init(entry.box, null, { renderer: entry.renderer });
  chart.setOption(entry.option());
  if (entry.onClick) chart.on("click", entry.onClick);
  drawn.set(entry.box, { ...entry, chart });
}

function redrawAll() {
  for (const [node, paint] of swatches) node.isConnected ? (node.style.background = paint()) : swatches.delete(node);
  for (const [box, entry] of [...drawn]) {
    entry.chart.dispose();
    drawn.delete(box);
    if (box.isConnected) draw(entry);
  }
}

window.addEventListener("resize", () => { for (const { chart } of drawn.values()) chart.resize(); });

function baseOption({ last, percentY, yName, min, max, legend, tip }) {
  const soft = css("--soft"), line = css("--line");
  const axis = { axisLine: { lineStyle: { color: line } }, axisTick: { show: false }, splitLine: { lineStyle: { color: line } },
    axisLabel: { color: soft, hideOverlap: true }, nameTextStyle: { color: soft } };
  return {
    animation: false, color: PALETTE[theme], textStyle: { fontFamily: "system-ui, sans-serif", color: css("--ink") },
    grid: { left: 8, right: 18, top: yName ? 26 : 12, bottom: 6, containLabel: true },
    legend: { show: false, data: legend },
    tooltip: { trigger: "axis", confine: true, backgroundColor: css("--card"), borderColor: line, textStyle: { color: css("--ink"), fontSize: 13 },
      axisPointer: { lineStyle: { color: soft } }, formatter: tip },
    xAxis: { type: "value", min: 0, max: last, ...axis, splitLine: { show: false }, axisLabel: { ...axis.axisLabel, formatter: (v) => number(v, 0) } },
    yAxis: { type: "value", name: yName, min, max, ...axis, nameGap: 8, nameTextStyle: { ...axis.nameTextStyle, align: "left" },
      axisLabel: { ...axis.axisLabel, formatter: percentY ? (v) => `${number(v * 100, 1)}%` : (v) => number(v) } },
  };
}

const zip = ([x, y]) => x.map((step, i) => [step, y[i]]);
const curve = (name, points, index, more = {}) => ({ name, type: "line", data: zip(points), showSymbol: points[0].length < 2,
  symbolSize: 6, lineStyle: { width: 2, color: colour(index) }, itemStyle: { color: colour(index) }, emphasis: { disabled: true }, ...more });

// A band between two curves with the same steps: an invisible line and, stacked on it, the filled distance.
function band(stack, low, high, index, opacity = 0.16) {
  const base = { type: "line", stack, stackStrategy: "all", symbol: "none", lineStyle: { opacity: 0 }, silent: true, emphasis: { disabled: true }, z: 1 };
  return [
    { ...base, name: `${stack} low`, data: zip(low) },
    { ...base, name: `${stack} high`, data: low[0].map((x, i) => [x, high[1][i] - low[1][i]]), areaStyle: { color: colour(index), opacity } },
  ];
}

// The hover box: a heading, one line a curve, and lines of context. Built from nodes, so names stay text.
function tipOf(heading, entries, context) {
  const lines = entries.map(([mark, name, value]) => el("div", { style: "display:flex;gap:14px;justify-content:space-between" },
    el("span", {}, el("span", { style: `display:inline-block;width:9px;height:9px;border-radius:5px;margin-right:6px;background:${mark}` }), name),
    el("b", {}, value)));
  return el("div", { style: "max-width:300px;white-space:normal" }, el("div", { style: "font-weight:600;margin-bottom:3px" }, heading), lines,
    (context || []).map((text) => el("div", { style: "margin-top:4px;font-size:12px" }, text)));
}

const shown = (params) => params.filter((p) => !/ (low|high)$/.test(p.seriesName) && p.value && p.value[1] !== null && p.value[1] !== undefined);
const stepTip = (format, context) => (params) => tipOf(`step ${number(params[0].axisValue, 0)}`,
  shown(params).map((p) => [p.color, p.seriesName, format(p.value[1])]), context ? context(params[0].axisValue) : []);

function linesFigure({ id, title, note, curves, last, percentY, yName, min, max, height = 220 }) {
  return figure({ id, title, note, height, key: curves.map((c, i) => [c.name, () => colour(c.index ?? i)]),
    option: () => ({ ...baseOption({ last, percentY, yName, min, max, legend: curves.map((c) => c.name),
      tip: stepTip(percentY ? percent : number) }),
      series: curves.map((c, i) => curve(c.name, c.points, c.index ?? i, c.more)) }),
    rows: () => joined(curves) });
}

// Curves with different steps as one table, a row for each step that any of them has.
function joined(curves) {
  const steps = [...new Set(curves.flatMap((c) => c.points[0]))].sort((a, b) => a - b);
  const maps = curves.map((c) => new Map(zip(c.points)));
  return { columns: [{ name: "step", number: true }, ...curves.map((c) => ({ name: c.name, number: true }))],
    rows: steps.map((step) => [number(step), ...maps.map((map) => number(map.get(step)))]) };
}

// columns: {step: [...], name: [...]}: filled layers upon each other.
function stackFigure({ id, title, note, columns, last, colours, percentY, yName, height = 240 }) {
  const names = Object.keys(columns).filter((name) => name !== "step");
  const max = percentY ? 1 : undefined;
  const paint = (name, i) => (colours ? outcomeColour(name) : colour(i));
  return figure({ id, title, note, height, key: names.map((name, i) => [name.replace("_", " "), () => paint(name, i)]),
    option: () => ({ ...baseOption({ last, percentY, yName, min: 0, max, legend: names.map((n) => n.replace("_", " ")), tip: stepTip(percentY ? percent : number) }),
      series: names.map((name, i) => { const c = paint(name, i);
        return { name: name.replace("_", " "), type: "line", stack: "all", data: zip([columns.step, columns[name]]), symbol: "none", itemStyle: { color: c },
          lineStyle: { width: 0 }, areaStyle: { color: c, opacity: 0.85 }, emphasis: { disabled: true } }; }) }),
    rows: () => joined(names.map((name) => ({ name, points: [columns.step, columns[name]] }))) });
}

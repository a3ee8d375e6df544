"use strict";
// Small helpers. Nothing here, or anywhere else, makes HTML from text: strings become text nodes.

function el(name, attributes, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key === "class") node.className = value;
    else if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else node.setAttribute(key, value === true ? "" : String(value));
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return node;
}

const number = (value, digits = 3) => {
  if (value === null || value === undefined) return "-";
  if (Number.isInteger(value)) return value.toLocaleString("en");
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(2);
  return value.toLocaleString("en", { maximumFractionDigits: size >= 100 ? Math.min(1, digits) : digits });
};
const signed = (value, digits = 3) => (value > 0 ? "+" : "") + number(value, digits);
const percent = (value) => (value === null || value === undefined ? "-" : `${(100 * value).toFixed(value < 0.1 ? 1 : 0)}%`);
const counted = (count, noun) => `${number(count)} ${noun}${count === 1 ? "" : "s"}`;
const whenText = (seconds) => new Date(seconds * 1000).toISOString().replace("T", " ").slice(0, 16) + " UTC";

// columns: [{name, number?: bool}]; rows: arrays of strings or nodes.
function table(columns, rows, caption) {
  const head = columns.map((c) => el("th", { scope: "col", class: c.number ? "number" : null }, c.name));
  const body = rows.map((row) =>
    el("tr", {}, row.map((cell, i) => el("td", { class: columns[i].number ? "number" : null }, cell ?? "-"))));
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    el("table", {}, el("thead", {}, el("tr", {}, head)), el("tbody", {}, body)));
}

// A block that is only built when somebody opens it.
function later(summary, build, id) {
  const node = el("details", { id }, el("summary", {}, summary));
  node.addEventListener("toggle", () => { if (node.open && node.children.length === 1) node.append(build()); });
  return node;
}

// short: the section's name in the navigation.
function section(id, short, title, lead, ...children) {
  return el("section", { id, "aria-labelledby": `${id}-title`, "data-short": short },
    el("h2", { id: `${id}-title` }, title), lead ? el("p", { class: "lead" }, lead) : null, children);
}

const card = (...children) => el("div", { class: "card" }, children);
const empty = (text) => el("p", { class: "empty" }, text);

const STATUS_MARK = { passed: "✓", failed: "✗", error: "!", timeout: "⏱", memory: "M", wrong_format: "?" };
const statusClass = (status) => (status === "passed" || status === "failed" ? status : "other");

function diffView(text) {
  const lines = text.split("\n").map((line) => {
    const kind = /^(---|\+\+\+|@@)/.test(line) ? "at" : line[0] === "+" ? "add" : line[0] === "-" ? "cut" : "";
    return el("span", { class: kind }, line + "\n");
  });
  return el("pre", {}, lines);
}

"use strict";
// What the model wrote: groups side by side with the matrix of their tests, and problems over time.

function completionCard(c, index) {
  const failing = c.failing;
  return el("div", { class: `completion ${statusClass(c.status)}` },
    el("div", { class: "head" }, el("b", {}, `${STATUS_MARK[c.status] || "!"} ${index === null ? "" : `#${index + 1} `}${c.status.replace("_", " ")} ${c.passed}/${c.total}`),
      c.reward === null || c.reward === undefined ? null
        : el("span", { class: "quiet" }, `reward ${number(c.reward)} · advantage ${c.advantage === null ? "-" : signed(c.advantage)}`)),
    c.truncated ? el("div", { class: "signs" }, "cut off by the token limit") : null,
    c.signs.map((sign) => el("div", { class: "signs" }, `Suspect: ${sign}`)),
    el("pre", { tabindex: "0", "aria-label": index === null ? "program" : `program ${index + 1}` }, c.code),
    c.is_code ? null : el("div", { class: "quiet" }, "No code was found in this completion."),
    failing ? el("dl", {}, el("dt", {}, "first failing"), el("dd", { class: "mono" }, failing.input || "-"),
      el("dt", {}, "expected"), el("dd", { class: "mono" }, failing.expected || "-"),
      el("dt", {}, "got"), el("dd", { class: "mono" }, failing.got || "-"),
      failing.message ? [el("dt", {}, "message"), el("dd", { class: "mono" }, failing.message)] : null) : null,
    c.difference ? later(`Changed since it was solved at step ${c.solved_at}`, () => diffView(c.difference)) : null);
}

function testMatrix(completions) {
  const count = Math.max(0, ...completions.map((c) => c.tests.length));
  if (!count) return empty("No single test's result was kept.");
  const head = el("tr", {}, el("th", { scope: "col" }, "test"), completions.map((_, i) => el("th", { scope: "col" }, `#${i + 1}`)));
  const inputs = completions.find((c) => c.tests.length === count).inputs;
  const rows = Array.from({ length: count }, (_, t) => el("tr", {}, el("th", { scope: "row" }, inputs[t] || `test ${t + 1}`),
    completions.map((c) => { const s = c.tests[t];
      return el("td", {}, el("div", { class: `cell ${s ? statusClass(s) : "none"}`, title: s || "not run", role: "img", "aria-label": s || "not run" }, s ? STATUS_MARK[s] || "!" : "·")); })));
  return el("div", { class: "matrix", tabindex: "0", role: "region", "aria-label": "Tests by completion" },
    el("table", {}, el("thead", {}, head), el("tbody", {}, rows)));
}

function groupView(group) {
  const completions = [...group.completions.entries()];
  return el("div", {}, el("p", { class: "quiet" }, `step ${number(group.step)} · ${group.problem} · ${group.level} · ${group.sort}`),
    later("The prompt", () => el("pre", {}, group.prompt)), testMatrix(group.completions),
    el("div", { class: "side" }, completions.map(([i, c]) => completionCard(c, i))));
}

function groupsSection(completions) {
  const groups = completions.groups;
  const place = el("div", { class: "card", "aria-live": "polite" });
  const name = (g) => `step ${g.step} · ${g.sort} · ${g.level} · ${g.problem}`;
  const choice = el("select", { id: "group-choice" });
  const sorts = ["all", "mixed", "hopeless", "solved", "suspect"];
  const has = (g, sort) => sort === "all" || g.sort === sort || (sort === "suspect" && g.completions.some((c) => c.signs.length));
  const show = () => place.replaceChildren(groups.length ? groupView(groups[Number(choice.value)]) : empty("No group fits."));
  const buttons = sorts.filter((sort) => groups.some((g) => has(g, sort))).map((sort) =>
    el("button", { type: "button", "aria-pressed": String(sort === "all"), onclick: (event) => {
      for (const other of buttons) other.setAttribute("aria-pressed", String(other === event.currentTarget));
      fill(sort); show(); } }, sort));
  function fill(sort) {
    choice.replaceChildren(...groups.map((g, i) => [g, i]).filter(([g]) => has(g, sort)).map(([g, i]) => el("option", { value: i }, name(g))));
  }
  choice.addEventListener("change", () => { window.chosenGroup = choice.value; show(); });
  fill("all");
  if (window.chosenGroup !== undefined && groups[window.chosenGroup]) choice.value = window.chosenGroup;
  else choice.value = String(Math.max(0, groups.findIndex((g) => g.sort === "mixed")));
  show();
  const lead = "What GRPO compares: the completions of one problem at one step, with the reward and advantage that each got. " +
    `${number(groups.length)} groups are in this page. ${completions.groups_choice}`;
  return section("groups", "Groups", "Groups side by side", lead,
    el("div", { class: "picker" }, buttons, el("label", { for: "group-choice" }, "Group"), choice), place);
}

function problemView(grid, row) {
  const name = grid.problems[row], detail = grid.details[name];
  const rates = grid.cells.filter((cell) => cell[1] === row).map((cell) => [grid.steps[cell[0]], cell[2]]).sort((a, b) => a[0] - b[0]);
  const head = el("div", {}, el("h3", {}, name), el("p", { class: "quiet" }, `${grid.levels[row]} · ` + rates.map(([s, r]) => `step ${s}: ${percent(r)}`).join(" · ")));
  if (!detail) return el("div", {}, head, empty("This problem's texts did not fit into the page; grpo samples shows them."));
  const sides = [detail.first, detail.last].filter(Boolean).map((c) =>
    el("div", {}, el("p", { class: "quiet" }, `step ${number(c.step)}`), completionCard(c, null)));
  return el("div", {}, head, later("The prompt", () => el("pre", {}, detail.prompt)), el("div", { class: "side" }, sides),
    detail.difference ? later("What changed in the code", () => diffView(detail.difference)) : null);
}

function problemsSection(grid) {
  const place = el("div", { class: "card", id: "problem", "aria-live": "polite" }, empty("Click a cell, or choose a problem above."));
  const choice = el("select", { id: "problem-choice" }, el("option", { value: "" }, "choose ..."),
    grid.problems.map((name, i) => el("option", { value: i }, `${grid.levels[i]} · ${name}`)));
  const show = (row) => { choice.value = row; place.replaceChildren(problemView(grid, Number(row))); };
  choice.addEventListener("change", () => choice.value && show(choice.value));
  const starts = grid.levels.map((level, i) => (i === 0 || grid.levels[i - 1] !== level ? [level, i] : null)).filter(Boolean);
  const height = Math.max(220, Math.min(900, 80 + 3.4 * grid.problems.length));
  const option = () => ({
    ...baseOption({}),
    grid: { left: 8, right: 18, top: 8, bottom: 56, containLabel: true },
    tooltip: { trigger: "item", confine: true, backgroundColor: css("--card"), borderColor: css("--line"), textStyle: { color: css("--ink"), fontSize: 13 },
      formatter: (p) => tipOf(grid.problems[p.value[1]], [[p.color, `step ${grid.steps[p.value[0]]}`, percent(p.value[2])]], [grid.levels[p.value[1]]]) },
    xAxis: { type: "category", data: grid.steps, axisLabel: { color: css("--soft") }, axisTick: { show: false }, axisLine: { lineStyle: { color: css("--line") } } },
    yAxis: { type: "category", data: grid.problems, inverse: true, axisTick: { show: false }, axisLine: { show: false },
      axisLabel: { color: css("--soft"), interval: (i) => starts.some((s) => s[1] === i), formatter: (_, i) => (starts.find((s) => s[1] === i) || [""])[0], verticalAlign: "top" } },
    visualMap: { min: 0, max: 1, orient: "horizontal", left: 0, bottom: 0, itemHeight: 110, itemWidth: 11, text: ["all tests pass", "none"], textStyle: { color: css("--soft") },
      inRange: { color: theme === "light" ? ["#f5dcc3", "#bfd8c4", "#5aa897", "#0b5f58"] : ["#4a352b", "#3b5a50", "#2f8371", "#35b39b"] } },
    series: [{ type: "heatmap", data: grid.cells, progressive: 0, emphasis: { itemStyle: { borderColor: css("--ink"), borderWidth: 1 } } }],
  });
  const left = grid.left_out;
  const missing = [left.problems && `${number(left.problems)} problems`, left.evaluations && `${number(left.evaluations)} evaluations`].filter(Boolean).join(" and ");
  const lead = "Held-out problems, one row each, by level and id; one column an evaluation." + (missing ? ` Left out evenly to keep the page small: ${missing}.` : "");
  return section("problems", "Problems", "Problems over time", lead,
    figure({ id: "problem-grid", title: "Share of tests passed", note: "A row that turns green was learned; one that turns back was forgotten.", height, renderer: "canvas", option,
      onClick: (p) => show(p.value[1]) }),
    el("div", { class: "picker" }, el("label", { for: "problem-choice" }, "Problem"), choice), place);
}

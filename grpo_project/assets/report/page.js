"use strict";
// The page from top to bottom, and what keeps it up to date.

let DATA = JSON.parse(document.getElementById("data").textContent);
const root = document.getElementById("root");

const stageAt = (stages, step) => stages.find((s) => step >= s.start && step <= s.end);

function learningFigure(run, { id = "learning", height = 380 } = {}) {
  const held = run.held_out, reward = run.reward, last = Math.max(1, run.last_step);
  const kills = (run.attempts || []).slice(0, -1).map((a) => a.seen);
  const stages = run.stages || [], parted = run.divergence || [];
  const names = [held && "held-out pass rate", reward.curve[0].length && "training reward", ...Object.keys(held ? held.pass_at : {})].filter(Boolean);
  const context = (step) => {
    const stage = stageAt(stages, step), apart = parted.find((d) => step >= d.start && step <= d.end);
    const attempt = (run.attempts || []).length > 1 && run.attempts.find((a) => step > a.from && step <= a.kept);
    return [stage && `Stage ${stage.stage}. ${stage.why}`, attempt && `Process start ${attempt.number}`, apart && apart.text].filter(Boolean);
  };
  const paints = Object.fromEntries([["held-out pass rate", 0], ["training reward", 1], ...Object.keys(held ? held.pass_at : {}).map((name, i) => [name, i + 2])]);
  return figure({ id, height, title: "Held-out pass rate and training reward", key: names.map((name) => [name, () => colour(paints[name])]),
    note: `Band: 95% interval over problems. Reward: mean of ${reward.window} steps.` + (stages.length ? " Grey bands: stages of the curriculum." : "") + (kills.length ? " Dotted lines: where a process ended." : ""),
    option: () => {
      const base = baseOption({ last, min: 0, max: held ? 1 : undefined, legend: names, tip: stepTip(number, context) });
      const areas = stages.map((s, i) => [{ xAxis: s.start, name: s.stage, itemStyle: { color: css(i % 2 ? "--fill" : "--card"), opacity: 0.75 },
        label: { color: css("--soft"), position: "insideTop", fontSize: 11, show: (s.end - s.start) / last * (root.clientWidth - 90) > 7 * s.stage.length } }, { xAxis: s.end }]);
      const apart = parted.map((d) => [{ xAxis: d.start, name: "reward up, held-out flat", itemStyle: { color: css("--warn"), opacity: 0.2 },
        label: { color: css("--warn"), position: "insideBottom", fontSize: 11 } }, { xAxis: d.end }]);
      const marks = { markArea: { silent: true, data: [...areas, ...apart] },
        markLine: { silent: true, symbol: "none", label: { show: false }, lineStyle: { color: css("--bad"), type: "dotted", width: 1.3 }, data: kills.map((x) => ({ xAxis: x })) } };
      const series = [{ type: "line", name: "marks low", data: [], ...marks }];
      if (reward.curve[0].length) series.push(curve("training reward", reward.curve, 1, { lineStyle: { width: 1.6, color: colour(1), opacity: 0.75 }, showSymbol: false }));
      if (held) {
        if (held.low[0].length === held.high[0].length) series.push(...band("interval", held.low, held.high, 0));
        Object.entries(held.pass_at).forEach(([name, points], i) => series.push(curve(name, points, i + 2, { lineStyle: { width: 1.3, type: "dashed", color: colour(i + 2) }, showSymbol: false })));
        series.push(curve("held-out pass rate", held.rate, 0, { lineStyle: { width: 3, color: colour(0) }, showSymbol: held.rate[0].length < 40, symbolSize: 7, z: 4 }));
      }
      return { ...base, series };
    },
    rows: () => joined([...(held ? [{ name: "pass rate", points: held.rate }, { name: "low", points: held.low }, { name: "high", points: held.high },
      ...Object.entries(held.pass_at).map(([name, points]) => ({ name, points }))] : []), { name: `reward, mean of ${reward.window}`, points: reward.curve }]) });
}

function attemptsFigure(run) {
  const starts = run.attempts.slice(-40), last = Math.max(1, run.last_step);
  const names = starts.map((a) => `start ${a.number}`);
  const bar = (name, values, style) => ({ name, type: "bar", stack: "all", barWidth: 12, data: values, itemStyle: style, emphasis: { disabled: true } });
  const decal = { symbol: "rect", dashArrayX: [1, 0], dashArrayY: [2, 4], rotation: -Math.PI / 4, color: css("--card") };
  return figure({ id: "attempts", title: "Process starts", height: 60 + 24 * starts.length,
    note: "Each bar is one process. What a kill cost is the pale end: steps that the next start did again." + (run.attempts.length > 40 ? ` The last 40 of ${run.attempts.length}.` : ""),
    option: () => ({ ...baseOption({ last, tip: (params) => { const a = starts[params[0].dataIndex];
      return tipOf(`start ${a.number}: ${a.how || "?"}`, [[colour(0), "steps that count", `${a.from} to ${a.kept}`], [css("--soft"), "done again later", counted(a.seen - a.kept, "step")]], [a.ended || ""]); } }),
      xAxis: { ...baseOption({ last }).xAxis, type: "value" },
      yAxis: { type: "category", data: names, inverse: true, axisTick: { show: false }, axisLine: { show: false }, axisLabel: { color: css("--soft") } },
      series: [bar("before", starts.map((a) => a.from), { color: "transparent" }), bar("counts", starts.map((a) => a.kept - a.from), { color: colour(0) }),
        bar("again", starts.map((a) => a.seen - a.kept), { color: colour(1), opacity: 0.65, decal })] }),
    rows: () => ({ columns: [{ name: "start", number: true }, { name: "from", number: true }, { name: "counts to", number: true }, { name: "came to", number: true }, { name: "end" }, { name: "begun" }],
      rows: run.attempts.map((a) => [number(a.number), number(a.from), number(a.kept), number(a.seen), a.how || "?", a.started ? whenText(a.started) : "-"]) }) });
}

function learningSection(run) {
  const held = run.held_out, last = Math.max(1, run.last_step), blocks = [learningFigure(run)];
  if (!held) blocks.push(empty("No evaluation was made (--eval_every_n_steps 0), so there is no pass rate to show."));
  const levels = held ? Object.entries(held.levels) : [];
  const more = [];
  if (levels.length > 1) more.push(linesFigure({ id: "levels", title: "By level", note: "Held-out pass rate of each level.", last, min: 0, max: 1, height: 260,
    curves: levelCurves(held.levels) }));
  if (run.attempts.length > 1) more.push(attemptsFigure(run));
  if (more.length) blocks.push(el("div", { class: more.length > 1 ? "grid2" : "" }, more));
  return section("learning-section", "Learning", "Does it learn?", null, blocks);
}

function timeSection(run) {
  const last = Math.max(1, run.last_step), blocks = [];
  const names = Object.keys(run.time).filter((name) => name !== "step");
  if (names.length) blocks.push(stackFigure({ id: "time", title: "Seconds of a step", last, columns: run.time, yName: "s",
    note: `${names.length > 1 ? "What a step's time goes to, layer by layer." : "The journal does not part the time of a step."} ${run.time_in_all}` }));
  if (run.tokens_per_second[0].length) blocks.push(linesFigure({ id: "tokens", title: "Tokens a second", note: "Prompt and completion tokens that were trained on.", last, min: 0,
    curves: [{ name: "tokens a second", points: run.tokens_per_second, index: 2, more: { showSymbol: false, lineStyle: { width: 1.3, color: colour(2) } } }] }));
  const memory = Object.entries(run.curves).filter(([name]) => /memory/.test(name));
  if (memory.length) blocks.push(linesFigure({ id: "memory", title: "Peak memory", note: "MB, since the process began.", last, min: 0, curves: memory.map(([name, points]) => ({ name: name.replace("memory/", "").replace("_mb", ""), points, more: { showSymbol: false } })) }));
  return blocks.length ? section("time-section", "Time", "Where the time goes", null, el("div", { class: "grid2" }, blocks)) : null;
}

const SIGNALS = [
  ["Entropy", "Of the next token, mean over completions. Falling to 0: nothing is tried any more.", [["entropy", "entropy"]], { min: 0 }],
  ["Distance from the reference", "KL divergence.", [["kl", "KL"]], {}],
  ["Clipped", "Share of tokens whose ratio was clipped.", [["clip_ratio/region_mean", "all"], ["clip_ratio/low_mean", "low"], ["clip_ratio/high_mean", "high"]], { min: 0 }],
  ["Sampler against trainer", "Difference of log-probabilities: what the sampler drew from against what is trained.",
    [["sampling/sampling_logp_difference/mean", "mean"], ["sampling/sampling_logp_difference/max", "max"]], {}],
  ["Gradient norm", "Before clipping.", [["grad_norm", "norm"]], { min: 0 }],
  ["Completion length", "Tokens: shortest, mean, longest.", [["completions/max_length", "longest"], ["completions/mean_length", "mean"], ["completions/min_length", "shortest"]], { min: 0 }],
  ["Cut off", "Share of completions that met the token limit.", [["completions/clipped_ratio", "cut off"]], { min: 0, percentY: true }],
  ["Groups without signal", "Share whose rewards are all alike.", [["frac_reward_zero_std", "no variance"]], { min: 0, max: 1, percentY: true }],
  ["Loss", "", [["loss", "loss"]], {}],
  ["Learning rate", "", [["learning_rate", "learning rate"]], { min: 0 }],
];

function signalSection(run) {
  const last = Math.max(1, run.last_step), found = run.completions, figures = [];
  if (found && found.outcomes_of_groups.step) figures.push(stackFigure({ id: "outcomes-of-groups", title: "Groups", percentY: true, colours: true, last, columns: found.outcomes_of_groups, height: 220,
    note: "Mixed ones teach. Solved by every completion, or by none, they teach little or nothing." }));
  for (const [title, note, names, more] of SIGNALS) {
    const curves = names.filter(([name]) => run.curves[name]).map(([name, shown], i) => ({ name: shown, points: run.curves[name], index: i, more: { showSymbol: run.curves[name][0].length < 3, lineStyle: { width: 1.4, color: undefined } } }));
    const zero = curves.every((c) => c.points[1].every((v) => v === 0));
    if (curves.length && !(zero && /Clipped|reference/.test(title))) figures.push(linesFigure({ id: `signal-${names[0][0]}`, title, note, curves, last, ...more }));
  }
  return figures.length ? section("signal-section", "Signal", "Is there signal?", "What each step had to learn from, and how the policy moved.", el("div", { class: "grid3" }, figures)) : null;
}

// A button that shows a suspect's group, if it is in the page.
function toGroup(found, suspect) {
  const place = found.groups.findIndex((g) => g.step === suspect.step && g.problem === suspect.problem);
  if (place < 0) return null;
  return el("button", { type: "button", onclick: () => {
    window.chosenGroup = String(place);
    const section = groupsSection(found);
    document.getElementById("groups").replaceWith(section);
    section.scrollIntoView();
    section.querySelector("select").focus({ preventScroll: true });
  } }, "Show its group");
}

function failuresSection(run) {
  const found = run.completions, last = Math.max(1, run.last_step);
  const share = (v) => (v === null ? "-" : percent(v));
  const kinds = table([{ name: "kind" }, { name: `to step ${found.failures_since}`, number: true }, { name: "after", number: true }, { name: "example" }],
    found.failures.map((f) => [el("span", {}, f.kind, f.new ? el("span", { class: "chip warn", style: "margin-left:8px" }, "new") : null), share(f.before_share), share(f.after_share), el("span", { class: "mono" }, f.example)]), "Kinds of failure");
  const suspects = found.suspects.length
    ? el("ul", { class: "plain" }, found.suspects.map((s) => el("li", {}, el("b", {}, `step ${number(s.step)} · ${s.problem} · ${s.level}`), s.signs.map((sign) => el("div", {}, sign)), toGroup(found, s))))
    : empty("None among the completions that were read closely.");
  return section("failures", "Failures", "How it fails, and what looks too good",
    `${number(found.count)} training completions; messages and code of ${number(found.read_closely)} of them were read closely.`,
    stackFigure({ id: "outcomes", title: "Outcomes of completions", percentY: true, colours: true, last, columns: found.outcomes, note: "Share of each step's completions." }),
    el("div", { class: "grid2" },
      card(el("h3", {}, "Kinds of failure"), el("p", { class: "note quiet" }, `Shares of completions up to step ${found.failures_since}, where the evaluation before the newest was made, and after it; a new kind is marked.`), kinds),
      card(el("h3", {}, "Suspects"), el("p", { class: "note quiet" }, "Passed, perhaps for a reason that is not the problem's. Signs, not proofs."), suspects,
        el("p", { class: "quiet" }, found.weak_share === null ? "Whether verdicts were weak is not recorded." : `Weak verdicts (judged inside the program's own process): ${percent(found.weak_share)}.`))));
}

function recordSection(run) {
  const chip = (c) => (c.good === null ? null : el("span", { class: `chip ${c.good ? "good" : "bad"}` }, c.good ? "good" : "look at this"));
  const alarms = run.alarms.length ? el("ul", { class: "plain" }, run.alarms.map((a) => el("li", {}, el("b", {}, `step ${a.step ?? "-"} · ${a.kind.replaceAll("_", " ")}`), el("div", {}, a.cause), a.remedy ? el("div", { class: "quiet" }, a.remedy) : null))) : empty("None was raised.");
  const rates = (d) => (d.evidence === null ? "-" : number(d.evidence) + (d.interval ? ` [${number(d.interval[0])}, ${number(d.interval[1])}]` : ""));
  const decisions = run.decisions.length ? table([{ name: "step", number: true }, { name: "decision" }, { name: "evidence", number: true }, { name: "threshold", number: true }, { name: "reason" }],
    run.decisions.map((d) => [number(d.step), d.action === "hold" ? `hold in ${d.stage}` : `${d.stage} to ${d.next_stage}`, rates(d), number(d.threshold), d.reason]), "Decisions of the curriculum") : empty("No curriculum, or no evaluation yet.");
  const flags = Object.entries(run.config).flatMap(([part, values]) => Object.entries(values).filter(([, v]) => v !== null && v !== "").map(([k, v]) => [part, k, typeof v === "object" ? JSON.stringify(v) : String(v)]));
  const changes = run.changes.length ? table([{ name: "start", number: true }, { name: "flag" }, { name: "before" }, { name: "after" }], run.changes.map((c) => [number(c.start), c.flag, String(c.before), String(c.after)]), "Changed flags") : empty("No flag changed between process starts.");
  return section("record", "Record", "Alarms, decisions, record", null,
    el("div", { class: "grid2" }, card(el("h3", {}, "Alarms"), alarms),
      card(el("h3", {}, "Is the record whole?"), table([{ name: "what" }, { name: "found" }, { name: "verdict" }], run.integrity.map((c) => [c.name, c.found, chip(c)]), "Integrity"))),
    card(el("h3", {}, "Decisions of the curriculum"), decisions),
    card(el("h3", {}, "What was run"), el("table", { class: "facts" }, el("tbody", {}, run.facts.map(([k, v]) => el("tr", {}, el("th", { scope: "row" }, k), el("td", { class: k === "Command" ? "mono" : null }, v))))),
      el("h3", { style: "margin-top:14px" }, "Flags that changed between starts"), changes,
      later(`All ${flags.length} flags`, () => table([{ name: "part" }, { name: "flag" }, { name: "value" }], flags, "All flags"))));
}

function everythingElse(run) {
  const known = new Set([...SIGNALS.flatMap((s) => s[2].map(([name]) => name)), "reward", "step_time", "num_tokens", "epoch"]);
  const rest = Object.entries(run.curves).filter(([name]) => !known.has(name) && !/^time\/|memory/.test(name));
  if (!rest.length) return null;
  const node = later(`${rest.length} further metrics of the journal`, () => {
    const grid = el("div", { class: "grid3" }, rest.map(([name, points]) => linesFigure({ id: `metric-${name}`, title: name, curves: [{ name, points, index: 0, more: { showSymbol: points[0].length < 3 } }], last: Math.max(1, run.last_step), height: 170 })));
    setTimeout(drawWaiting);
    return grid;
  });
  return section("rest", "Metrics", "Everything else", null, node);
}

// Curves of our own making: each a mean with its seeds.
const seedsFigure = (f) => figure({ id: f.id, title: f.title, note: f.note, height: 400, key: f.curves.map((c, i) => [c.name, () => colour(i)]),
  option: () => ({ ...baseOption({ last: f.last, min: 0, max: 1, legend: f.curves.map((c) => c.name), tip: (params) => tipOf(`${number(params[0].axisValue, 0)} ${f.x}`, shown(params).map((p) => [p.color, p.seriesName, number(p.value[1])])) }),
    series: f.curves.flatMap((c, i) => [...c.seeds.map((points) => curve(`${c.name} low`, points, i, { symbol: "none", lineStyle: { width: 1, opacity: 0.35, color: colour(i) } })),
      curve(c.name, c.points, i, { symbol: "none", lineStyle: { width: 3, color: colour(i) } })]) }),
  rows: () => joined(f.curves) });

const chipOf = (run) => el("span", { class: `chip ${{ finished: "good", running: "good", failed: "bad", killed: "bad", interrupted: "warn" }[run.status] || ""}` }, run.status);
const tilesOf = (run) => el("div", { class: "tiles" }, run.tiles.map((t) => el("div", { class: "tile" }, el("div", { class: "label" }, t.label), el("div", { class: t.value.length > 9 ? "value long" : "value" }, t.value), el("div", { class: "detail" }, t.detail))));

function runPage(run) {
  return [
    el("p", { class: "sentence" }, `${run.sentence}.`), el("p", { class: "quiet" }, `${run.judgement} · last written ${whenText(run.updated)} · ${run.folder}`), tilesOf(run),
    learningSection(run), timeSection(run), signalSection(run), run.grid ? problemsSection(run.grid) : null,
    run.completions ? groupsSection(run.completions) : null, run.completions ? failuresSection(run) : null, recordSection(run), everythingElse(run),
  ].filter(Boolean);
}

function render() {
  for (const [, entry] of drawn) entry.chart.dispose();
  drawn.clear(); waiting.length = 0;
  const open = [...document.querySelectorAll("details[open][id]")].map((d) => d.id), at = window.scrollY;
  const single = DATA.runs.length === 1 && !DATA.comparison;
  const blocks = DATA.figures ? DATA.figures.map(seedsFigure) : DATA.samples ? [groupsSection(DATA.samples)] : single ? runPage(DATA.runs[0]) : comparisonPage(DATA);
  const links = blocks.filter((b) => b.tagName === "SECTION").map((b) => el("a", { href: `#${b.id}` }, b.dataset.short));
  const button = el("button", { type: "button", onclick: switchTheme }, theme === "dark" ? "Light" : "Dark");
  root.replaceChildren(
    el("header", { class: "top" }, el("div", { class: "wrap" }, el("div", { class: "line" }, el("h1", {}, document.title), single ? chipOf(DATA.runs[0]) : null,
      DATA.refresh_s ? el("span", { class: "chip good", id: "live", role: "status" }, "live") : null, el("span", { class: "spacer" }), button))),
    el("nav", { "aria-label": "Sections" }, el("div", { class: "wrap" }, links)),
    el("main", { id: "main", class: "wrap" }, blocks),
    el("footer", {}, el("div", { class: "wrap" }, `Made ${whenText(DATA.made)} by grpo_project ${DATA.version}. Charts: Apache ECharts ${echarts.version} (Apache-2.0). ${DATA.refresh_s ? "It asks the local server for news." : "This page calls nobody."}`)));
  for (const id of open) { const node = document.getElementById(id); if (node) node.open = true; }
  const picture = /^#picture=(.+)$/.exec(location.hash);
  if (picture) { document.documentElement.dataset.picture = picture[1]; root.replaceChildren(el("div", { class: "wrap" }, document.getElementById(picture[1]))); }
  window.scrollTo(0, at);
  drawWaiting();
}

function setTheme(name) { theme = name; document.documentElement.dataset.theme = name; }
function switchTheme() { setTheme(theme === "dark" ? "light" : "dark"); document.querySelector("header button").textContent = theme === "dark" ? "Light" : "Dark"; redrawAll(); }

const prefersDark = window.matchMedia("(prefers-color-scheme: dark)");
prefersDark.addEventListener("change", (event) => { setTheme(event.matches ? "dark" : "light"); render(); });
let beforePrint = null;
window.addEventListener("beforeprint", () => { beforePrint = theme; setTheme("light"); while (waiting.length) { const next = waiting.shift(); if (next.box.isConnected) draw(next); } redrawAll(); });
window.addEventListener("afterprint", () => { setTheme(beforePrint); redrawAll(); });

// Served by `grpo report --serve`: ask for newer data, and draw anew when there is some.
async function refresh() {
  try {
    const answer = await fetch(`data${location.search}`, { headers: { "If-None-Match": `"${DATA.revision}"` }, cache: "no-store" });
    if (answer.status === 200) { DATA = await answer.json(); render(); }
    else if (answer.status !== 304) throw new Error(`status ${answer.status}`);
    say("live", "good");
  } catch (error) { say("the server does not answer", "warn"); }
  setTimeout(refresh, 1000 * DATA.refresh_s);
}
function say(text, kind) { const chip = document.getElementById("live"); if (chip) { chip.textContent = text; chip.className = `chip ${kind}`; } }

setTheme(prefersDark.matches ? "dark" : "light");
render();
if (DATA.refresh_s) refresh();

"use strict";
// Several runs beside each other.

function comparisonPage(data) {
  const runs = data.runs, c = data.comparison, last = Math.max(1, ...runs.map((run) => run.last_step));
  const names = distinct(runs.map((run) => run.name));
  const rate = (run) => (run.held_out ? run.held_out.rate[1].at(-1) : null);
  const interval = (run) => (run.held_out && run.held_out.low[1].length ? ` [${number(run.held_out.low[1].at(-1))}, ${number(run.held_out.high[1].at(-1))}]` : "");
  const overview = table([{ name: "run" }, { name: "state" }, { name: "step", number: true }, { name: "held-out pass rate" }, { name: "since the first evaluation" }, { name: "reward", number: true }],
    runs.map((run, i) => [el("b", {}, swatch(() => colour(i)), " ", names[i]), chipOf(run), number(run.last_step), `${number(rate(run))}${interval(run)}`, run.judgement, number(run.reward.curve[1].at(-1))]), "Runs");
  return [
    el("p", { class: "sentence" }, `${runs.length} runs${rate(runs[0]) === null ? "" : `, held-out pass rate ${runs.map((run) => number(rate(run), 2)).join(", ")}`}.`),
    section("runs", "Runs", "Runs", null, card(overview)),
    section("learning-section", "Learning", "Which one learns?", null, compareLearning(runs, names, c, last),
      el("div", { class: "grid2" }, linesFigure({ id: "compare-reward", title: "Training reward", last, height: 280, note: "Moving means. Rewards of different kinds can't be compared.",
        curves: runs.map((run, i) => ({ name: names[i], points: run.reward.curve, index: i, more: { showSymbol: false } })) }),
        ...c.averages.map((a) => linesFigure({ id: "compare-levels", title: `By level: mean of ${a.runs.length} seeds`, last, min: 0, max: 1, height: 280, note: a.runs.join(", "),
          curves: levelCurves(a.levels) })))),
    section("paired", "Paired", "Better on the same problems?", "Differences of the last evaluations over the problems that both runs were evaluated on: 95% interval, and how likely chance alone gives as much (sign-flip test).",
      card(c.paired.length ? table([{ name: "run" }, { name: "against" }, { name: "problems", number: true }, { name: "pass rates", number: true }, { name: "difference", number: true }, { name: "p", number: true }],
        c.paired.map((p) => p.change === undefined ? [p.second, p.first, number(p.problems), "-", "too few common problems", "-"]
          : [p.second, p.first, number(p.problems), `${number(p.second_mean)} against ${number(p.first_mean)}`, `${signed(p.change)} [${signed(p.low)}, ${signed(p.high)}]`, p.p < 0.0005 ? "< 0.001" : p.p.toFixed(3)]), "Paired tests") : empty("One run has nothing to be compared with."))),
    section("cost", "Cost", "What does a pass rate cost?", "Where each curve first meets a pass rate, by a straight line between evaluations: optimizer steps, seconds in steps, completions.",
      card(c.targets.length ? table([{ name: "pass rate", number: true }, ...names.map((name) => ({ name, number: true }))],
        c.targets.map((t) => [number(t.target), ...t.runs.map((r) => r === null ? "not reached" : `step ${number(r.step, 0)} · ${number(r.seconds, 0)} s · ${number(r.completions)}`)]), "Cost of pass rates") : empty("No run crosses one of the pass rates that are looked at."))),
    section("flags", "Flags", "Which flags differ?", null,
      card(c.flags.length ? table([{ name: "flag" }, ...names.map((name) => ({ name }))], c.flags.map((f) => [f.flag, ...f.values.map((v) => (v === null ? "-" : typeof v === "object" ? JSON.stringify(v) : String(v)))]), "Flags that differ") : empty("None but the names."))),
  ];
}

// Runs of the same name get a number.
const distinct = (names) => names.map((name, i) => (names.indexOf(name) === names.lastIndexOf(name) ? name : `${name} (${i + 1})`));

const levelCurves = (levels) => Object.entries(levels).map(([name, points], i) => ({ name, points, index: levelColour(name, i), more: { showSymbol: points[0].length < 25 } }));

function compareLearning(runs, names, c, last) {
  const averaged = c.averages.length > 0;
  const means = c.averages.map((a, i) => ({ name: `mean of ${a.runs.length} seeds`, a, index: i }));
  const shown = runs.map((run, i) => [run, i]).filter(([run]) => run.held_out);
  const index = (i) => (averaged ? 7 : i);
  return figure({ id: "compare-learning", title: "Held-out pass rate", height: 380,
    note: averaged ? "Thick: the mean; band: lowest to highest seed; thin: each seed." : "Bands: 95% intervals over problems.",
    key: [...means.map((m) => [m.name, () => colour(m.index)]), ...shown.map(([, i]) => [names[i], () => colour(index(i))])],
    option: () => ({ ...baseOption({ last, min: 0, max: 1, legend: [...means.map((m) => m.name), ...names], tip: stepTip(number) }),
      series: [
        ...shown.flatMap(([run, i]) => [
          ...(averaged || run.held_out.low[0].length !== run.held_out.high[0].length ? [] : band(names[i], run.held_out.low, run.held_out.high, i, 0.1)),
          curve(names[i], run.held_out.rate, index(i), { lineStyle: { width: averaged ? 1 : 2.4, color: colour(index(i)), opacity: averaged ? 0.6 : 1 }, showSymbol: !averaged && run.held_out.rate[0].length < 40 })]),
        ...means.flatMap((m) => [...band(m.name, m.a.low, m.a.high, m.index, 0.18),
          curve(m.name, m.a.mean, m.index, { lineStyle: { width: 3.4, color: colour(m.index) }, symbolSize: 7, showSymbol: true, z: 4 })]),
      ] }),
    rows: () => joined([...means.map((m) => ({ name: m.name, points: m.a.mean })), ...shown.map(([run, i]) => ({ name: names[i], points: run.held_out.rate }))]) });
}

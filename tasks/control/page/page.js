"use strict";
// Draws the state that the flow sends once a second. Nothing is built from strings of HTML: every text is a text node.

const GOOD = new Set(["live"]);
const BAD = new Set(["stale", "closing", "backoff", "fatal"]);
const SPAN_MS = 15 * 60 * 1000;
const SILENT_AFTER_MS = 4000;
const RETRY_MS = 3000;
const SVG = "http://www.w3.org/2000/svg";
const at = (id) => document.getElementById(id);
const opened = performance.now(); // whoever sets the clock makes nothing old
let heard = null;
let before = null;

const toneOf = (state) => (GOOD.has(state) ? "good" : BAD.has(state) ? "bad" : "waiting");
const clock = (ms) => new Date(ms).toISOString().slice(11, 19);
const number = (value, digits = 2) =>
  value === null || value === undefined ? "–" : value.toLocaleString("en", { maximumFractionDigits: digits, minimumFractionDigits: Math.min(digits, 2) });
// Quantities as they are: a tenth of a millionth is a usual step.
const amount = (value) => (value === null || value === undefined ? "–" : value.toLocaleString("en", { maximumFractionDigits: 8 }));
const whole = (value) => (value === null || value === undefined ? "–" : Math.round(value).toLocaleString("en"));

function make(tag, attributes = {}, ...children) {
  const svg = ["svg", "rect", "line", "path", "title"].includes(tag);
  const element = svg ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function price(value) {
  if (value === null || value === undefined) return "–";
  // Below 1 six significant digits: some coins cost a hundred thousandth.
  const digits = value >= 1000 ? 2 : value >= 1 ? 4 : value > 0 ? Math.min(12, 5 - Math.floor(Math.log10(value))) : 2;
  return value.toLocaleString("en", { minimumFractionDigits: 2, maximumFractionDigits: digits });
}

function strip(history, now) {
  const svg = make("svg", { viewBox: "0 0 1000 10", preserveAspectRatio: "none" });
  history.forEach((change, index) => {
    const begins = Math.max(change.at_ms, now - SPAN_MS);
    const ends = index + 1 < history.length ? history[index + 1].at_ms : now;
    if (ends < now - SPAN_MS) return;
    const left = ((begins - now + SPAN_MS) / SPAN_MS) * 1000;
    const width = Math.max(((ends - begins) / SPAN_MS) * 1000, toneOf(change.state) === "good" ? 0 : 2);
    const piece = make("rect", { x: left, y: 0, width, height: 10, class: `s-${toneOf(change.state)}` });
    piece.append(make("title", {}, `${change.state} from ${clock(change.at_ms)}: ${change.reason}`));
    svg.append(piece);
  });
  at("strip").replaceChildren(svg);
}

// The ratio on a logarithmic scale from 1/8 to 8; the middle is balance.
const place = (ratio) => 50 + (50 * Math.max(-1, Math.min(1, Math.log(ratio) / Math.log(8))));

function gauge(symbol) {
  const svg = make("svg", { class: "gauge", viewBox: "0 0 100 26", preserveAspectRatio: "none", role: "img" });
  const ratio = symbol.pressure_ratio;
  svg.append(make("title", {}, ratio === null ? "no valid book" : `pressure ratio ${number(ratio)}`));
  svg.append(make("rect", { x: 0, y: 7, width: 100, height: 12, class: "g-track" }));
  if (ratio !== null) {
    const end = place(ratio);
    svg.append(make("rect", { x: Math.min(50, end), y: 7, width: Math.abs(end - 50), height: 12, class: ratio >= 1 ? "g-buy" : "g-sell" }));
  }
  for (const mark of [0.4, 2.5]) svg.append(make("line", { x1: place(mark), x2: place(mark), y1: 3, y2: 23, class: "g-mark", "vector-effect": "non-scaling-stroke" }));
  svg.append(make("line", { x1: 50, x2: 50, y1: 3, y2: 23, class: "g-mid", "vector-effect": "non-scaling-stroke" }));
  return svg;
}

function spark(points) {
  const svg = make("svg", { class: "spark", viewBox: "0 0 119 44", preserveAspectRatio: "none", "aria-hidden": "true" });
  for (const level of [0.4, 1, 2.5]) {
    const y = 44 - (place(level) / 100) * 44;
    svg.append(make("line", { x1: 0, x2: 119, y1: y, y2: y, class: "sp-mark" }));
  }
  let path = "";
  let drawing = false;
  points.forEach((point, index) => {
    if (point === null) { drawing = false; return; }
    path += `${drawing ? "L" : "M"}${119 - points.length + 1 + index} ${(44 - (place(point) / 100) * 44).toFixed(2)}`;
    drawing = true;
  });
  if (path) svg.append(make("path", { d: path, class: "sp-line" }));
  return svg;
}

function row(key, value) {
  return make("div", { class: "row" }, make("span", { class: "key" }, key), make("span", {}, value));
}

function card(symbol) {
  const badge = make("span", { class: `badge ${symbol.valid ? "good" : "bad"}` }, symbol.valid ? "✓ valid" : "✗ not valid");
  const lean = symbol.episode === null ? "" : symbol.episode.includes(":buy:") ? " · buy pressure" : " · sell pressure";
  return make("article", { class: symbol.valid ? "card" : "card invalid" },
    make("header", {}, make("h3", {}, symbol.symbol), badge),
    make("div", { class: symbol.valid ? "price" : "price faint" }, price(symbol.last_price)),
    row("Spread", price(symbol.spread)),
    row("Pressure", symbol.pressure_ratio === null ? "–" : number(symbol.pressure_ratio) + lean),
    gauge(symbol),
    spark(symbol.spark),
    row("Imbalance · trade flow", `${number(symbol.imbalance)} · ${number(symbol.trade_flow)}`),
    row("Age · latency", `${symbol.age_s === null ? "–" : number(symbol.age_s, 1) + " s"} · ${symbol.latency_ms === null ? "–" : whole(symbol.latency_ms) + " ms"}`),
    make("p", { class: "why" }, symbol.faults.join("; ")),
  );
}

function tile(term, value, aside = "") {
  return make("div", {}, make("dt", {}, term), make("dd", {}, value), make("div", { class: "aside" }, aside));
}

// A market of the past is minutes away, a real one milliseconds.
const offset = (ms) => (ms === null ? "–" : Math.abs(ms) < 10000 ? `${number(ms, 1)} ms` : `${number(ms / 60000, 1)} min`);

function tiles(state, rate) {
  const { connection, throughput, recording } = state.stream;
  const shown = [
    tile("Messages a second", rate === null ? "–" : whole(rate), `${whole(throughput.messages)} since the start`),
    tile("Latency p50", throughput.latency_p50_ms === null ? "–" : `${number(throughput.latency_p50_ms, 1)} ms`, `p99 ${throughput.latency_p99_ms === null ? "–" : number(throughput.latency_p99_ms, 1) + " ms"}`),
    tile("Loop lag", `${number(throughput.loop_lag_ms, 1)} ms`, `${whole(throughput.trades_dropped)} trades dropped`),
    tile("Clock offset", offset(connection.clock_offset_ms), `round trip ${connection.round_trip_ms === null ? "–" : number(connection.round_trip_ms, 1) + " ms"}`),
    tile("Attempts", whole(connection.connects), connection.retry_in_s === null ? `${connection.failures} failures in a row` : `next in ${number(connection.retry_in_s, 0)} s`),
    tile("Subscriptions", whole(connection.subscriptions), connection.refused.length ? `refused: ${connection.refused.join(", ")}` : "none refused"),
  ];
  const budget = state.rate_budget;
  if (budget) shown.push(tile("Rate budget", `${whole(budget.used)} of ${whole(budget.limit)}`, "requests in the last minute"));
  if (recording) shown.push(tile("Recorded rows", whole(recording.written), `${whole(recording.waiting)} waiting, ${whole(recording.lost)} lost`));
  at("tiles").replaceChildren(...shown);
}

function entry(ms, text) {
  return make("li", {}, make("time", { datetime: new Date(ms).toISOString() }, clock(ms)), make("span", {}, text));
}

function logs(state) {
  const { connection, alarms } = state.stream;
  const alerts = state.alerts.map((one) => entry(one.at_ms, `${one.symbol}: ${one.pressure} pressure, ratio ${number(one.ratio)} beyond ${number(one.threshold)}`));
  at("alerts").replaceChildren(...(alerts.length ? alerts.reverse() : [make("li", {}, make("span"), make("span", { class: "faint" }, "No episode yet."))]));
  const changes = connection.history.map((one) => [one.at_ms, `${one.state}: ${one.reason}`]);
  const told = alarms.map((one) => [one.at_ms, `⚠ ${one.kind}: ${one.detail}`]);
  const lines = [...changes.reverse(), ...told.reverse()].sort((a, b) => b[0] - a[0]).slice(0, 60);
  at("history").replaceChildren(...lines.map(([ms, text]) => entry(ms, text)));
}

const TONES = { active: "good", reducing: "waiting", reconciling: "waiting", halted: "bad" };
const money = (value) => number(value, 2);
const signed = (value) => (value === null || value === undefined ? "–" : `${value > 0 ? "+" : ""}${money(value)}`);
const sign = (value) => (value > 0 ? "gain" : value < 0 ? "loss" : "");
const text = (value, kind = "") => make("td", { class: kind }, value === null || value === undefined ? "–" : String(value));
const held = (value) => make("td", { class: "num" }, amount(value));
const figure = (value, digits = 4, kind = "") => make("td", { class: `num ${kind}` }, number(value, digits));
const side = (value) => make("td", { class: value }, value === "buy" ? "▲ buy" : "▼ sell");

function table(id, columns, rows, nothing) {
  if (!rows.length) { at(id).replaceChildren(make("p", { class: "faint none" }, nothing)); return; }
  const head = make("tr", {}, ...columns.map(([name, kind]) => make("th", { class: kind || "", scope: "col" }, name)));
  at(id).replaceChildren(make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows)));
}

function meter({ name, used, limit }) {
  const share = used === null ? 0 : Math.min(1, used / limit);
  const svg = make("svg", { class: "meter", viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" });
  svg.append(make("rect", { x: 0, y: 0, width: 100, height: 8, class: "g-track" }));
  svg.append(make("rect", { x: 0, y: 0, width: 100 * share, height: 8, class: share < 0.8 ? "s-good" : "s-bad" }));
  const counted = name.startsWith("orders");
  const shown = used === null ? "–" : counted ? whole(used) : number(100 * used);
  return make("div", {}, row(name, `${shown} of ${whole(counted ? limit : 100 * limit)}${counted ? "" : " %"}`), svg);
}

// In the field's terms, and with the order that was asked for where another one was sent.
function typeOf(one) {
  const sent = one.limit_price === null ? one.type : `${one.type} ${price(one.limit_price)} ${one.time_in_force.toUpperCase()}`;
  const title = one.asked === one.type ? "" : `asked for: ${one.asked} order; sent so that its price is bounded`;
  return make("td", { title }, one.asked === one.type ? sent : `${one.asked} → ${sent}`);
}

// A reason stands beneath its order, across the table: in a column of its own it would be cut off.
function orderRows(one) {
  const status = one.status.replaceAll("_", " ") + (one.pending === "none" ? "" : `, ${one.pending} asked`);
  const row = make("tr", { title: `${one.id} · ${one.signal}`, class: one.reason ? "told" : "" },
    text(one.symbol), side(one.side), held(one.quantity), held(one.filled),
    make("td", {}, make("span", { class: `status ${one.status}` }, status)), make("td", { class: "num" }, price(one.average_price)),
    typeOf(one), text(one.strategy));
  if (!one.reason) return [row];
  return [row, make("tr", { class: "why" }, make("td", { colspan: ORDER_COLUMNS.length, class: "faint" }, make("span", {}, one.reason)))];
}

const ORDER_COLUMNS = [["symbol"], ["side"], ["quantity", "num"], ["filled", "num"], ["status"], ["at", "num"], ["type"], ["strategy"]];

function trade(trading) {
  const tone = TONES[trading.state] || "waiting";
  const halted = trading.state === "halted";
  at("trading").hidden = false;
  at("trading").className = `connection ${tone}`;
  say("tradestate", halted ? "■ HALTED" : trading.state);
  say("tradewhy", trading.why);
  at("money").textContent = trading.live ? `REAL MONEY · ${trading.account}` : `${trading.broker} · pretended money`;
  at("money").className = trading.live ? "badge real" : "badge";
  at("halt").hidden = halted;
  at("clear").hidden = !halted;
  const { profit, counts } = trading;
  const doubt = trading.in_doubt.length;
  at("tradetiles").replaceChildren(
    tile("Equity", money(trading.equity), "as the broker last said"),
    tile("Profit after fees", signed(profit.net), "all that is on record"),
    tile("Realised", signed(profit.realised), "before fees"),
    tile("Unrealised", signed(profit.unrealised), "at the books' middle"),
    tile("Fees", money(profit.fees), "paid"),
    tile("Orders", whole(counts.orders), `${whole(counts.fills)} fills since the start`),
    tile("Working", whole(trading.working.length), doubt ? `${doubt} in doubt` : "none in doubt"),
  );
  at("limits").replaceChildren(...trading.limits.used.map(meter));
  table("positions", [["symbol"], ["quantity", "num"], ["opened at", "num"], ["value", "num"], ["realised", "num"], ["unrealised", "num"], ["fees", "num"]],
    trading.positions.map((one) => make("tr", {}, text(one.symbol), held(one.quantity), make("td", { class: "num" }, price(one.average_price)), figure(one.value, 2),
      make("td", { class: `num ${sign(one.realised)}` }, signed(one.realised)), make("td", { class: `num ${sign(one.unrealised)}` }, signed(one.unrealised)), figure(one.fees, 2))),
    "Nothing was traded yet.");
  table("strategies", [["symbol"], ["strategy"], ["wants"], ["bars", "num"], ["signals", "num"], ["last signal"]],
    trading.strategies.map((one) => make("tr", {}, text(one.symbol), text(`${one.strategy} ${one.interval}`), text(one.broken || one.wants, one.broken ? "loss" : ""),
      text(one.restated ? `${whole(one.bars)}, ${whole(one.restated)} corrected` : whole(one.bars), "num"), text(one.late ? `${whole(one.signals)}, ${whole(one.late)} late` : whole(one.signals), "num"), text(one.last_signal.split("|").slice(2).join(" ").replace("+00:00", "") || "–"))),
    "No strategy: the flow watches, and the desk stands ready.");
  table("working", ORDER_COLUMNS, trading.working.flatMap(orderRows), "No order is open.");
  table("orders", ORDER_COLUMNS, trading.orders.flatMap(orderRows), "No order has ended yet.");
  table("fills", [["time"], ["symbol"], ["side"], ["quantity", "num"], ["price", "num"], ["fee", "num"]],
    trading.fills.map((one) => make("tr", { title: one.id }, text(clock(one.at_ms)), text(one.symbol), side(one.side), held(one.quantity), make("td", { class: "num" }, price(one.price)), figure(one.fee, 4))),
    "Nothing was filled yet.");
  at("journalpath").textContent = `${trading.journal.path} · limits ${trading.limits.version}`;
  at("journal").replaceChildren(...trading.journal.lines.map((one) => make("li", {}, make("time", {}, clock(one.at_ms)), make("span", {}, make("b", {}, one.kind), ` ${one.id} `, one.text))));
}

// Screen readers announce what changes: the same words again are no change.
function say(id, words) {
  if (at(id).textContent !== words) at(id).textContent = words;
}

function draw(state) {
  const { connection } = state.stream;
  const tone = toneOf(connection.state);
  at("connection").className = `connection ${tone}`;
  say("state", connection.state.replace("_", " "));
  say("sentence", connection.sentence);
  document.title = `${connection.state.replace("_", " ")} · Klinehouse`;
  strip(connection.history, state.now_ms);
  const messages = state.stream.throughput.messages;
  const rate = before === null || state.now_ms <= before.now_ms ? null : (messages - before.messages) / ((state.now_ms - before.now_ms) / 1000);
  before = { now_ms: state.now_ms, messages };
  tiles(state, rate);
  at("symbols").replaceChildren(...state.stream.symbols.map(card));
  logs(state);
  if (state.trading) trade(state.trading);
}

function listen() {
  const source = new EventSource("/state");
  source.onmessage = (event) => {
    const state = JSON.parse(event.data);
    draw(state);
    heard = { since: performance.now(), at_ms: state.now_ms };
    at("silent").hidden = true;
    document.body.classList.remove("old");
  };
  // A connection that is lost is tried again by the browser, one that is refused is not.
  source.onerror = () => { if (source.readyState === EventSource.CLOSED) setTimeout(listen, RETRY_MS); };
}

function watch() {
  if (performance.now() - (heard ? heard.since : opened) < SILENT_AFTER_MS) return;
  at("silent").hidden = false;
  if (!heard) {
    say("silent", "No state has come from the live flow: it does not answer, or too many pages listen already.");
    return;
  }
  say("silent", `No news from the live flow since ${clock(heard.at_ms)}: everything below is old.`);
  at("connection").className = "connection bad";
  say("state", "no news");
  say("sentence", "What is shown is the last that was heard.");
  document.body.classList.add("old");
  document.title = "no news · Klinehouse";
}

// What changes something is asked for once more, with the token where it is not known yet. Gives null for "no".
function ask({ title, text, yes, needsName }) {
  const dialog = at("ask");
  const known = sessionStorage.getItem("token");
  at("asktitle").textContent = title;
  at("asktext").textContent = text;
  at("yes").textContent = yes;
  at("yes").className = yes.startsWith("HALT") ? "halt" : "";
  at("whobox").hidden = !needsName;
  at("tokenbox").hidden = at("tokennote").hidden = Boolean(known);
  at("token").value = known || "";
  dialog.showModal();
  return new Promise((resolve) => {
    const settle = (answer) => {
      dialog.onclose = null;
      dialog.close();
      resolve(answer);
    };
    dialog.onclose = () => settle(null);
    at("no").onclick = () => settle(null);
    at("askform").onsubmit = (event) => {
      event.preventDefault();
      settle({ token: at("token").value.trim(), operator: at("who").value.trim() });
    };
  });
}

async function act(name, question) {
  const answered = await ask(question);
  if (answered === null) return;
  const { token, operator } = answered;
  let said;
  try {
    const answer = await fetch(`/actions/${name}`, {
      method: "POST",
      headers: { "X-Klinehouse-Token": token, "Content-Type": "application/json" },
      body: JSON.stringify(operator ? { operator } : {}),
    });
    if (answer.status === 403) sessionStorage.removeItem("token"); else sessionStorage.setItem("token", token);
    const body = await answer.json();
    said = answer.ok ? `Done: ${body.done}.` : `Refused: ${body.error}.`;
  } catch (error) {
    said = `Not done: the live flow does not answer (${error.message}).`;
  }
  at("said").textContent = said;
  at("said").hidden = false;
}

// A token in the address goes where this tab alone finds it, and out of the address: histories and pictures keep that.
function takeToken() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!token) return;
  sessionStorage.setItem("token", token);
  history.replaceState(null, "", location.pathname);
}

function theme(next) {
  document.documentElement.style.colorScheme = next;
  at("theme").textContent = next === "dark" ? "Light theme" : "Dark theme";
  at("theme").onclick = () => theme(next === "dark" ? "light" : "dark");
}

theme(window.matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
at("reconnect").onclick = () => act("reconnect", { title: "Reconnect?", text: "The connection is given up for a new one; the gap is recorded.", yes: "Reconnect" });
at("halt").onclick = () => act("halt", { title: "Halt all trading?", text: "Every open order is cancelled and nothing new is sent, also after a restart, until a person clears it. Positions stay as they are.", yes: "HALT trading" });
at("clear").onclick = () => act("clear", { title: "Let trading go on?", text: `It was halted: ${at("tradewhy").textContent}. Trading goes on once broker and journal agree; your name goes into the journal.`, yes: "Clear the halt", needsName: true });
window.onhashchange = takeToken;
takeToken();
setInterval(watch, 1000);
listen();

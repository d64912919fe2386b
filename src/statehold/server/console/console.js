"use strict";

const byId = (id) => document.getElementById(id);
const LATEST = 20;
let key = ""; // in memory only
let tenant = "";
let asking = null;
let kinds = [];
let maxPage = 1000;
let known = new Map(); // "kind/id" -> {kind, id, changed}
let watched = null; // {kind, id, stop}
let shown = {}; // the fields as text

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// ------------------------------------------------------------------------------------ requests

async function ask(path, options = {}) {
  for (;;) {
    const headers = { ...options.headers };
    const sent = key;
    if (sent) headers.Authorization = `Bearer ${sent}`;
    if (tenant) headers["Statehold-Tenant"] = encodeURIComponent(tenant);
    const response = await fetch(path, { ...options, headers, cache: "no-store" });
    if (response.status !== 401) return response;
    if (sent === key) await askForKey(Boolean(sent));
  }
}

function askForKey(refused) {
  asking ??= new Promise((resolve) => {
    byId("key-note").textContent = refused
      ? "Unknown API key."
      : "It is kept in this page's memory only.";
    const dialog = byId("key-dialog");
    dialog.addEventListener("close", () => {
      key = byId("key").value.trim();
      byId("key").value = "";
      asking = null;
      resolve();
    }, { once: true });
    dialog.showModal();
  });
  return asking;
}

async function read(path, options) {
  const response = await ask(path, options);
  const body = await response.json();
  if (!response.ok) throw new Error(body.detail ?? response.statusText);
  return body;
}

const pathOf = (kind, id) => `/v1/${kind}/${encodeURIComponent(id)}`;

// ------------------------------------------------------------------------------------- left side

function duration(seconds) {
  if (seconds === null) return "ever";
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["min", 60]]) {
    if (seconds >= size) return `${Math.round(seconds / size * 10) / 10} ${unit}`;
  }
  return seconds < 1 ? "now" : `${Math.round(seconds)} s`;
}

function showKinds() {
  byId("kinds").replaceChildren(...kinds.map((kind) => element("tr", {},
    element("td", { textContent: kind.kind }),
    element("td", { textContent: duration(kind.ttl) }),
    element("td", { className: "number", id: `count-${kind.kind}`, textContent: kind.count ?? "…" }),
  )));
  const chosen = byId("open-kind").value;
  byId("open-kind").replaceChildren(...kinds.map((kind) => element("option", { textContent: kind.kind })));
  if (chosen) byId("open-kind").value = chosen;
}

async function countKinds() {
  for (const kind of kinds) {
    const page = await read(`/v1/${kind.kind}?limit=${maxPage}`);
    kind.count = `${page.ids.length}${page.cursor === null ? "" : "+"}`;
    byId(`count-${kind.kind}`).textContent = kind.count;
    const unknown = page.ids.slice(0, 100).filter((id) => !known.has(`${kind.kind}/${id}`));
    if (unknown.length) await learn(kind.kind, unknown);
  }
  showLatest();
}

async function learn(kind, ids) {
  const { read: found } = await read(`/v1/${kind}/batch`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ read: { ids, fields: [] } }),
  });
  for (const state of found) {
    if (state.status === 200) note({ kind, id: state.id, changed: state.updated });
  }
}

function note(state) {
  const name = `${state.kind}/${state.id}`;
  if ((known.get(name)?.changed ?? 0) <= state.changed) known.set(name, state);
  if (known.size > 1000) {
    known = new Map([...known].sort(([, a], [, b]) => b.changed - a.changed).slice(0, 500));
  }
}

function showLatest() {
  const now = Date.now() / 1000;
  const latest = [...known.values()].sort((a, b) => b.changed - a.changed).slice(0, LATEST);
  byId("no-latest").hidden = latest.length > 0;
  const had = document.activeElement?.closest("#latest button")?.dataset.name;
  byId("latest").replaceChildren(...latest.map(({ kind, id, changed }) => {
    const button = element("button", { type: "button", title: id },
      element("span", { className: "kind", textContent: kind }),
      element("span", { className: "id", textContent: id }),
      element("time", { textContent: duration(now - changed) }),
    );
    button.dataset.name = `${kind}/${id}`;
    button.setAttribute("aria-current", watched?.kind === kind && watched.id === id);
    button.addEventListener("click", () => watch(kind, id));
    return element("li", {}, button);
  }));
  if (had) [...document.querySelectorAll("#latest button")].find((b) => b.dataset.name === had)?.focus();
}

async function refresh() {
  const index = await read("/v1");
  maxPage = index.max_page;
  const counts = new Map(kinds.map((kind) => [kind.kind, kind.count]));
  kinds = index.kinds.map((kind) => ({ ...kind, count: counts.get(kind.kind) }));
  index.recent.forEach(note);
  if (!byId("kinds").children.length) showKinds();
  showLatest();
}

async function checkHealth() {
  const response = await fetch("/readyz", { cache: "no-store" });
  const down = response.ok ? "" : (await response.json()).detail;
  byId("health").className = down ? "down" : "ready";
  byId("health-text").textContent = down || "store ready";
}

// ------------------------------------------------------------------------------------- live state

async function watch(kind, id) {
  watched?.stop.abort();
  const mine = { kind, id, stop: new AbortController() };
  watched = mine;
  shown = {};
  byId("live-title").textContent = `${kind} ${id}`;
  byId("fields").replaceChildren();
  byId("meta").hidden = true;
  byId("live-note").textContent = "Reading…";
  byId("live-note").hidden = false;
  showLatest();
  while (watched === mine) {
    try {
      const response = await ask(`${pathOf(kind, id)}/watch`, { signal: mine.stop.signal });
      if (!response.ok) throw new Error((await response.json()).detail);
      for await (const event of events(response.body)) {
        if (watched !== mine) return;
        showEvent(mine, event);
      }
    } catch (error) {
      if (watched !== mine) return;
      byId("live-note").textContent = `Not connected: ${error.message}`;
      byId("live-note").hidden = false;
    }
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}

async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    const parts = text.split("\n\n");
    text = parts.pop();
    for (const part of parts) {
      const event = { name: "", data: "" };
      for (const line of part.split("\n")) {
        if (line.startsWith("event: ")) event.name = line.slice(7);
        if (line.startsWith("data: ")) event.data += `${line.slice(6)}\n`;
      }
      if (event.data) yield { name: event.name, data: JSON.parse(event.data) };
    }
  }
}

function showEvent({ kind }, { name, data }) {
  const note = byId("live-note");
  note.hidden = name === "state";
  if (name === "state") return showState(kind, data);
  note.textContent = name === "absent" ? "State not found: not made yet, or gone." : data.detail;
  if (name === "absent") {
    shown = {};
    byId("fields").replaceChildren();
    byId("meta").hidden = true;
  }
}

function showState(kind, state) {
  const types = kinds.find((found) => found.kind === kind)?.fields ?? {};
  const expires = state.expires === null ? "never" : new Date(state.expires * 1000).toLocaleTimeString();
  const meta = [
    ["Revision", state.revision.split(".")[1]],
    ["Changed", new Date(state.updated * 1000).toLocaleTimeString()],
    ["Expires", expires],
  ];
  if (state.subjects.length) meta.push(["Subject", state.subjects.join(", ")]);
  if (state.corrupted.length) meta.push(["Unreadable values", state.corrupted.length]);
  byId("meta").replaceChildren(...meta.map(([term, value]) =>
    element("div", {}, element("dt", { textContent: term }), element("dd", { textContent: value }))));
  byId("meta").hidden = false;
  const before = shown;
  const first = Object.keys(before).length === 0;
  shown = Object.fromEntries(Object.entries(state.fields).map(([field, value]) => [field, asText(value)]));
  byId("fields").replaceChildren(...Object.entries(shown).map(([field, text]) => {
    const pre = element("pre", { textContent: text || "empty", className: text ? "" : "empty" });
    const made = element("div", { className: "field", id: `field-${field}` },
      element("h3", { textContent: field }, element("span", { textContent: types[field] ?? "" })), pre);
    if (!first && before[field] !== text) {
      made.classList.add("changed");
      setTimeout(() => made.classList.remove("changed"), 300);
    }
    return made;
  }));
  note({ kind, id: state.id, changed: state.updated });
  showLatest();
}

function asText(value) {
  if (value === null || value === "") return "";
  if (typeof value !== "object") return String(value);
  if (Array.isArray(value)) return value.map((item) => compact(item)).join("\n");
  return Object.entries(value).map(([name, item]) => `${name}: ${compact(item)}`).join("\n");
}

function compact(value) {
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return text.length > 2000 ? `${text.slice(0, 2000)}…` : text;
}

// ------------------------------------------------------------------------------------------ start

function every(seconds, what) {
  const again = () => what().catch((error) => {
    byId("health").className = "down";
    byId("health-text").textContent = error.message;
  }).finally(() => setTimeout(again, seconds * 1000));
  again();
}

byId("open").addEventListener("submit", (event) => {
  event.preventDefault();
  watch(byId("open-kind").value, byId("open-id").value);
});
byId("tenant-form").addEventListener("submit", (event) => event.preventDefault());
byId("tenant").addEventListener("change", () => {
  tenant = byId("tenant").value;
  known.clear();
  refresh().then(countKinds).catch(() => {});
});
byId("key-dialog").addEventListener("cancel", (event) => event.preventDefault());

refresh().then(() => {
  every(10, countKinds);
}).catch((error) => {
  byId("health-text").textContent = error.message;
}).finally(() => {
  every(5, checkHealth);
  every(2, refresh);
});

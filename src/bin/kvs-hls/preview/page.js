"use strict";
// Asks for the cameras' figures twice a second, and for pictures of those in sight when they are new.

const EVERY = 500;
const wall = document.getElementById("wall");
const single = document.getElementById("camera");
const tiles = new Map(); // camera -> its screen
let large = null; // the screen of the camera that is shown alone

function element(name, classes, text) {
  const made = document.createElement(name);
  if (classes) made.className = classes;
  if (text !== undefined) made.textContent = text;
  return made;
}

function screen(id, width) {
  const box = element("div", "screen");
  const image = element("img");
  image.alt = `last picture of ${id}`;
  const overlay = element("div", "overlay");
  const notice = element("div", "notice");
  notice.setAttribute("role", "status");
  box.append(image, notice, overlay);
  return { id, width, box, image, overlay, notice, shown: -1, isLoading: false, isVisible: true };
}

const sight = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const tile = tiles.get(entry.target.dataset.camera);
    if (tile) tile.isVisible = entry.isIntersecting;
  }
});

async function refresh(view, frames) {
  if (view.isLoading || view.shown === frames || !view.isVisible || document.hidden || !frames) return;
  view.isLoading = true;
  try {
    const answer = await fetch(`/cameras/${encodeURIComponent(view.id)}/picture?width=${view.width}`);
    if (answer.status === 200) {
      const url = URL.createObjectURL(await answer.blob());
      const old = view.image.src;
      view.image.src = url;
      if (old) URL.revokeObjectURL(old);
      view.shown = frames;
    }
  } catch {
    // the next round tells
  } finally {
    view.isLoading = false;
  }
}

const seconds = (value) => (value == null ? "–" : value < 10 ? `${value.toFixed(1)} s` : `${Math.round(value)} s`);

function bits(value) {
  const [scale, unit] = value >= 1e9 ? [1e9, "Gbit/s"] : value >= 1e6 ? [1e6, "Mbit/s"] : [1e3, "kbit/s"];
  return `${(value / scale).toFixed(1)} ${unit}`;
}

// What is wrong, and why.
function notice(camera) {
  switch (camera.state) {
    case "connected": return ["", ""];
    case "silent": return [`The camera has sent nothing for ${seconds(camera.silent)}`, ""];
    case "stalled": return [`No new frame for ${seconds(camera.age)}`, ""];
    case "reconnecting": return [`Reconnecting: no new frame for ${seconds(camera.age)}`, camera.last_error];
    case "connecting": return ["Connecting…", camera.last_error];
    case "error": {
      const again = camera.retry_in == null ? "" : `, tried again in ${Math.ceil(camera.retry_in)} s`;
      return [`Stopped${again}`, camera.last_error];
    }
    default: return ["Ended", ""];
  }
}

function draw(view, camera) {
  const [what, why] = notice(camera);
  if (view.said !== what + why) {
    view.said = what + why;
    view.notice.replaceChildren(what, ...(why ? [element("small", "", why)] : []));
  }
  const losses = camera.gaps === 1 ? "1 gap" : `${camera.gaps} gaps`;
  const parts = [camera.id, camera.state, `${camera.rate.toFixed(1)} fps`, `latency ${seconds(camera.latency)}`, losses];
  view.overlay.replaceChildren(...parts.map((text) => element("span", "", text)));
  refresh(view, camera.frames);
}

function drawWall(cameras) {
  for (const camera of cameras) {
    let view = tiles.get(camera.id);
    if (!view) {
      view = screen(camera.id, 640);
      const tile = element("a", "tile");
      tile.href = `#${encodeURIComponent(camera.id)}`;
      tile.dataset.camera = camera.id;
      const caption = element("div", "caption");
      view.state = element("span");
      caption.append(element("b", "", camera.id), view.state);
      tile.append(view.box, caption);
      view.tile = tile;
      tiles.set(camera.id, view);
      wall.append(tile);
      sight.observe(tile);
    }
    view.state.className = `state ${camera.state}`;
    view.state.textContent = camera.state;
    draw(view, camera);
  }
  const known = new Set(cameras.map((camera) => camera.id));
  for (const [id, view] of tiles) {
    if (!known.has(id)) {
      sight.unobserve(view.tile);
      view.tile.remove();
      tiles.delete(id);
    }
  }
}

// Pictures are decoded in bursts, one for each segment: the next known point may be so many seconds away.
const BRIDGED = 12;

// Key, title, text of a value, seconds that the curve bridges.
const PLOTS = [
  ["latency", "Latency", (value) => seconds(value)],
  ["rate", "Frames a second", (value) => value.toFixed(1)],
  ["bandwidth", "Download rate", bits],
  ["decode_ms", "Time to decode a picture", (value) => `${value.toFixed(1)} ms`, BRIDGED],
  ["queued", "Frames waiting", (value) => `${value}`],
];

function plot(times, values, title, text, bridged = 0) {
  const known = values.filter((value) => value != null);
  const top = Math.max(...known, 1e-9) * 1.1;
  const [from, to] = [times[0], Math.max(times.at(-1), times[0] + 1)];
  let path = "";
  let last = null; // the point before
  values.forEach((value, index) => {
    if (value == null) return;
    const isDown = last != null && (last === index - 1 || times[index] - times[last] <= bridged);
    const [x, y] = [((times[index] - from) / (to - from)) * 100, 100 - (value / top) * 100];
    path += `${isDown ? "L" : "M"}${x.toFixed(2)} ${y.toFixed(2)}`;
    last = index;
  });
  const figure = element("figure");
  const caption = element("figcaption");
  const now = bridged ? known.at(-1) : values.at(-1);
  caption.append(element("span", "", title), element("output", "", now == null ? "–" : text(now)));
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 100 100");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `${title}, the last ${Math.round(to - from)} seconds, at most ${known.length ? text(Math.max(...known)) : "nothing"}`);
  const curve = document.createElementNS(svg.namespaceURI, "path");
  curve.setAttribute("d", path);
  svg.append(curve);
  const scale = element("div", "scale");
  scale.append(element("span", "", `${Math.round(to - from)} s ago`), element("span", "", `max ${known.length ? text(Math.max(...known)) : "–"}`), element("span", "", "now"));
  figure.append(caption, svg, scale);
  return figure;
}

function drawCamera(camera) {
  if (!large || large.id !== camera.id) {
    large = screen(camera.id, 1280);
    single.querySelector(".large").replaceChildren(large.box);
  }
  draw(large, camera);
  const figures = [
    ["State", camera.state],
    ["Size", camera.size ? camera.size.join(" × ") : "–"],
    ["Frames", camera.frames],
    ["Last frame", camera.age == null ? "–" : `${seconds(camera.age)} ago`],
    ["Gaps", camera.gaps],
    ["Lost", `${camera.lost_frames} frames, ${camera.lost_segments} segments`],
    ["Sessions replaced", camera.refreshes],
    ["Reconnects", camera.reconnects],
    ["Errors", camera.errors],
  ];
  document.getElementById("figures").replaceChildren(
    ...figures.map(([name, value]) => {
      const box = element("div");
      box.append(element("dt", "", name), element("dd", "", value));
      return box;
    }),
  );
  const samples = camera.samples;
  if (samples.at.length > 1) {
    document.getElementById("plots").replaceChildren(...PLOTS.map(([key, ...how]) => plot(samples.at, samples[key], ...how)));
  }
  const told = JSON.stringify(camera.events);
  if (told === large.told) return; // who reads or copies is not disturbed
  large.told = told;
  document.getElementById("events").replaceChildren(
    ...camera.events.map((event) => {
      const line = element("li", `is-${event.kind}`);
      line.append(element("time", "", event.at?.replace("T", " ").replace("Z", " UTC")), element("span", "kind", event.kind), element("span", "text", event.text));
      return line;
    }),
  );
}

async function round() {
  const id = decodeURIComponent(location.hash.slice(1));
  const summary = document.getElementById("summary");
  try {
    const answer = await fetch("/cameras");
    if (answer.status === 401) return location.reload();
    const cameras = await answer.json();
    const well = cameras.filter((camera) => camera.state === "connected").length;
    summary.textContent = `${well} of ${cameras.length} ${cameras.length === 1 ? "camera" : "cameras"} connected`;
    const name = id === "" ? "kvs-hls" : `${id} – kvs-hls`;
    document.title = well === cameras.length ? name : `(${cameras.length - well}) ${name}`;
    const isKnown = cameras.some((camera) => camera.id === id);
    wall.hidden = id !== "";
    single.hidden = id === "";
    document.getElementById("name").textContent = id;
    document.getElementById("unknown").hidden = isKnown;
    for (const part of single.querySelectorAll("#now, #plots, #plots ~ *")) part.hidden = !isKnown;
    if (id !== "") {
      if (!isKnown) return;
      const page = await fetch(`/cameras/${encodeURIComponent(id)}`);
      if (page.ok) drawCamera(await page.json());
    } else {
      large = null;
      drawWall(cameras);
    }
  } catch {
    summary.textContent = "the program does not answer: has it ended?";
    for (const view of [...tiles.values(), large]) {
      if (view) view.notice.textContent = view.said = "The program does not answer";
    }
  }
}

let timer = null;
async function run() {
  clearTimeout(timer);
  await round();
  timer = setTimeout(run, EVERY);
}
addEventListener("hashchange", run);
document.addEventListener("visibilitychange", run);
run();

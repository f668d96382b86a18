"use strict";
// The viewer: faces, their stages, a light that follows the pointer. Started by the page; nothing is fetched.

const KEY_LIGHT = [35, 25];  // azimuth (right) and elevation (up), degrees
const ZOOM_MOST = 12;
const NO_LIGHT = new Array(27).fill(0);

const clamp = (v, low, high) => Math.min(Math.max(v, low), high);
const find = selector => document.querySelector(selector);
const kept = new Map();  // face number -> promise of its maps: decoded when first looked at

function direction([azimuth, elevation]) {
  const a = azimuth * Math.PI / 180, e = elevation * Math.PI / 180;
  return [Math.sin(a) * Math.cos(e), Math.sin(e), Math.cos(a) * Math.cos(e)];
}

async function pixels(address) {
  const picture = new Image();
  picture.src = address;
  await picture.decode();
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = SIZE;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(picture, 0, 0);
  return context.getImageData(0, 0, SIZE, SIZE).data;
}

// a map of normals: what is exactly (128, 128, 128) lies outside the mask
function masked(map) {
  for (let i = 0; i < map.length; i += 4) map[i + 3] = map[i] === 128 && map[i + 1] === 128 && map[i + 2] === 128 ? 0 : 255;
  return map;
}

// earlier stages are stored as half of what they differ by from the last one, a signed byte
function restored(change, last) {
  for (let i = 0; i < change.length; i++) change[i] = i % 4 === 3 ? last[i] : last[i] + 2 * (change[i] << 24 >> 24);
  return change;
}

// labels have an oval for a mask; faces with truth have their own
const isSoft = face => !face.truth;

function decoded(number, face) {
  if (!kept.has(number)) kept.set(number, (async () => {
    const last = masked(await pixels(face.normals));
    const earlier = await Promise.all(face.changes.map(pixels));
    const photo = await pixels(face.photo), share = shares(last, isSoft(face));
    for (let i = 0; i < SIZE * SIZE; i++) photo[4 * i + 3] = share(Math.floor(i / SIZE), i % SIZE);
    return {
      photo,
      truth: face.truth ? masked(await pixels(face.truth)) : null,
      stages: [...earlier.map(change => restored(change, last)), last],
    };
  })());
  return kept.get(number);
}

function sceneOf(data, face, decodedMaps, state) {
  const stages = decodedMaps.stages;
  return {
    normals: state.stage === "truth" ? decodedMaps.truth : stages[clamp(state.stage, 0, stages.length - 1)],
    truth: decodedMaps.truth,
    photo: decodedMaps.photo,
    soft: isSoft(face),
    view: state.view,
    light: direction(state.light),
    frame: data.frames[state.frame],
    received: face.light || NO_LIGHT,
    albedo: face.albedo || [0, 0, 0],
  };
}

function start(data) {
  const state = { face: 0, stage: 0, view: "relit", frame: "opengl", light: [...KEY_LIGHT], zoom: 1, pan: [0, 0] };
  const canvas = find("#face"), box = find("#stage");
  const colours = { pixels: Uint8ClampedArray.from(atob(data.colours), v => v.charCodeAt(0)), range: data.range_deg };
  const renderer = glRenderer(canvas, colours) || canvasRenderer(canvas, colours);
  let shown = null;  // the face on view, and its maps
  const usable = {
    relit: face => face.light !== null,
    error: face => face.truth !== null,
  };
  const offers = (face, view) => (usable[view] ?? (() => true))(face);

  async function set(changes) {
    Object.assign(state, changes);
    const face = data.faces[state.face];
    if (shown === null || shown.face !== face) {
      const found = await decoded(state.face, face);
      if (data.faces[state.face] !== face) return;  // another was chosen meanwhile
      shown = { face, maps: found };
      if (!("stage" in changes) && !(state.stage === "truth" && face.truth)) state.stage = face.changes.length;
      listStages(face);
    }
    if (!offers(face, state.view)) state.view = "shading";
    state.light = state.light.map(v => clamp(v, -90, 90));
    state.zoom = clamp(state.zoom, 1, ZOOM_MOST);
    const most = (1 - 1 / state.zoom) / 2;
    state.pan = state.pan.map(v => clamp(v, -most, most));
    draw();
  }

  function draw() {
    renderer.draw(sceneOf(data, shown.face, shown.maps, state));
    canvas.style.transform = `scale(${state.zoom}) translate(${-100 * state.pan[0]}%, ${-100 * state.pan[1]}%)`;
    canvas.style.imageRendering = state.zoom > 4 ? "pixelated" : "auto";
    const [x, y] = direction(state.light), sun = find("#sun");
    sun.style.left = `${50 + 48 * x}%`;
    sun.style.top = `${50 - 48 * y}%`;
    sun.hidden = state.view !== "relit" && state.view !== "shading";
    tell(shown.face);
  }

  function tell(face) {
    for (const name of ["azimuth", "elevation"]) {
      const value = Math.round(state.light[name === "azimuth" ? 0 : 1]);
      find(`#${name}`).value = value;
      find(`#${name}-value`).textContent = `${value}°`;
    }
    find("#zoom").value = state.zoom;
    find("#zoom-value").textContent = `${state.zoom.toFixed(1)}×`;
    find("#frame").value = state.frame;
    for (const input of document.querySelectorAll("input[name=view]")) {
      input.checked = input.value === state.view;
      input.disabled = !offers(face, input.value);
    }
    for (const input of document.querySelectorAll("input[name=stage]")) input.checked = input.value === String(state.stage);
    for (const [i, button] of find("#faces").querySelectorAll("button").entries())
      button.setAttribute("aria-pressed", i === state.face);
    find("#name").textContent = face.name;
    const error = face.errors_deg && state.stage !== "truth" ? [`error ${face.errors_deg[state.stage].toFixed(2)}°`] : [];
    find("#facts").textContent = [...error, ...face.facts].join(" · ");
  }

  function listStages(face) {
    const first = face.refinements - face.changes.length;  // not 0 where only the last stage was kept
    const names = [...face.changes, face.normals].map((_, i) => [i, `t = ${first + i}`]);
    if (face.truth) names.push(["truth", "truth"]);
    find("#stages").replaceChildren(...names.map(([value, text]) => {
      const label = document.createElement("label"), input = document.createElement("input");
      Object.assign(input, { type: "radio", name: "stage", value });
      input.addEventListener("change", () => set({ stage: value }));
      label.append(input, document.createElement("span"));
      label.lastChild.textContent = text;
      return label;
    }));
  }

  for (const [i, face] of data.faces.entries()) {
    const button = document.createElement("button"), picture = document.createElement("img");
    Object.assign(picture, { src: face.photo, alt: face.name, width: 72, height: 72 });
    button.type = "button";
    button.append(picture);
    button.addEventListener("click", () => set({ face: i }));
    find("#faces").append(button);
  }
  for (const input of document.querySelectorAll("input[name=view]"))
    input.addEventListener("change", () => set({ view: input.value }));
  find("#frame").addEventListener("change", event => set({ frame: event.target.value, view: "normals" }));
  find("#azimuth").addEventListener("input", event => set({ light: [+event.target.value, state.light[1]] }));
  find("#elevation").addEventListener("input", event => set({ light: [state.light[0], +event.target.value] }));
  find("#zoom").addEventListener("input", event => set({ zoom: +event.target.value }));
  find("#reset").addEventListener("click", () => set({ light: [...KEY_LIGHT], zoom: 1, pan: [0, 0], frame: "opengl" }));
  listen(box, state, set, at => shown ? read(shown.maps, state, at) : "");
  cards(data, colours, set);
  find("#renderer").textContent = renderer.kind;
  return { state, set, renderer: renderer.kind, ready: set({}) };
}

// --- hands: pointer, wheel, keys ---

function listen(box, state, set, read) {
  const held = new Map();  // pointers that are down
  const place = event => {
    const { left, top, width, height } = box.getBoundingClientRect();
    return [(event.clientX - left) / width - 0.5, (event.clientY - top) / height - 0.5];
  };
  const lightAt = ([px, py]) => {
    const x = clamp(px / 0.48, -1, 1), y = clamp(-py / 0.48, -1, 1), length = Math.max(Math.hypot(x, y), 1);
    const up = Math.asin(y / length);
    const right = Math.asin(clamp(x / length / Math.max(Math.cos(up), 1e-6), -1, 1));
    return [right * 180 / Math.PI, up * 180 / Math.PI];
  };
  const zoomAt = (zoom, [px, py]) => {
    const next = clamp(zoom, 1, ZOOM_MOST), by = 1 / state.zoom - 1 / next;
    return set({ zoom: next, pan: [state.pan[0] + px * by, state.pan[1] + py * by] });
  };
  box.addEventListener("pointerdown", event => {
    box.setPointerCapture(event.pointerId);
    held.set(event.pointerId, place(event));
    if (held.size === 1 && !event.shiftKey) set({ light: lightAt(place(event)) });
  });
  box.addEventListener("pointermove", event => {
    const now = place(event), before = held.get(event.pointerId);
    find("#pixel").textContent = read([now[0] / state.zoom + state.pan[0], now[1] / state.zoom + state.pan[1]]);
    if (!before) return;
    const others = [...held].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
    held.set(event.pointerId, now);
    const pan = [state.pan[0] - (now[0] - before[0]) / state.zoom, state.pan[1] - (now[1] - before[1]) / state.zoom];
    if (others.length) {
      const apart = at => Math.hypot(at[0] - others[0][0], at[1] - others[0][1]);
      set({ zoom: state.zoom * apart(now) / Math.max(apart(before), 0.01), pan });
    } else set(event.shiftKey ? { pan } : { light: lightAt(now) });
  });
  for (const end of ["pointerup", "pointercancel"]) box.addEventListener(end, event => held.delete(event.pointerId));
  box.addEventListener("wheel", event => {
    if (document.activeElement !== box && !event.ctrlKey) return;  // the page scrolls until the face is chosen
    event.preventDefault();
    zoomAt(state.zoom * Math.exp(-event.deltaY / 300), place(event));
  }, { passive: false });
  const nextView = () => {
    const inputs = [...document.querySelectorAll("input[name=view]:enabled")];
    inputs[(inputs.findIndex(input => input.checked) + 1) % inputs.length].click();
  };
  box.addEventListener("keydown", event => {
    const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    const stages = [...document.querySelectorAll("input[name=stage]")];
    const at = stages.findIndex(input => input.checked);
    const pan = by && [state.pan[0] + 0.1 * by[0] / state.zoom, state.pan[1] - 0.1 * by[1] / state.zoom];
    if (by && event.shiftKey) set({ pan });
    else if (by) set({ light: [state.light[0] + 5 * by[0], state.light[1] + 5 * by[1]] });
    else if (event.key === "+" || event.key === "=") zoomAt(state.zoom * 1.25, [0, 0]);
    else if (event.key === "-") zoomAt(state.zoom / 1.25, [0, 0]);
    else if (event.key === "0") set({ zoom: 1, pan: [0, 0] });
    else if (event.key === "[") stages[Math.max(at - 1, 0)].click();
    else if (event.key === "]") stages[Math.min(at + 1, stages.length - 1)].click();
    else if (event.key === "v") nextView();
    else return;
    event.preventDefault();
  });
}

// the normal under the pointer in words, and how far it is off the truth
function read(maps, state, [px, py]) {
  const column = Math.floor((px + 0.5) * SIZE), row = Math.floor((py + 0.5) * SIZE);
  if (column < 0 || row < 0 || column >= SIZE || row >= SIZE) return "";
  const i = 4 * (row * SIZE + column), map = state.stage === "truth" ? maps.truth : maps.stages[state.stage];
  if (!map[i + 3]) return "outside the mask";
  const n = unit(map, i);
  const known = maps.truth && state.stage !== "truth" && maps.truth[i + 3];
  const off = known ? `, off by ${angleDeg(n, unit(maps.truth, i)).toFixed(1)}°` : "";
  return `x ${n[0].toFixed(2)}  y ${n[1].toFixed(2)}  z ${n[2].toFixed(2)}${off}`;
}

// --- cases: small pictures of the worst and best, which open in the viewer ---

async function cards(data, colours, set) {
  for (const card of document.querySelectorAll("[data-face]")) {
    const number = +card.dataset.face, face = data.faces[number], found = await decoded(number, face);
    const state = { stage: face.changes.length, view: "shading", light: KEY_LIGHT, frame: "opengl" };
    for (const canvas of card.querySelectorAll("canvas"))
      canvasRenderer(canvas, colours).draw(sceneOf(data, face, found, { ...state, view: canvas.dataset.view }));
    card.addEventListener("click", () => {
      set({ face: number, view: face.truth ? "error" : "shading" });
      find("#viewer").scrollIntoView({ block: "start" });
    });
  }
}

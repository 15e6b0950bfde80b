// The page's only program. Pictures and their codes are held here and sent with each request.

const find = (id) => document.getElementById(id);
const BLEND = "*blend"; // Beside the factors' names: how far the first picture is morphed into the second.
const LIGHT = "light_azimuth";
const PHOTO = "?photo=1"; // Of a person, in which a face is looked for.
const LARGEST_UPLOAD = 32 * 2 ** 20; // bytes
const PERIOD_OF_PLAY = 5000; // milliseconds

const state = {
  studio: null,
  panels: [],
  slots: { first: null, second: null }, // {picture, found, parts: for each model {code, values, detail}}
  values: {}, // Only of the factors that were moved; all others stay as they are in the picture.
  playing: null,
};
const sliders = new Map();
const latencies = [];

// Requests

async function ask(path, body) {
  const json = !(body instanceof Blob);
  let answer;
  try {
    answer = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": json ? "application/json" : "application/octet-stream" },
      body: json ? JSON.stringify(body) : body,
    });
  } catch {
    throw new Error("no answer: is dcign-view still running?");
  }
  if (!answer.ok) {
    const { error } = await answer.json().catch(() => ({}));
    throw new Error(error ?? answer.statusText);
  }
  return answer;
}

function complain(error) {
  find("notice").textContent = sentence(error.message);
}

function sentence(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

// Factors and their values

/** The factors of all models shown, each with the widest of their ranges. */
function factors() {
  const found = new Map();
  for (const { model } of state.panels) {
    for (const factor of state.studio.models[model].factors) {
      const known = found.get(factor.name) ?? { ...factor };
      known.low = Math.min(known.low, factor.low);
      known.high = Math.max(known.high, factor.high);
      found.set(factor.name, known);
    }
  }
  for (const factor of found.values()) {
    // A step is a power of ten, about a hundredth of the range; so what was calibrated to 89.98 ends at 90.
    factor.step = 10 ** Math.floor(Math.log10((factor.high - factor.low) / 40));
    factor.low = Math.round(factor.low / factor.step) * factor.step;
    factor.high = factor.period
      ? factor.low + factor.period
      : Math.round(factor.high / factor.step) * factor.step;
  }
  if (state.slots.second) {
    found.set(BLEND, { name: BLEND, unit: "%", low: 0, high: 1, step: 0.01, period: null });
  }
  return found;
}

function label(name) {
  return name === BLEND ? "Morph" : sentence(name.replaceAll("_", " "));
}

function text(factor, value) {
  if (factor.name === BLEND) return `${Math.round(100 * value)} %`;
  const digits = Math.max(0, -Math.floor(Math.log10(factor.step) + 1e-9));
  const number = (Math.round(value / factor.step) * factor.step || 0).toFixed(digits).replace("-", "−");
  const suffixes = { degrees: "°", "latent units": "", "": "" };
  return number + (suffixes[factor.unit] ?? ` ${factor.unit}`);
}

/** What the models shown see of a factor in the picture. */
function seen(name) {
  const { first } = state.slots;
  if (name === BLEND) return [0];
  return state.panels.map(({ model }) => first.parts[model].values[name]).filter((v) => v !== undefined);
}

function current(name) {
  return state.values[name] ?? seen(name)[0];
}

function limited(factor, value) {
  if (factor.period) {
    return factor.low + ((((value - factor.low) % factor.period) + factor.period) % factor.period);
  }
  return Math.min(factor.high, Math.max(factor.low, value));
}

// What is shown

/** A figure that shows what one model renders. Of requests that come faster than answers, only the newest is sent. */
class Panel {
  constructor(model) {
    this.model = model;
    this.figure = find("panel").content.cloneNode(true).firstElementChild;
    this.frame = this.figure.querySelector(".frame");
    this.canvas = this.figure.querySelector("canvas");
    this.sun = this.figure.querySelector(".sun");
    this.wanted = null;
    this.working = false;
    this.size = state.studio.models[model].image_size;
    this.canvas.width = this.canvas.height = this.size;
    find("stage").append(this.figure);
    this.makeTurnable();
    this.makeLit();
  }

  name(compared) {
    const name = state.studio.models[this.model].name;
    this.figure.querySelector("figcaption").textContent = compared ? name : "Re-rendered";
  }

  scene() {
    const { first, second } = state.slots;
    const names = state.studio.models[this.model].factors.map((factor) => factor.name);
    const moved = names.filter((name) => name in state.values);
    return {
      model: this.model,
      code: first.parts[this.model].code,
      values: Object.fromEntries(moved.map((name) => [name, state.values[name]])),
      other: second ? second.parts[this.model].code : null,
      blend: state.values[BLEND] ?? 0,
      detail: find("detail").checked ? first.parts[this.model].detail : null,
    };
  }

  async show(since) {
    this.wanted = { since };
    if (this.working) return;
    this.working = true;
    this.figure.setAttribute("aria-busy", "true");
    while (this.wanted !== null) {
      const { since: began } = this.wanted;
      this.wanted = null;
      try {
        const answer = await ask("/api/render", this.scene());
        this.draw(new Uint8Array(await answer.arrayBuffer()));
        if (began !== null) requestAnimationFrame(() => measured(performance.now() - began));
      } catch (error) {
        complain(error);
      }
    }
    this.working = false;
    this.figure.removeAttribute("aria-busy");
  }

  draw(grey) {
    const picture = new ImageData(this.size, this.size);
    picture.data.forEach((_, i, data) => (data[i] = i % 4 === 3 ? 255 : grey[i >> 2]));
    this.canvas.getContext("2d").putImageData(picture, 0, 0);
  }

  /** Who pulls at the picture turns it: to the right and up. */
  makeTurnable() {
    let start = null;
    this.canvas.addEventListener("pointerdown", (event) => {
      stop();
      this.canvas.setPointerCapture(event.pointerId);
      start = { x: event.clientX, y: event.clientY, azimuth: current("azimuth"), elevation: current("elevation") };
    });
    this.canvas.addEventListener("pointermove", (event) => {
      if (!start) return;
      const degrees = 150 / this.canvas.clientWidth;
      const known = factors();
      const pull = { azimuth: event.clientX - start.x, elevation: start.y - event.clientY };
      for (const name of ["azimuth", "elevation"]) {
        const factor = known.get(name);
        if (factor?.unit !== "degrees" || Math.abs(pull[name]) < 3) continue;
        set(name, limited(factor, start[name] + pull[name] * degrees), event.timeStamp);
      }
    });
    for (const end of ["pointerup", "pointercancel"]) {
      this.canvas.addEventListener(end, () => (start = null));
    }
  }

  /** The light goes around the picture, 0 degrees at the top, positive ones to the right. */
  makeLit() {
    const { sun, frame } = this;
    sun.addEventListener("pointerdown", (event) => {
      stop();
      sun.setPointerCapture(event.pointerId);
    });
    sun.addEventListener("pointermove", (event) => {
      if (!sun.hasPointerCapture(event.pointerId)) return;
      const box = frame.getBoundingClientRect();
      const right = event.clientX - (box.left + box.width / 2);
      const up = box.top + box.height / 2 - event.clientY;
      const factor = factors().get(LIGHT);
      set(LIGHT, limited(factor, (Math.atan2(right, up) * 180) / Math.PI), event.timeStamp);
    });
    sun.addEventListener("keydown", (event) => {
      const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10 };
      const factor = factors().get(LIGHT);
      const ends = { Home: factor.low, End: factor.high };
      if (!(event.key in steps) && !(event.key in ends)) return;
      event.preventDefault();
      stop();
      const value = ends[event.key] ?? current(LIGHT) + steps[event.key] * factor.step;
      set(LIGHT, limited(factor, value), event.timeStamp);
    });
  }

  placeSun(factor) {
    const lit = factor?.unit === "degrees" && this.knows(LIGHT);
    this.sun.hidden = !lit;
    this.frame.classList.toggle("lit", lit);
    if (!lit) return;
    this.frame.classList.toggle("around", Boolean(factor.period));
    const value = current(LIGHT);
    const angle = (value * Math.PI) / 180;
    const [x, y] = [Math.sin(angle), -Math.cos(angle)];
    // On a rounded square.
    const length = (Math.abs(x) ** 14 + Math.abs(y) ** 14) ** (1 / 14);
    this.frame.style.setProperty("--x", x / length);
    this.frame.style.setProperty("--y", y / length);
    this.sun.setAttribute("aria-valuemin", factor.low);
    this.sun.setAttribute("aria-valuemax", factor.high);
    this.sun.setAttribute("aria-valuenow", value.toFixed(1));
    this.sun.setAttribute("aria-valuetext", text(factor, value));
  }

  knows(name) {
    return state.studio.models[this.model].factors.some((factor) => factor.name === name);
  }
}

/** Notes how long a picture took from the slider's event to the screen. */
function measured(milliseconds) {
  latencies.push(milliseconds);
  if (latencies.length > 30) latencies.shift();
  const middle = [...latencies].sort((a, b) => a - b)[Math.floor(latencies.length / 2)];
  find("latency").textContent = `${Math.round(middle)} ms from slider to picture`;
  find("latency").dataset.last = milliseconds;
}

function buildSliders() {
  sliders.clear();
  find("sliders").replaceChildren();
  const known = factors();
  for (const factor of known.values()) {
    const box = find("slider").content.cloneNode(true).firstElementChild;
    const [name, output, undo, input] = ["label", "output", ".undo", "input"].map((s) => box.querySelector(s));
    const id = `factor-${factor.name === BLEND ? "blend" : factor.name}`;
    Object.assign(input, { id, min: factor.low, max: factor.high, step: factor.step });
    name.htmlFor = output.htmlFor = id;
    name.textContent = label(factor.name);
    undo.setAttribute("aria-label", `${label(factor.name)}: as in the picture`);
    input.addEventListener("input", (event) => {
      stop();
      set(factor.name, Number(input.value), event.timeStamp);
    });
    input.addEventListener("keydown", (event) => {
      // Around a circle, there is no end to stop at.
      const up = ["ArrowRight", "ArrowUp"].includes(event.key);
      const down = ["ArrowLeft", "ArrowDown"].includes(event.key);
      if (!factor.period || !(up ? input.value === input.max : down && input.value === input.min)) return;
      event.preventDefault();
      set(factor.name, up ? factor.low + factor.step : factor.high - factor.step, event.timeStamp);
    });
    undo.addEventListener("click", () => {
      stop();
      delete state.values[factor.name];
      input.focus();
      refresh(null);
    });
    find("sliders").append(box);
    sliders.set(factor.name, { box, input, output, undo });
  }
  const swept = find("swept").value;
  find("swept").replaceChildren(...[...known.keys()].map((name) => new Option(label(name), name)));
  if (known.has(swept)) find("swept").value = swept;
}

function set(name, value, since) {
  state.values[name] = value;
  refresh(since);
}

/** Brings sliders, light and pictures to the state's values; `since` is when a slider asked for it, null if none did. */
function refresh(since) {
  if (!state.slots.first) return;
  const known = factors();
  for (const [name, { box, input, output, undo }] of sliders) {
    const factor = known.get(name);
    const value = current(name);
    const moved = name in state.values;
    const share = (v) => Math.min(1, Math.max(0, (v - factor.low) / (factor.high - factor.low)));
    if (document.activeElement !== input || Math.abs(input.value - value) > factor.step / 2) input.value = value;
    const told = seen(name).map((v) => text(factor, v)).join(" / ");
    output.textContent = moved ? text(factor, value) : told;
    output.title = `${told} in the picture`;
    input.setAttribute("aria-valuetext", `${text(factor, value)}, in the picture ${told}`);
    input.style.setProperty("--at", `calc(10px + ${share(value)} * (100% - 20px))`);
    box.style.setProperty("--seen", share(seen(name)[0]));
    box.classList.toggle("moved", moved);
    undo.hidden = !moved;
  }
  find("reset").disabled = !Object.keys(state.values).length;
  find("detail").disabled = !state.panels.some(({ model }) => state.slots.first.parts[model].detail);
  for (const panel of state.panels) {
    panel.placeSun(known.get(LIGHT));
    panel.show(since);
  }
}

function showModels() {
  const [model, compared] = [find("model").value, find("compare").value];
  const wanted = [Number(model), ...(compared === "" || compared === model ? [] : [Number(compared)])];
  for (const panel of state.panels) panel.figure.remove();
  state.panels = wanted.map((number) => new Panel(number));
  for (const panel of state.panels) panel.name(wanted.length > 1);
  const known = factors();
  for (const name of Object.keys(state.values)) if (!known.has(name)) delete state.values[name];
  if (!state.slots.first) return;
  buildSliders();
  refresh(null);
}

// Pictures

let choices = 0;

/** Puts a face into the slot that is chosen, unless another was asked for in the meantime. */
async function choose(request) {
  stop();
  const slot = document.querySelector("[name=slot]:checked").value;
  const number = ++choices;
  find("input").setAttribute("aria-busy", "true"); // To look for a face takes a moment.
  try {
    const answer = await request();
    const face = { ...(await answer.json()), lookedFor: answer.url.endsWith(PHOTO) };
    if (number !== choices) return;
    find("notice").textContent = face.lookedFor && !face.found ? "No face found; the picture is taken as it is." : "";
    state.slots[slot] = face;
    if (slot === "first") {
      state.values = {};
      find("detail").checked = face.found;
      find("picture").src = face.picture;
      find("picture").alt = "The picture that the network sees";
    } else {
      state.values[BLEND] = 0.5;
      find("second-picture").src = face.picture;
    }
    find("second").hidden = !state.slots.second;
    buildSliders();
    refresh(null);
  } catch (error) {
    complain(error);
  }
  if (number === choices) find("input").removeAttribute("aria-busy");
}

/** What to send of a file: of kinds that the server does not read, and of huge ones, the browser's own copy. */
async function asUpload(file) {
  if (/^image\/(png|jpeg)$/.test(file.type) && file.size <= LARGEST_UPLOAD) return file;
  try {
    const picture = await createImageBitmap(file);
    const scale = Math.min(1, 2048 / Math.max(picture.width, picture.height));
    const canvas = document.createElement("canvas");
    canvas.width = Math.max(1, picture.width * scale);
    canvas.height = Math.max(1, picture.height * scale);
    canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
    return await new Promise((done) => canvas.toBlob((blob) => done(blob ?? file), "image/png"));
  } catch {
    return file; // The server says what it is.
  }
}

function takeFile(file) {
  if (!file) return;
  choose(async () => {
    const upload = await asUpload(file);
    if (upload.size > LARGEST_UPLOAD) throw new Error(`${file.name} is too large for a picture`);
    return ask(`/api/picture${find("photo").checked ? PHOTO : ""}`, upload);
  });
}

// Animation and saving

function stop() {
  if (state.playing !== null) cancelAnimationFrame(state.playing);
  state.playing = null;
  find("play").setAttribute("aria-pressed", "false");
  find("play").textContent = "Play";
}

function play() {
  const name = find("swept").value;
  const factor = factors().get(name);
  if (!factor) return;
  const share = (limited(factor, current(name)) - factor.low) / (factor.high - factor.low);
  // There and back like a pendulum, from where it is; around a circle, on and on.
  const offset = factor.period ? share : Math.acos(1 - 2 * share) / (2 * Math.PI);
  const began = performance.now();
  const step = (now) => {
    const phase = (offset + Math.max(0, now - began) / PERIOD_OF_PLAY) % 1;
    const at = factor.period ? phase : 0.5 - 0.5 * Math.cos(2 * Math.PI * phase);
    set(name, factor.low + at * (factor.high - factor.low), performance.now());
    state.playing = requestAnimationFrame(step);
  };
  find("play").setAttribute("aria-pressed", "true");
  find("play").textContent = "Pause";
  state.playing = requestAnimationFrame(step);
}

function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

function savePicture() {
  const canvas = document.createElement("canvas");
  canvas.height = Math.max(...state.panels.map((panel) => panel.size));
  canvas.width = canvas.height * state.panels.length;
  const context = canvas.getContext("2d");
  state.panels.forEach((panel, i) =>
    context.drawImage(panel.canvas, i * canvas.height, 0, canvas.height, canvas.height),
  );
  canvas.toBlob((blob) => download(blob, "rerendered.png"), "image/png");
}

async function saveMovie(button) {
  stop();
  const { format } = button.dataset;
  const factor = find("swept").value;
  button.disabled = true;
  try {
    const scenes = state.panels.map((panel) => panel.scene());
    const answer = await ask("/api/animation", { scenes, factor, format });
    download(await answer.blob(), `${label(factor).toLowerCase().replaceAll(" ", "_")}.${format}`);
    find("notice").textContent = "";
  } catch (error) {
    complain(error);
  }
  button.disabled = false;
}

// The beginning

function listen() {
  for (const id of ["model", "compare"]) find(id).addEventListener("change", () => (stop(), showModels()));
  find("file").addEventListener("change", (event) => {
    takeFile(event.target.files[0]);
    event.target.value = "";
  });
  find("random").addEventListener("click", () => choose(() => ask("/api/random", {})));
  find("forget").addEventListener("click", () => {
    stop();
    state.slots.second = null;
    delete state.values[BLEND];
    find("second").hidden = true;
    document.querySelector("[name=slot][value=first]").checked = true;
    buildSliders();
    refresh(null);
  });
  find("reset").addEventListener("click", () => {
    stop();
    state.values = {};
    refresh(null);
  });
  find("detail").addEventListener("change", () => refresh(null));
  find("play").addEventListener("click", () => (state.playing === null ? play() : stop()));
  find("swept").addEventListener("change", stop);
  find("save-png").addEventListener("click", savePicture);
  for (const button of document.querySelectorAll("[data-format]")) {
    button.addEventListener("click", () => saveMovie(button));
  }
  let inside = 0; // dragenter and dragleave come for every element passed.
  const dropping = (count) => document.body.classList.toggle("dropping", (inside = count) > 0);
  addEventListener("dragenter", () => dropping(inside + 1));
  addEventListener("dragleave", () => dropping(inside - 1));
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    dropping(0);
    takeFile(event.dataTransfer.files[0]);
  });
  addEventListener("paste", (event) => takeFile(event.clipboardData.files[0]));
}

async function begin() {
  const answer = await fetch("/api/studio");
  if (!answer.ok) throw new Error((await answer.json()).error);
  state.studio = await answer.json();
  const { models, samples, formats } = state.studio;
  find("model").append(...models.map(({ name }, i) => new Option(name, i)));
  find("compare").append(new Option("nothing", ""), ...models.map(({ name }, i) => new Option(name, i)));
  find("models").hidden = models.length < 2;
  find("random").hidden = !state.studio.random;
  if (!state.studio.faces) {
    find("photo").checked = false;
    find("photo").disabled = true;
    find("finding").title = "This needs scikit-image: pip install 'dcign_tf[photos]'";
  }
  if (!formats.includes("mp4")) {
    find("save-mp4").disabled = true;
    find("save-mp4").title = "MP4 needs PyAV: pip install 'dcign_tf[video]'";
  }
  for (let i = 0; i < samples; i++) {
    const button = document.createElement("button");
    button.type = "button";
    const picture = new Image();
    Object.assign(picture, { src: `/api/samples/${i}`, alt: `Sample ${i + 1}` });
    button.append(picture);
    button.addEventListener("click", () =>
      choose(async () => ask("/api/picture", await (await fetch(picture.src)).blob())),
    );
    find("samples").append(button);
  }
  listen();
  showModels();
  find("samples").firstElementChild?.click();
}

begin().catch(complain);

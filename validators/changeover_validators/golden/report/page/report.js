"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent).shots;
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const within = (value, low, high) => Math.min(Math.max(value, low), high);
  const shown = (value) => {
    const size = Math.abs(value);
    return value.toFixed(size >= 100 ? 1 : size >= 10 ? 2 : size >= 2 ? 3 : 4).replace("-", "\u2212");
  };
  const signed = (value) => (value > 0 ? "+" : "") + shown(value);

  // Curves: the server drew every line; here one is chosen, and read under the pointer or by the arrow keys.
  const curves = (element) => {
    const shot = data[Number(element.dataset.shot)];
    const last = shot.frames.length - 1;
    const plot = element.querySelector(".plot");
    const box = element.querySelector(".box");
    const hair = element.querySelector(".hair");
    const tip = element.querySelector(".tip");
    const choice = element.querySelector(".metric");
    let place = Math.max(0, shot.frames.indexOf(Number(plot.getAttribute("aria-valuenow"))));

    const chosen = () => shot.metrics[choice.value];
    const words = { candidate: "candidate", current: "current", second: "second artist" };
    const reading = () => {
      const { lines, why } = chosen();
      const parts = Object.keys(words).filter((name) => lines[name]).map((name) => {
        const value = lines[name][place];
        return `${words[name]} ${value === null ? `n/a${why[name] ? ` (${why[name]})` : ""}` : shown(value)}`;
      });
      const [one, other] = [lines.candidate?.[place], lines.current?.[place]];
      if (Number.isFinite(one) && Number.isFinite(other)) parts.push(`difference ${signed(one - other)}`);
      return `frame ${shot.frames[place]}: ${parts.join(", ")}`;
    };
    const point = () => {
      const at = last ? place / last : 0.5;
      hair.hidden = tip.hidden = false;
      hair.style.left = `${100 * at}%`;
      tip.textContent = reading();
      const half = tip.offsetWidth / 2;
      tip.style.left = `${within(at * box.clientWidth, half, Math.max(half, box.clientWidth - half))}px`;
      plot.setAttribute("aria-valuenow", shot.frames[place]);
      plot.setAttribute("aria-valuetext", tip.textContent);
    };
    const choose = () => {
      for (const group of all("g[data-metric]", element)) {
        const is = group.dataset.metric === choice.value;
        group.classList.toggle("off", !is);
        if (is) element.querySelector(".better").textContent = group.dataset.better;
      }
      element.querySelector(".high").textContent = shown(chosen().high);
      element.querySelector(".low").textContent = shown(chosen().low);
      if (!tip.hidden) point();
    };
    const leave = () => { hair.hidden = tip.hidden = true; };
    box.addEventListener("pointermove", (event) => {
      const edge = box.getBoundingClientRect();
      place = within(Math.round((event.clientX - edge.left) / edge.width * last), 0, last);
      point();
    });
    box.addEventListener("pointerleave", () => { if (document.activeElement !== plot) leave(); });
    plot.addEventListener("focus", point);
    plot.addEventListener("blur", leave);
    plot.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10, Home: -last, End: last }[event.key];
      if (step === undefined) return;
      event.preventDefault();
      place = within(place + step, 0, last);
      point();
    });
    choice.addEventListener("change", choose);
    choose();
  };

  // The wipe: one picture over the other, cut at the slider. Both come from the contact row, so nothing is there twice.
  const wipe = (element) => {
    const images = element.closest(".shot");
    const [over, under, cut] = [".over", ".under", ".cut"].map((name) => element.querySelector(name));
    const slider = element.querySelector("input");
    const sides = Object.fromEntries(all("select", element).map((select) => [select.dataset.side, select]));
    const fit = () => {
      const ratio = under.naturalWidth / under.naturalHeight;
      if (ratio) element.style.maxWidth = `calc(${ratio} * min(72vh, 900px))`;
    };
    under.addEventListener("load", fit);
    const show = () => {
      for (const [side, image] of [["left", over], ["right", under]]) {
        image.src = images.querySelector(`.picture[data-kind="${sides[side].value}"] img`).src;
        image.alt = sides[side].value;
      }
      move();
    };
    const move = () => {
      over.style.clipPath = `inset(0 ${100 - slider.value}% 0 0)`;
      cut.style.left = `${slider.value}%`;
      slider.setAttribute("aria-valuetext", `${sides.left.value} up to ${Math.round(slider.value)} %, then ${sides.right.value}`);
    };
    for (const side of ["left", "right"]) {
      sides[side].value = element.dataset[side];
      sides[side].addEventListener("change", show);
    }
    slider.addEventListener("input", move);
    show();
  };

  // Pixels: what every picture has at one place, read from the crops themselves (8 bits, so to 1/255).
  const crops = (element) => {
    const shot = data[Number(element.closest(".shot").id.slice("shot-".length))];
    const [left, top, width, height] = shot.crop;
    const readout = element.querySelector(".readout");
    const tiles = all("figure", element).map((figure) => ({
      kind: figure.dataset.kind,
      image: figure.querySelector("img"),
      probe: figure.querySelector(".probe"),
    }));
    let [x, y] = shot.worst;
    const pixels = (image) => {
      const canvas = document.createElement("canvas");
      [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
      const context = canvas.getContext("2d", { willReadFrequently: true });
      context.drawImage(image, 0, 0);
      return context;
    };
    const value = (tile) => {
      if (tile.kind === "difference") return "";
      tile.pixels ??= pixels(tile.image);
      const [r, g, b] = tile.pixels.getImageData(x - left, y - top, 1, 1).data;
      const parts = r === g && g === b ? [r] : [r, g, b];
      return `${tile.kind} ${parts.map((part) => (part / 255).toFixed(2)).join(" ")}`;
    };
    const read = () => {
      for (const tile of tiles) {
        tile.probe.style.left = `${100 * (x - left + 0.5) / width}%`;
        tile.probe.style.top = `${100 * (y - top + 0.5) / height}%`;
      }
      const worst = x === shot.worst[0] && y === shot.worst[1];
      readout.textContent = `${worst ? "worst pixel" : "pixel"} (${x}, ${y}): ${tiles.map(value).filter(Boolean).join(", ")}`;
    };
    const to = (newX, newY) => {
      x = within(newX, left, left + width - 1);
      y = within(newY, top, top + height - 1);
      read();
    };
    for (const tile of tiles) {
      tile.image.addEventListener("pointermove", (event) => {
        const edge = tile.image.getBoundingClientRect();
        to(left + Math.floor((event.clientX - edge.left) / edge.width * width),
          top + Math.floor((event.clientY - edge.top) / edge.height * height));
      });
    }
    element.addEventListener("pointerleave", () => to(...shot.worst));
    element.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (step === undefined) return;
      event.preventDefault();
      to(x + step[0], y + step[1]);
    });
    Promise.all(tiles.map((tile) => tile.image.decode())).then(read, () => {});
  };

  all(".curves").forEach(curves);

  // What is behind a closed lid is prepared when it is opened for the first time: forty shots open as fast as one.
  for (const closer of all("details.closer")) {
    const prepare = () => {
      if (!closer.open || closer.dataset.ready) return;
      closer.dataset.ready = "yes";
      all(".wipe", closer).forEach(wipe);
      all(".crops", closer).forEach(crops);
    };
    closer.addEventListener("toggle", prepare);
    prepare();
  }
  for (const image of all(".picture img")) {
    image.addEventListener("click", () => {
      const closer = image.closest(".shot").querySelector("details.closer");
      closer.open = true;
      const slider = closer.querySelector(".wipe input");
      if (slider) slider.focus();
    });
  }
  // A closed lid prints nothing, and paper has no lids; a summary has nothing behind them.
  const closed = [];
  window.addEventListener("beforeprint", () => {
    if (!document.getElementById("whole").checked) return;
    for (const lid of all("details:not([open])")) { closed.push(lid); lid.open = true; }
  });
  window.addEventListener("afterprint", () => {
    for (const lid of closed.splice(0)) lid.open = false;
  });
})();

// The points of a large map, drawn by WebGL: moved and zoomed here, without asking the server.
// What is chosen on it is told to the second component (point_map_marks.js), whose marks it draws.

const SLOW = 40 // ms: a frame that takes longer is drawn with fewer points while moving
const LABELS = 24, MOST_LABELS = 40 // of the whole map, and zoomed in

export default function (component) {
  const { data, parentElement, setStateValue } = component
  if (!data || !data.byteLength) return
  const root = parentElement.querySelector(".point-map")
  const [under, over] = root.querySelectorAll("canvas")
  const said = root.querySelector(".point-map-hover")
  // Opaque, or the page would shine through what is blended, and no colour be that of the legend.
  const gl = under.getContext("webgl", { alpha: false, antialias: false, preserveDrawingBuffer: true })
  if (!gl) {
    said.hidden = false
    said.textContent = "This browser draws no WebGL, which a map of so many points needs; switch it on, or choose narrower SAEs."
    return
  }
  const { head, n, places, tokens, shades } = unpacked(data)
  const row = (i) => (i * head.step) % n
  const ink = head.ink
  const maps = (window.pointMaps ??= {})
  const mine = (maps[root.dataset.map] ??= {})
  const draw2d = over.getContext("2d")
  under.style.background = ink.paper

  // The view is in units of the extent, 0 to 1; kept when the same map is drawn in other colours.
  const whole = () => ({ x0: -0.03, x1: 1.03, y0: -0.03, y1: 1.03 })
  let view = mine.view && mine.extent === String(head.from.concat(head.extent)) ? mine.view : whole()
  mine.extent = String(head.from.concat(head.extent))
  const there = (v, axis) => head.from[axis] + v * head.extent[axis]
  const here = (v, axis) => (v - head.from[axis]) / head.extent[axis]

  const uniforms = uploaded(gl, head, places, shades)
  const distinct = seenPlaces(places)

  let groups = [] // of marked points: their places in the buffer, and a colour
  const rgb = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16) / 255)
  const marked = (bits, color) => {
    if (!bits) return
    const set = Uint8Array.from(atob(bits), (letter) => letter.charCodeAt(0))
    const found = []
    for (let i = 0; i < n; i++) if (set[row(i) >> 3] & (1 << (row(i) & 7))) found.push(i)
    const buffer = gl.createBuffer()
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, buffer)
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, Uint32Array.from(found), gl.STATIC_DRAW)
    groups.push({ buffer, count: found.length, color: rgb(color) })
  }

  let width = 0, height = 0, part = n, frame = 0, settling = 0, moving = false, shape = null
  const frames = (mine.frames = [])
  const toX = (x) => ((x - view.x0) / (view.x1 - view.x0)) * width
  const toY = (y) => ((view.y1 - y) / (view.y1 - view.y0)) * height
  const fromX = (px) => view.x0 + (px / width) * (view.x1 - view.x0)
  const fromY = (py) => view.y1 - (py / height) * (view.y1 - view.y0)

  const paint = () => {
    frame = 0
    const began = performance.now()
    const ratio = window.devicePixelRatio || 1
    gl.viewport(0, 0, under.width, under.height)
    gl.clearColor(...rgb(ink.paper), 1)
    gl.enable(gl.DEPTH_TEST)
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT)
    gl.uniform1f(uniforms.top, head.top === "high" ? 1 : -1)
    const w = view.x1 - view.x0, h = view.y1 - view.y0
    gl.uniform2f(uniforms.scale, 2 / w, 2 / h)
    gl.uniform2f(uniforms.shift, (-2 * view.x0) / w - 1, (-2 * view.y0) / h - 1)
    // Larger the fewer there are in view.
    const inView = distinct * Math.min(1, w * h)
    const size = Math.min(7, Math.max(1.4, 0.55 * Math.sqrt((width * height) / (inView * 0.5))))
    gl.uniform1f(uniforms.size, size * ratio)
    gl.uniform4f(uniforms.ring, 0, 0, 0, 0)
    gl.drawArrays(gl.POINTS, 0, moving ? part : n)
    gl.disable(gl.DEPTH_TEST)
    for (const { buffer, count, color } of groups) {
      gl.uniform1f(uniforms.size, (count > 2000 ? Math.max(5, size + 3) : Math.max(10, size + 4)) * ratio)
      gl.uniform4f(uniforms.ring, ...color, 1)
      gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, buffer)
      gl.drawElements(gl.POINTS, count, gl.UNSIGNED_INT, 0)
    }
    write()
    const script = performance.now() - began
    if (moving) gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(4)) // waits for it
    const took = performance.now() - began
    frames.push({ script, took, points: moving ? part : n })
    if (frames.length > 200) frames.shift()
    if (moving && took > SLOW) part = Math.max(20000, part >> 1)
    else if (moving && took < SLOW / 3) part = Math.min(n, part << 1)
  }
  const again = () => (frame ||= requestAnimationFrame(paint))

  const write = () => {
    draw2d.setTransform(1, 0, 0, 1, 0, 0)
    draw2d.clearRect(0, 0, over.width, over.height)
    const ratio = window.devicePixelRatio || 1
    draw2d.scale(ratio, ratio)
    draw2d.font = "12px 'Source Sans', sans-serif"
    draw2d.textAlign = "center"
    draw2d.textBaseline = "middle"
    const chosen = mine.marks?.chosen
    const taken = chosen ? [[toX(here(chosen[0], 0)), toY(here(chosen[1], 1)), 12]] : []
    const clear = taken.length
    const most = LABELS / Math.sqrt(Math.min(1, (view.x1 - view.x0) * (view.y1 - view.y0)))
    mine.written = []
    for (const [x, y, text] of mine.marks?.labels ?? []) {
      const middle = toX(here(x, 0)), py = toY(here(y, 1))
      if (middle < 0 || middle > width || py < 0 || py > height) continue
      const half = draw2d.measureText(text).width / 2 + 5
      const px = Math.max(half, Math.min(width - half, middle)) // whole, also at the edge
      if (taken.some(([a, b, c]) => Math.abs(a - px) < half + c && Math.abs(b - py) < 19)) continue
      taken.push([px, py, half])
      mine.written.push(text)
      draw2d.globalAlpha = 0.85
      draw2d.fillStyle = ink.panel
      draw2d.fillRect(px - half, py - 9, 2 * half, 18)
      draw2d.globalAlpha = 1
      draw2d.fillStyle = ink.text
      draw2d.fillText(text, px, py)
      if (taken.length - clear >= Math.min(MOST_LABELS, most)) break
    }
    if (chosen) {
      draw2d.beginPath()
      draw2d.arc(toX(here(chosen[0], 0)), toY(here(chosen[1], 1)), 10, 0, 7)
      draw2d.lineWidth = 3
      draw2d.strokeStyle = ink.selected
      draw2d.stroke()
    }
    if (shape) {
      draw2d.beginPath()
      for (const [x, y] of outline(shape)) draw2d.lineTo(toX(x), toY(y))
      draw2d.closePath()
      draw2d.lineWidth = 1.5
      draw2d.strokeStyle = ink.text
      draw2d.stroke()
    }
  }
  const outline = (drawn) => {
    if (mode !== "box" || drawn.length < 2) return drawn
    const [[a, b], [c, d]] = [drawn[0], drawn[drawn.length - 1]]
    return [[a, b], [c, b], [c, d], [a, d]]
  }

  let timer = 0
  const settle = () => {
    clearTimeout(settling)
    settling = setTimeout(() => ((moving = false), again()), 300)
    clearTimeout(timer)
    timer = setTimeout(report, 400)
  }
  const seen = () => {
    const box = [there(view.x0, 0), there(view.x1, 0), there(view.y0, 1), there(view.y1, 1)]
    const zoom = JSON.stringify(view) === JSON.stringify(whole()) ? null : box
    mine.told = JSON.stringify(zoom && zoom.map((value) => Math.round(value * 1000) / 1000))
    return zoom
  }
  const report = () => setStateValue("zoom", seen())
  // What is chosen says where the reader is, too: the page is drawn again there.
  const tell = (call, what) => {
    clearTimeout(timer)
    call?.({ ...what, zoom: seen() })
  }
  const move = (next) => {
    const side = next.x1 - next.x0
    if (side < 1e-4 || side > 8) return
    view = mine.view = next
    moving = true
    again()
    settle()
  }
  const zoom = (px, py, by) => {
    const x = fromX(px), y = fromY(py)
    move({ x0: x + (view.x0 - x) * by, x1: x + (view.x1 - x) * by, y0: y + (view.y0 - y) * by, y1: y + (view.y1 - y) * by })
  }
  const pan = (dx, dy) => {
    const x = (dx / width) * (view.x1 - view.x0), y = (dy / height) * (view.y1 - view.y0)
    move({ x0: view.x0 - x, x1: view.x1 - x, y0: view.y0 + y, y1: view.y1 + y })
  }

  // The nearest point within some pixels, of all of them.
  const nearest = (px, py, within) => {
    const x = fromX(px) * 65535, y = fromY(py) * 65535
    const perX = width / ((view.x1 - view.x0) * 65535), perY = height / ((view.y1 - view.y0) * 65535)
    let best = within * within, found = -1
    for (let i = 0; i < n; i++) {
      const dx = (places[2 * i] - x) * perX
      if (dx * dx > best) continue
      const dy = (places[2 * i + 1] - y) * perY
      const away = dx * dx + dy * dy
      if (away < best) { best = away; found = i }
    }
    return found < 0 ? null : found
  }
  // What stands under the mouse: whose latent it is, and what it boosts.
  const name = (place) => {
    const which = row(place)
    const run = head.runs.findLast(([first]) => first <= which)
    const boosted = [...tokens.subarray(place * head.per_point, (place + 1) * head.per_point)]
    return [
      run ? `${run[1]} · latent ${run[2] + which - run[0]}` : "",
      boosted.length ? `makes more likely ${boosted.map((it) => `‘${head.tokens[it]}’`).join(", ")}` : "",
    ].filter(Boolean)
  }

  let mode = mine.mode ?? "pan"
  const buttons = [...root.querySelectorAll("button[data-mode]")]
  const choose = (next) => {
    mode = mine.mode = next
    for (const button of buttons) button.setAttribute("aria-pressed", String(button.dataset.mode === next))
    over.style.cursor = next === "pan" ? "grab" : "crosshair"
  }
  const spot = (event) => {
    const box = over.getBoundingClientRect()
    return [event.clientX - box.left, event.clientY - box.top]
  }
  let down = null, hovering = 0
  const listeners = {
    pointerdown: (event) => {
      down = { from: spot(event), last: spot(event), far: 0 }
      over.setPointerCapture(event.pointerId)
      if (mode !== "pan") shape = [[fromX(down.from[0]), fromY(down.from[1])]]
    },
    pointermove: (event) => {
      const [x, y] = spot(event)
      if (!down) {
        clearTimeout(hovering)
        hovering = setTimeout(() => {
          const which = nearest(x, y, 6)
          const lines = which === null ? [] : name(which)
          said.hidden = !lines.length
          if (!said.hidden) {
            said.textContent = lines.join("\n")
            const left = Math.max(0, Math.min(x + 12, width - said.offsetWidth))
            said.style.transform = `translate(${left}px, ${Math.max(0, y - said.offsetHeight - 8)}px)`
          }
        }, 60)
        return
      }
      said.hidden = true
      down.far = Math.max(down.far, Math.hypot(x - down.from[0], y - down.from[1]))
      if (shape) { shape.push([fromX(x), fromY(y)]); again() }
      else if (down.far > 3) pan(x - down.last[0], y - down.last[1])
      down.last = [x, y]
    },
    pointerup: (event) => {
      if (!down) return
      const [x, y] = spot(event)
      const drawn = shape && outline(shape)
      const clicked = down.far <= 3
      down = shape = null
      again()
      if (clicked) {
        const which = nearest(x, y, 8)
        if (which !== null) tell(mine.clicked, { row: row(which) })
      } else if (drawn && drawn.length > 2) {
        const area = { x: drawn.map(([v]) => there(v, 0)), y: drawn.map(([, v]) => there(v, 1)) }
        tell(mine.drawn, area)
      }
    },
    pointercancel: () => { down = shape = null; again() },
    pointerleave: () => { clearTimeout(hovering); said.hidden = true },
    wheel: (event) => {
      event.preventDefault()
      zoom(...spot(event), Math.exp(Math.max(-60, Math.min(60, event.deltaY)) * 0.004))
    },
    dblclick: () => move(whole()),
    keydown: (event) => {
      const step = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] }[event.key]
      if (step) pan(...step)
      else if (event.key === "+") zoom(width / 2, height / 2, 0.8)
      else if (event.key === "-") zoom(width / 2, height / 2, 1.25)
      else return
      event.preventDefault()
    },
  }
  const leave = new AbortController()
  for (const [what, listener] of Object.entries(listeners))
    over.addEventListener(what, listener, { passive: false, signal: leave.signal })
  for (const button of buttons)
    button.addEventListener("click", () => choose(button.dataset.mode), { signal: leave.signal })
  root.querySelector("button[data-all]").addEventListener("click", () => move(whole()), { signal: leave.signal })
  choose(mode)

  const legend = root.querySelector(".point-map-legend")
  legend.replaceChildren(...head.legend.map(({ text, color }) => {
    const item = document.createElement("span")
    if (color) {
      const dot = document.createElement("i")
      dot.style.background = color
      item.append(dot)
    }
    item.append(text)
    return item
  }))
  root.style.color = ink.text

  // Called whenever the page has other marks.
  mine.refresh = () => {
    groups = []
    const { hits, lassoed, zoom: asked } = mine.marks ?? {}
    marked(hits, ink.rings[0])
    marked(lassoed, ink.rings[1])
    const text = JSON.stringify(asked ?? null)
    if (mine.marks && text !== mine.told) {
      view = mine.view = asked ? { x0: here(asked[0], 0), x1: here(asked[1], 0), y0: here(asked[2], 1), y1: here(asked[3], 1) } : whole()
      mine.told = text
    }
    again()
  }
  const fit = () => {
    const ratio = window.devicePixelRatio || 1
    width = over.clientWidth
    height = over.clientHeight
    for (const canvas of [under, over]) {
      canvas.width = Math.max(1, width * ratio)
      canvas.height = Math.max(1, height * ratio)
    }
    paint()
  }
  const watch = new ResizeObserver(fit)
  watch.observe(over)
  fit()
  mine.refresh()
  root.dataset.drawn = String(n)
  return () => {
    leave.abort()
    watch.disconnect()
    clearTimeout(timer)
    clearTimeout(settling)
    clearTimeout(hovering)
    cancelAnimationFrame(frame)
    delete mine.refresh
  }
}

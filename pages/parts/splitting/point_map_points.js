// What a large map is drawn from: the bytes of core/splitting/packed.py, as WebGL takes them.
// Put in front of point_map.js.

const VERTEX = `
attribute vec2 place; attribute float shade;
uniform vec2 scale, shift; uniform float size, top;
varying float shown;
void main() {
  // What is told by high numbers, or by low ones, lies on top, whatever is drawn first.
  gl_Position = vec4(place * scale + shift, top * (1.0 - 2.0 * shade) * 0.9, 1.0);
  gl_PointSize = size;
  shown = shade;
}`
const FRAGMENT = `
precision mediump float;
uniform sampler2D palette; uniform vec4 ring;
varying float shown;
void main() {
  float away = length(gl_PointCoord - 0.5);
  if (away > 0.5) discard;
  if (ring.a > 0.0) {
    if (away < 0.28) discard;
    gl_FragColor = vec4(ring.rgb, 1.0);
  } else {
    gl_FragColor = vec4(texture2D(palette, vec2((shown * 255.0 + 0.5) / 256.0, 0.5)).rgb, 0.8);
  }
}`

// Header, places, tokens and colours of the points.
function unpacked(data) {
  const bytes = new Uint8Array(data.buffer.slice(data.byteOffset, data.byteOffset + data.byteLength))
  const length = new DataView(bytes.buffer).getUint32(0, true)
  const head = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + length)))
  const n = head.n
  const places = new Uint16Array(bytes.buffer, 4 + length, 2 * n)
  const tokens = new Uint16Array(bytes.buffer, 4 + length + 4 * n, head.per_point * n)
  const shades = new Uint8Array(bytes.buffer, 4 + length + (4 + 2 * head.per_point) * n, n)
  return { head, n, places, tokens, shades }
}

// Of how many places points are seen on the whole map: where thousands lie on one, each is larger.
const CELLS = 512
function seenPlaces(places) {
  const taken = new Uint8Array(CELLS * CELLS)
  let found = 0
  for (let i = 0; i < places.length; i += 2) {
    const cell = (places[i] >> 7) * CELLS + (places[i + 1] >> 7)
    found += 1 - taken[cell]
    taken[cell] = 1
  }
  return Math.max(1, found)
}

// The points in the graphics memory, and where the program has what changes with the view.
function uploaded(gl, head, places, shades) {
  const program = gl.createProgram()
  for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
    const shader = gl.createShader(kind)
    gl.shaderSource(shader, source)
    gl.compileShader(shader)
    gl.attachShader(program, shader)
  }
  gl.linkProgram(program)
  gl.useProgram(program)
  const at = (name) => gl.getUniformLocation(program, name)
  const uniforms = Object.fromEntries(["scale", "shift", "size", "ring", "top"].map((it) => [it, at(it)]))
  const fill = (name, values, size, type) => {
    gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer())
    gl.bufferData(gl.ARRAY_BUFFER, values, gl.STATIC_DRAW)
    const place = gl.getAttribLocation(program, name)
    gl.enableVertexAttribArray(place)
    gl.vertexAttribPointer(place, size, type, true, 0, 0)
  }
  fill("place", places, 2, gl.UNSIGNED_SHORT)
  fill("shade", shades, 1, gl.UNSIGNED_BYTE)
  const pixels = new Uint8Array(256 * 4)
  head.palette.forEach(([r, g, b], i) => pixels.set([r, g, b, 255], 4 * i))
  gl.bindTexture(gl.TEXTURE_2D, gl.createTexture())
  gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, 256, 1, 0, gl.RGBA, gl.UNSIGNED_BYTE, pixels)
  for (const which of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER])
    gl.texParameteri(gl.TEXTURE_2D, which, gl.NEAREST)
  gl.getExtension("OES_element_index_uint")
  gl.depthFunc(gl.LEQUAL)
  gl.enable(gl.BLEND)
  gl.blendFunc(gl.SRC_ALPHA, gl.ONE_MINUS_SRC_ALPHA)
  return uniforms
}


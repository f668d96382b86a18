"use strict";
// One face as a picture of 256x256: by WebGL 2, or pixel by pixel where there is none. Both follow the same formulas:
// angles as casfne.normals, shading as casfne.images.shade, colours of errors as casfne.report.figures.error_map.
// A face's maps are RGBA, channel = (n + 1) / 2, alpha 0 outside the mask; frame: x right, y up, z towards you.

const SIZE = 256;
const VIEWS = ["photo", "relit", "shading", "normals", "error"];
const STRENGTH = 1.2;   // of the new light on a relit face; and what comes evenly from all round, as `casfne relight`
const FILL = 0.15;
const DARKEST = 0.1;    // this, the next, and the formulas of a relit face: casfne.applied.relight
const LEAST_TOLD = 0.1;

const toLinear = v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
const toSrgb = v => v <= 0.0031308 ? v * 12.92 : 1.055 * v ** (1 / 2.4) - 0.055;

// the photograph's own light on a surface of normal (x, y, z), channel k: a polynomial of second order, c [9][3]
const received = (c, k, x, y, z) => Math.max(c[k] + c[3 + k] * x + c[6 + k] * y + c[9 + k] * z + c[12 + k] * x * y
  + c[15 + k] * x * z + c[18 + k] * y * z + c[21 + k] * (x * x - y * y) + c[24 + k] * (3 * z * z - 1), 0);

const FRAGMENT = `#version 300 es
precision highp float;
uniform sampler2D normals, truth, photo, colours;
uniform int view;
uniform vec3 light;
uniform mat3 frame;
uniform vec3 c[9], albedo;
uniform float range;
uniform bool soft;
out vec4 colour;
vec3 toLinear(vec3 v) { return mix(v / 12.92, pow((v + 0.055) / 1.055, vec3(2.4)), step(0.04045, v)); }
vec3 toSrgb(vec3 v) {
  v = clamp(v, 0.0, 1.0);
  return mix(v * 12.92, 1.055 * pow(max(v, 1e-6), vec3(1.0 / 2.4)) - 0.055, step(0.0031308, v));
}
vec3 received(vec3 n) {
  return max(c[0] + c[1] * n.x + c[2] * n.y + c[3] * n.z + c[4] * n.x * n.y + c[5] * n.x * n.z + c[6] * n.y * n.z
    + c[7] * (n.x * n.x - n.y * n.y) + c[8] * (3.0 * n.z * n.z - 1.0), 0.0);
}
vec3 relit(vec3 seen, vec3 old, float fresh) {
  vec3 own = (seen * old + ${DARKEST} * albedo) / (old * old + ${DARKEST});
  return max(own * fresh + (seen - own * old) * min(fresh / max(old, 1e-3), 1.0), 0.0);
}
void main() {
  ivec2 at = ivec2(int(gl_FragCoord.x), ${SIZE - 1} - int(gl_FragCoord.y));
  vec4 stored = texelFetch(normals, at, 0), other = texelFetch(truth, at, 0);
  vec4 pixel = texelFetch(photo, at, 0);  // its alpha: how much of the new light is shown
  vec3 n = normalize(stored.rgb * 2.0 - 1.0);
  float shade = max(dot(n, light), 0.0);
  bool inside = stored.a > 0.5;
  colour = vec4(0.0);
  if (view == 0 || (view == 1 && !inside)) colour = vec4(pixel.rgb, 1.0);
  else if (!inside) return;
  else if (view == 1) {
    vec3 seen = toLinear(pixel.rgb), old = received(n);
    float told = dot(old * old / (old * old + ${DARKEST}), vec3(1.0 / 3.0));
    float share = soft ? pow(pixel.a, 1.0 / max(told, ${LEAST_TOLD})) : pixel.a;
    colour = vec4(toSrgb(mix(seen, relit(seen, old, ${FILL} + ${STRENGTH} * shade), share)), 1.0);
  } else if (view == 2) colour = vec4(toSrgb(vec3(shade)), 1.0);
  else if (view == 3) colour = vec4((frame * n + 1.0) / 2.0, 1.0);
  else if (other.a > 0.5) {
    vec3 t = normalize(other.rgb * 2.0 - 1.0);
    float deg = degrees(2.0 * asin(min(distance(n, t) / 2.0, 1.0)));
    colour = texelFetch(colours, ivec2(int(min(deg / range, 1.0) * 255.0 + 0.5), 0), 0);
  }
}`;
const VERTEX = "#version 300 es\nin vec2 at;\nvoid main() { gl_Position = vec4(at, 0.0, 1.0); }";

// WebGL 2, or null where the browser has none. draw(scene): see sceneOf in viewer.js.
function glRenderer(canvas, colours) {
  const gl = canvas.getContext("webgl2", { antialias: false, preserveDrawingBuffer: true });
  if (!gl) return null;
  const program = gl.createProgram();
  for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program));
  gl.useProgram(program);
  gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
  gl.bufferData(gl.ARRAY_BUFFER, new Float32Array([-1, -1, 3, -1, -1, 3]), gl.STATIC_DRAW);
  const place = gl.getAttribLocation(program, "at");
  gl.enableVertexAttribArray(place);
  gl.vertexAttribPointer(place, 2, gl.FLOAT, false, 0, 0);
  const where = name => gl.getUniformLocation(program, name);
  const units = ["normals", "truth", "photo", "colours"];
  const held = units.map(() => null);
  units.forEach((name, unit) => {
    gl.activeTexture(gl.TEXTURE0 + unit);
    gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
    for (const key of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_2D, key, gl.NEAREST);
    gl.uniform1i(where(name), unit);
  });
  const fill = (unit, pixels, width, height) => {
    if (held[unit] === pixels) return;
    held[unit] = pixels;
    gl.activeTexture(gl.TEXTURE0 + unit);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, width, height, 0, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(pixels));
  };
  fill(3, colours.pixels, 256, 1);
  return {
    kind: "WebGL",
    draw(scene) {
      [scene.normals, scene.truth || scene.normals, scene.photo].forEach((map, i) => fill(i, map, SIZE, SIZE));
      gl.uniform1i(where("view"), VIEWS.indexOf(scene.view));
      gl.uniform3fv(where("light"), scene.light);
      gl.uniformMatrix3fv(where("frame"), false, scene.frame);
      gl.uniform3fv(where("c"), scene.received);
      gl.uniform3fv(where("albedo"), scene.albedo);
      gl.uniform1f(where("range"), colours.range);
      gl.uniform1i(where("soft"), scene.soft);
      gl.viewport(0, 0, SIZE, SIZE);
      gl.drawArrays(gl.TRIANGLES, 0, 3);
    },
  };
}

function canvasRenderer(canvas, colours) {
  const context = canvas.getContext("2d");
  const picture = context.createImageData(SIZE, SIZE);
  return {
    kind: "canvas",
    draw(scene) {
      paint(scene, colours, picture.data);
      context.putImageData(picture, 0, 0);
    },
  };
}

const unit = (map, i) => {
  const x = map[i] / 127.5 - 1, y = map[i + 1] / 127.5 - 1, z = map[i + 2] / 127.5 - 1;
  const length = Math.hypot(x, y, z) || 1;
  return [x / length, y / length, z / length];
};

const angleDeg = (a, b) =>
  Math.asin(Math.min(Math.hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2]) / 2, 1)) * 360 / Math.PI;

function paint(scene, colours, out) {
  const { normals, photo, truth, view, light, frame } = scene;
  for (let i = 0; i < out.length; i += 4) {
    const inside = normals[i + 3] > 0;
    out[i + 3] = inside || view === "photo" || view === "relit" ? 255 : 0;
    if (view === "photo") for (let k = 0; k < 3; k++) out[i + k] = photo[i + k];
    else if (view === "relit") relight(scene, i, inside, out);
    else if (inside) {
      const n = unit(normals, i);
      if (view === "shading") {
        const grey = 255 * toSrgb(Math.max(n[0] * light[0] + n[1] * light[1] + n[2] * light[2], 0));
        out[i] = out[i + 1] = out[i + 2] = grey;
      } else if (view === "normals") {
        for (let k = 0; k < 3; k++) out[i + k] = 127.5 * (frame[k] * n[0] + frame[3 + k] * n[1] + frame[6 + k] * n[2] + 1);
      } else if (truth && truth[i + 3]) {
        const at = 4 * Math.round(255 * Math.min(angleDeg(n, unit(truth, i)) / colours.range, 1));
        for (let k = 0; k < 3; k++) out[i + k] = colours.pixels[at + k];
      } else out[i + 3] = 0;
    }
  }
}

function relight({ normals, photo, light, received: c, albedo, soft }, i, inside, out) {
  if (!inside) return void out.set(photo.subarray(i, i + 3), i);
  const [x, y, z] = unit(normals, i);
  const squares = [0, 1, 2].map(k => received(c, k, x, y, z) ** 2);
  const told = squares.reduce((sum, square) => sum + square / (square + DARKEST) / 3, 0);
  const share = (photo[i + 3] / 255) ** (soft ? 1 / Math.max(told, LEAST_TOLD) : 1);
  const fresh = FILL + STRENGTH * Math.max(x * light[0] + y * light[1] + z * light[2], 0);
  for (let k = 0; k < 3; k++) {
    const seen = toLinear(photo[i + k] / 255), old = received(c, k, x, y, z);
    const own = (seen * old + DARKEST * albedo[k]) / (old * old + DARKEST);
    const lit = Math.max(own * fresh + (seen - own * old) * Math.min(fresh / Math.max(old, 1e-3), 1), 0);
    out[i + k] = 255 * toSrgb(Math.min(seen + (lit - seen) * share, 1));
  }
}

// how much of the new light is shown, 0..255: it fades in from the mask's edge (chamfer distances, as OpenCV's DIST_L2),
// slowly where the mask is ``soft``, an oval and not the face's own outline
function shares(map, soft) {
  const width = SIZE + 2, far = new Float32Array(width * width), [straight, slant] = [0.955, 1.3693];
  let count = 0;
  for (let row = 0; row < SIZE; row++) for (let column = 0; column < SIZE; column++)
    if (map[4 * (row * SIZE + column) + 3]) { far[(row + 1) * width + column + 1] = 1e6; count++; }
  const pass = (i, way) => {
    if (far[i]) far[i] = Math.min(far[i], far[i - way] + straight, far[i - way * width] + straight,
      far[i - way * (width + 1)] + slant, far[i - way * (width - 1)] + slant);
  };
  for (let i = width + 1; i < far.length - width - 1; i++) pass(i, 1);
  for (let i = far.length - width - 2; i > width; i--) pass(i, -1);
  const feather = Math.max(Math.sqrt(count) / (soft ? 5 : 40), 1);
  return (row, column) => 255 * Math.min(far[(row + 1) * width + column + 1] / feather, 1);
}

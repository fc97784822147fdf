// Kernels of the data pipeline. The same source compiles with nvcc (one thread an index) and, as a
// reference for machines without a GPU, with g++ (a plain loop over the indices).
//
// Conventions: a "scene" is one training picture. View space is in crop units: x right, y up, z towards the
// camera, the crop spans [-1, 1], and a point projects to u = x / (1 - s z), v = -y / (1 - s z).
#include <cmath>
#include <cstdint>
#include <cstring>

typedef unsigned long long u64;
typedef unsigned int u32;

#ifdef __CUDACC__
#include <cuda_runtime.h>
#define HD __device__ __forceinline__
#define LANES 32
HD void min_u64(u64* p, u64 v) { if (v < *p) atomicMin(p, v); }
HD void min_u32(u32* p, u32 v) { if (v < *p) atomicMin(p, v); }
HD void add_f32(float* p, float v) { atomicAdd(p, v); }
HD u32 bits_of(float f) { return __float_as_uint(f); }
HD float float_of(u32 b) { return __uint_as_float(b); }
template <class F> __global__ void run(F f, long n) {
    for (long i = blockIdx.x * (long)blockDim.x + threadIdx.x; i < n; i += (long)gridDim.x * blockDim.x) f(i);
}
template <class F> int launch(const F& f, long n, void* stream) {
    if (n <= 0) return 0;
    long blocks = (n + 127) / 128;
    if (blocks > (1 << 20)) blocks = 1 << 20;
    run<<<(int)blocks, 128, 0, (cudaStream_t)stream>>>(f, n);
    return (int)cudaGetLastError();
}
#else
#define HD inline
#define LANES 1
HD void min_u64(u64* p, u64 v) { if (v < *p) *p = v; }
HD void min_u32(u32* p, u32 v) { if (v < *p) *p = v; }
HD void add_f32(float* p, float v) { *p += v; }
HD u32 bits_of(float f) { u32 b; memcpy(&b, &f, 4); return b; }
HD float float_of(u32 b) { float f; memcpy(&f, &b, 4); return f; }
template <class F> int launch(const F& f, long n, void*) {
    for (long i = 0; i < n; i++) f(i);
    return 0;
}
#endif

struct V3 { float x, y, z; };
HD V3 load3(const float* p) { return {p[0], p[1], p[2]}; }
HD V3 operator+(V3 a, V3 b) { return {a.x + b.x, a.y + b.y, a.z + b.z}; }
HD V3 operator-(V3 a, V3 b) { return {a.x - b.x, a.y - b.y, a.z - b.z}; }
HD V3 operator*(V3 a, float t) { return {a.x * t, a.y * t, a.z * t}; }
HD float dot(V3 a, V3 b) { return a.x * b.x + a.y * b.y + a.z * b.z; }
HD V3 cross(V3 a, V3 b) { return {a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x}; }
HD V3 unit(V3 a) { return a * (1.0f / sqrtf(fmaxf(dot(a, a), 1e-20f))); }
HD float clampf(float x, float lo, float hi) { return fminf(fmaxf(x, lo), hi); }

// ---------------------------------------------------------------- rasterising
// Screen vertices are (pixel x, pixel y, key) with key > 0, affine over the screen and greatest nearest the
// camera (1 / w for perspective views). The buffer keeps the least of (~key bits, triangle).
struct Raster {
    const float* screen; const int* faces; const int* image_of_face; u64* buffer; int size;
    HD void operator()(long i) const {
        const int t = (int)(i / LANES), lane = (int)(i % LANES);
        const float* a = screen + 3L * faces[3L * t];
        const float* b = screen + 3L * faces[3L * t + 1];
        const float* c = screen + 3L * faces[3L * t + 2];
        const float area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]);
        if (!(fabsf(area) > 1e-7f)) return;
        const int x0 = (int)fmaxf(0.f, floorf(fminf(a[0], fminf(b[0], c[0])) - 0.5f));
        const int y0 = (int)fmaxf(0.f, floorf(fminf(a[1], fminf(b[1], c[1])) - 0.5f));
        const int x1 = (int)fminf(size - 1.f, ceilf(fmaxf(a[0], fmaxf(b[0], c[0])) - 0.5f));
        const int y1 = (int)fminf(size - 1.f, ceilf(fmaxf(a[1], fmaxf(b[1], c[1])) - 0.5f));
        if (x1 < x0 || y1 < y0) return;
        const float inv = 1.0f / area;
        const int width = x1 - x0 + 1, count = width * (y1 - y0 + 1);
        u64* out = buffer + (long)image_of_face[t] * size * size;
        for (int k = lane; k < count; k += LANES) {
            const int px = x0 + k % width, py = y0 + k / width;
            const float x = px + 0.5f, y = py + 0.5f;
            const float wb = ((x - a[0]) * (c[1] - a[1]) - (y - a[1]) * (c[0] - a[0])) * inv;
            const float wc = ((b[0] - a[0]) * (y - a[1]) - (b[1] - a[1]) * (x - a[0])) * inv;
            const float wa = 1.0f - wb - wc;
            if (wa < -1e-6f || wb < -1e-6f || wc < -1e-6f) continue;
            const float key = fmaxf(wa * a[2] + wb * b[2] + wc * c[2], 1e-6f);
            min_u64(out + (long)py * size + px, ((u64)(~bits_of(key)) << 32) | (u32)t);
        }
    }
};

// Depth keys of a buffer as floats (0 where empty); marks the triangles seen when `seen` is given.
struct Resolve {
    const u64* buffer; float* key; uint8_t* seen;
    HD void operator()(long i) const {
        const u64 v = buffer[i];
        if (v == ~0ULL) { key[i] = 0.f; return; }
        key[i] = float_of(~(u32)(v >> 32));
        if (seen) seen[(u32)v] = 1;
    }
};

// ---------------------------------------------------------------- distance grids
HD float point_triangle(V3 p, V3 a, V3 b, V3 c) {
    const V3 ab = b - a, ac = c - a, n = cross(ab, ac);
    const float nn = dot(n, n);
    const V3 ap = p - a;
    if (nn > 1e-20f) {
        const float v = dot(cross(ap, ac), n) / nn, w = dot(cross(ab, ap), n) / nn;
        if (v >= 0.f && w >= 0.f && v + w <= 1.f) return fabsf(dot(ap, n)) / sqrtf(nn);
    }
    const V3 bc = c - b, bp = p - b;
    const V3 d0 = ap - ab * clampf(dot(ap, ab) / fmaxf(dot(ab, ab), 1e-20f), 0.f, 1.f);
    const V3 d1 = ap - ac * clampf(dot(ap, ac) / fmaxf(dot(ac, ac), 1e-20f), 0.f, 1.f);
    const V3 d2 = bp - bc * clampf(dot(bp, bc) / fmaxf(dot(bc, bc), 1e-20f), 0.f, 1.f);
    return sqrtf(fminf(dot(d0, d0), fminf(dot(d1, d1), dot(d2, d2))));
}

// Unsigned distance to the marked triangles within `band`, as float bits, by least value; voxel centres at
// lo + (i + 0.5) step, x slowest.
struct Splat {
    const float* verts; const int* faces; const int* mesh_of_face; const uint8_t* marked; u32* grid;
    int side; float lo, step, band;
    HD void operator()(long i) const {
        const int t = (int)(i / LANES), lane = (int)(i % LANES);
        if (!marked[t]) return;
        const V3 a = load3(verts + 3L * faces[3L * t]), b = load3(verts + 3L * faces[3L * t + 1]),
                 c = load3(verts + 3L * faces[3L * t + 2]);
        const float mins[3] = {fminf(a.x, fminf(b.x, c.x)), fminf(a.y, fminf(b.y, c.y)), fminf(a.z, fminf(b.z, c.z))};
        const float maxs[3] = {fmaxf(a.x, fmaxf(b.x, c.x)), fmaxf(a.y, fmaxf(b.y, c.y)), fmaxf(a.z, fmaxf(b.z, c.z))};
        int first[3], count[3];
        for (int k = 0; k < 3; k++) {
            first[k] = (int)fmaxf(0.f, ceilf((mins[k] - band - lo) / step - 0.5f));
            const int last = (int)fminf(side - 1.f, floorf((maxs[k] + band - lo) / step - 0.5f));
            count[k] = last - first[k] + 1;
            if (count[k] <= 0) return;
        }
        const long total = (long)count[0] * count[1] * count[2];
        u32* out = grid + (long)mesh_of_face[t] * side * side * side;
        for (long k = lane; k < total; k += LANES) {
            const int z = first[2] + (int)(k % count[2]), y = first[1] + (int)((k / count[2]) % count[1]),
                      x = first[0] + (int)(k / ((long)count[1] * count[2]));
            const V3 p = {lo + (x + 0.5f) * step, lo + (y + 0.5f) * step, lo + (z + 0.5f) * step};
            const float d = point_triangle(p, a, b, c);
            if (d < band) min_u32(out + ((long)x * side + y) * side + z, bits_of(d));
        }
    }
};

// 1 where no view sees the voxel in front of the surface, else 0. Keys are offset + depth towards the camera.
struct Carve {
    const float* keys; const float* axes; const float* radius; uint8_t* inside;
    int side, views, size; float lo, step, offset;
    HD void operator()(long i) const {
        const long cube = (long)side * side * side;
        const int mesh = (int)(i / cube);
        const int r = (int)(i % cube);
        const V3 p = {lo + (r / (side * side) + 0.5f) * step, lo + ((r / side) % side + 0.5f) * step,
                      lo + (r % side + 0.5f) * step};
        const float scale = size / (2.f * radius[mesh]), bias = 0.5f / scale;
        for (int v = 0; v < views; v++) {
            const float* ax = axes + 9 * v;
            const float fx = (dot(p, load3(ax)) + radius[mesh]) * scale, fy = (dot(p, load3(ax + 3)) + radius[mesh]) * scale;
            if (fx < 0.f || fy < 0.f || fx >= size || fy >= size) { inside[i] = 0; return; }
            const float key = keys[(((long)mesh * views + v) * size + (int)fy) * size + (int)fx];
            if (offset + dot(p, load3(ax + 6)) > key + bias) { inside[i] = 0; return; }
        }
        inside[i] = 1;
    }
};

// ---------------------------------------------------------------- the scene's field
// An instance: `inverse` 3x4 takes view space to the deformed canonical frame; there x, z were scaled by
// 1 + taper y after a turn about +Y of twist y radians. Grids hold int8 signed distance, 127 = `reach`.
struct Field {
    const int8_t* grids; const int* instance_offset; const int* mesh; const float* inverse; const float* deform;
    int side; float lo, step, reach;
    HD float at_cell(const int8_t* g, int x, int y, int z) const { return (float)g[((long)x * side + y) * side + z]; }
    HD float sample(const int8_t* g, V3 q) const {
        const float hi = side - 1.001f;
        const float fx = (q.x - lo) / step - 0.5f, fy = (q.y - lo) / step - 0.5f, fz = (q.z - lo) / step - 0.5f;
        const float cx = clampf(fx, 0.f, hi), cy = clampf(fy, 0.f, hi), cz = clampf(fz, 0.f, hi);
        const int x = (int)cx, y = (int)cy, z = (int)cz;
        const float u = cx - x, v = cy - y, w = cz - z;
        const float c00 = at_cell(g, x, y, z) * (1 - w) + at_cell(g, x, y, z + 1) * w;
        const float c01 = at_cell(g, x, y + 1, z) * (1 - w) + at_cell(g, x, y + 1, z + 1) * w;
        const float c10 = at_cell(g, x + 1, y, z) * (1 - w) + at_cell(g, x + 1, y, z + 1) * w;
        const float c11 = at_cell(g, x + 1, y + 1, z) * (1 - w) + at_cell(g, x + 1, y + 1, z + 1) * w;
        const float d = (c00 * (1 - v) + c01 * v) * (1 - u) + (c10 * (1 - v) + c11 * v) * u;
        const V3 away = {fx - cx, fy - cy, fz - cz};
        return d * (reach / 127.f) + sqrtf(dot(away, away)) * step;
    }
    HD float operator()(int scene, V3 p) const {
        float least = 1e3f;
        for (int k = instance_offset[scene]; k < instance_offset[scene + 1]; k++) {
            const float* m = inverse + 12L * k;
            V3 q = {m[0] * p.x + m[1] * p.y + m[2] * p.z + m[3], m[4] * p.x + m[5] * p.y + m[6] * p.z + m[7],
                    m[8] * p.x + m[9] * p.y + m[10] * p.z + m[11]};
            const float* d = deform + 3L * k;                       // taper, twist, canonical -> view length
            const float y = clampf(q.y, -1.f, 1.f), narrow = 1.f / (1.f + d[0] * y);
            const float c = cosf(d[1] * y), s = sinf(d[1] * y);
            const float x = q.x * narrow, z = q.z * narrow;
            q.x = c * x - s * z; q.z = s * x + c * z;
            const float raw = sample(grids + (long)mesh[k] * side * side * side, q);
            // Beyond the band the grid is saturated: call it far, not 0.06 away.
            const float dist = fabsf(raw) > 0.98f * reach ? (raw > 0 ? 1.f : -1.f) : raw * d[2];
            least = fminf(least, dist);
        }
        return least;
    }
};
struct FieldAt {
    Field field; const float* points; float* out; long per_scene;
    HD void operator()(long i) const { out[i] = field((int)(i / per_scene), load3(points + 3 * i)); }
};

// ---------------------------------------------------------------- shading
// Area-weighted face normals summed into their smoothing groups.
struct Normals {
    const float* verts; const int* faces; const int* groups; float* sums;
    HD void operator()(long t) const {
        const V3 a = load3(verts + 3L * faces[3 * t]), b = load3(verts + 3L * faces[3 * t + 1]), c = load3(verts + 3L * faces[3 * t + 2]);
        const V3 n = cross(b - a, c - a);
        for (int k = 0; k < 3; k++) {
            float* s = sums + 3L * groups[3 * t + k];
            add_f32(s, n.x); add_f32(s + 1, n.y); add_f32(s + 2, n.z);
        }
    }
};

// Light of one scene, LIGHT floats: 0-2 key direction (towards the light), 3-5 key colour, 6-8 fill direction,
// 9-11 fill colour, 12-14 sky, 15-17 ground, 18-20 up, 21 specular, 22 gloss, 23 exposure, 24 occlusion,
// 25 flat shading, 26 shadow strength, 27 s.
#define LIGHT 28
struct Shade {
    const u64* buffer; const float* verts; const float* colours; const float* normals; const int* faces; const int* groups;
    const float* light; const float* shadow; const float* shadow_axes; Field field;
    float* rgba; float* albedo; float* depth; int size, over, shadow_size;

    HD float lit(int scene, V3 p, float slope) const {
        const float* ax = shadow_axes + 12L * scene;               // right, up, direction, (half width, offset, _)
        const float scale = shadow_size / (2.f * ax[9]);
        const float fx = (dot(p, load3(ax)) + ax[9]) * scale - 0.5f, fy = (dot(p, load3(ax + 3)) + ax[9]) * scale - 0.5f;
        const float key = ax[10] + dot(p, load3(ax + 6)) + (1.5f + 2.f * slope) / scale;
        const float* map = shadow + (long)scene * shadow_size * shadow_size;
        float sum = 0.f, weight = 0.f;
        const int x0 = (int)floorf(fx), y0 = (int)floorf(fy);
        for (int dy = 0; dy < 2; dy++) for (int dx = 0; dx < 2; dx++) {
            const int x = x0 + dx, y = y0 + dy;
            const float w = (dx ? fx - x0 : 1 - fx + x0) * (dy ? fy - y0 : 1 - fy + y0);
            const bool in = x >= 0 && y >= 0 && x < shadow_size && y < shadow_size;
            sum += w * (!in || map[(long)y * shadow_size + x] <= key ? 1.f : 0.f); weight += w;
        }
        return sum / fmaxf(weight, 1e-6f);
    }
    HD void operator()(long i) const {
        const int scene = (int)(i / ((long)size * size)), px = (int)(i % size), py = (int)((i / size) % size);
        const int fine = size * over;
        const float* L = light + (long)LIGHT * scene;
        float sum[4] = {0, 0, 0, 0}, base[3] = {0, 0, 0}, near = 0.f;
        for (int k = 0; k < over * over; k++) {
            const int sx = px * over + k % over, sy = py * over + k / over;
            const u64 v = buffer[((long)scene * fine + sy) * fine + sx];
            if (v == ~0ULL) continue;
            const long t = (u32)v;
            const float w = 1.f / float_of(~(u32)(v >> 32));
            const float u = (sx + 0.5f) / fine * 2.f - 1.f, r = (sy + 0.5f) / fine * 2.f - 1.f;
            const V3 p = {u * w, -r * w, (1.f - w) / L[27]};
            const V3 a = load3(verts + 3L * faces[3 * t]), b = load3(verts + 3L * faces[3 * t + 1]), c = load3(verts + 3L * faces[3 * t + 2]);
            const V3 n0 = cross(b - a, c - a);
            const float nn = fmaxf(dot(n0, n0), 1e-20f);
            const float wb = clampf(dot(cross(p - a, c - a), n0) / nn, 0.f, 1.f), wc = clampf(dot(cross(b - a, p - a), n0) / nn, 0.f, 1.f - wb);
            const float wa = 1.f - wb - wc;
            V3 n = unit(n0);
            if (L[25] < 0.5f) {
                const V3 m = unit(load3(normals + 3L * groups[3 * t])) * wa + unit(load3(normals + 3L * groups[3 * t + 1])) * wb
                           + unit(load3(normals + 3L * groups[3 * t + 2])) * wc;
                if (dot(m, m) > 1e-6f) n = unit(m);
            }
            const V3 eye = unit(V3{0, 0, 1.f / L[27]} - p);
            if (dot(n, eye) < 0.f) n = n * -1.f;
            const V3 key = load3(L), fill = load3(L + 6), up = load3(L + 18);
            const float facing = dot(n, key);
            const float direct = fmaxf(facing, 0.f) * (1.f - L[26] * (1.f - lit(scene, p, 1.f - fabsf(facing))));
            const float open = 1.f - L[24] * clampf(1.f - field(scene, p + n * 0.05f) / 0.045f, 0.f, 1.f);
            const float sky = 0.5f + 0.5f * dot(n, up), soft = fmaxf(dot(n, fill), 0.f);
            const float shine = direct > 0.f ? L[21] * powf(fmaxf(dot(n, unit(key + eye)), 0.f), L[22]) : 0.f;
            for (int ch = 0; ch < 3; ch++) {
                const float s = colours[3L * faces[3 * t] + ch] * wa + colours[3L * faces[3 * t + 1] + ch] * wb + colours[3L * faces[3 * t + 2] + ch] * wc;
                const float e = L[3 + ch] * direct + open * (L[9 + ch] * soft + L[12 + ch] * sky + L[15 + ch] * (1.f - sky));
                const float o = L[23] * (powf(fmaxf(s, 0.f), 2.2f) * e + shine * L[3 + ch]);
                sum[ch] += powf(clampf(o, 0.f, 1.f), 1.f / 2.2f);
                base[ch] += s;
            }
            sum[3] += 1.f;
            near = fmaxf(near, 1.f / w);
        }
        const long plane = (long)size * size, at = (long)py * size + px;
        const float share = 1.f / (over * over);
        for (int ch = 0; ch < 4; ch++) rgba[(scene * 4L + ch) * plane + at] = sum[ch] * share;
        for (int ch = 0; ch < 3; ch++) albedo[(scene * 3L + ch) * plane + at] = sum[3] > 0.f ? base[ch] / sum[3] : 0.f;
        depth[scene * plane + at] = near;                          // 1 / w of the nearest part, 0 where empty
    }
};

// ---------------------------------------------------------------- sampling features
// Bilinear corners of a point (x, y) in -1..1 on a map of width x height, the border repeated, as `grid_sample`
// without aligned corners has them. One index is one channel of one point, channels last.
struct Corners {
    long at[4]; float weight[4];
    HD Corners(const float* where, int height, int width) {
        const float x = clampf(((where[0] + 1.f) * width - 1.f) * 0.5f, 0.f, width - 1.f);
        const float y = clampf(((where[1] + 1.f) * height - 1.f) * 0.5f, 0.f, height - 1.f);
        const int x0 = (int)x, y0 = (int)y;
        const int x1 = x0 + 1 < width ? x0 + 1 : x0, y1 = y0 + 1 < height ? y0 + 1 : y0;
        const float u = x - x0, v = y - y0;
        at[0] = (long)y0 * width + x0; weight[0] = (1 - u) * (1 - v);
        at[1] = (long)y0 * width + x1; weight[1] = u * (1 - v);
        at[2] = (long)y1 * width + x0; weight[2] = (1 - u) * v;
        at[3] = (long)y1 * width + x1; weight[3] = u * v;
    }
};
struct Sample {
    const float* features; const float* where; float* out; long per_row; int height, width, channels;
    HD void operator()(long i) const {
        const long point = i / channels;
        const int channel = (int)(i % channels);
        const Corners c(where + 2 * point, height, width);
        const float* row = features + point / per_row * height * width * channels + channel;
        float sum = 0.f;
        for (int k = 0; k < 4; k++) sum += c.weight[k] * row[c.at[k] * channels];
        out[i] = sum;
    }
};
struct SampleBack {
    const float* grad; const float* where; float* total; long per_row; int height, width, channels;
    HD void operator()(long i) const {
        const long point = i / channels;
        const int channel = (int)(i % channels);
        const Corners c(where + 2 * point, height, width);
        float* row = total + point / per_row * height * width * channels + channel;
        for (int k = 0; k < 4; k++) add_f32(row + c.at[k] * channels, c.weight[k] * grad[i]);
    }
};

// ---------------------------------------------------------------- entry points
extern "C" {
int raster(const float* screen, const int* faces, const int* image_of_face, u64* buffer, long triangles, int size, void* stream) {
    return launch(Raster{screen, faces, image_of_face, buffer, size}, triangles * LANES, stream);
}
int resolve(const u64* buffer, float* key, uint8_t* seen, long pixels, void* stream) {
    return launch(Resolve{buffer, key, seen}, pixels, stream);
}
int splat(const float* verts, const int* faces, const int* mesh_of_face, const uint8_t* marked, u32* grid, long triangles,
          int side, float lo, float step, float band, void* stream) {
    return launch(Splat{verts, faces, mesh_of_face, marked, grid, side, lo, step, band}, triangles * LANES, stream);
}
int carve(const float* keys, const float* axes, const float* radius, uint8_t* inside, long meshes, int side, int views, int size,
          float lo, float step, float offset, void* stream) {
    return launch(Carve{keys, axes, radius, inside, side, views, size, lo, step, offset}, meshes * side * side * side, stream);
}
int field(const int8_t* grids, const int* instance_offset, const int* mesh, const float* inverse, const float* deform, int side,
          float lo, float step, float reach, const float* points, float* out, long scenes, long per_scene, void* stream) {
    return launch(FieldAt{{grids, instance_offset, mesh, inverse, deform, side, lo, step, reach}, points, out, per_scene},
                  scenes * per_scene, stream);
}
int sample(const float* features, const float* where, float* out, long rows, long per_row, int height, int width, int channels,
           void* stream) {
    return launch(Sample{features, where, out, per_row, height, width, channels}, rows * per_row * channels, stream);
}
int sample_back(const float* grad, const float* where, float* total, long rows, long per_row, int height, int width, int channels,
                void* stream) {
    return launch(SampleBack{grad, where, total, per_row, height, width, channels}, rows * per_row * channels, stream);
}
int normals(const float* verts, const int* faces, const int* groups, float* sums, long triangles, void* stream) {
    return launch(Normals{verts, faces, groups, sums}, triangles, stream);
}
int shade(const u64* buffer, const float* verts, const float* colours, const float* sums, const int* faces, const int* groups,
          const float* light, const float* shadow, const float* shadow_axes,
          const int8_t* grids, const int* instance_offset, const int* mesh, const float* inverse, const float* deform, int side,
          float lo, float step, float reach, float* rgba, float* albedo, float* depth, long scenes, int size, int over,
          int shadow_size, void* stream) {
    const Field f{grids, instance_offset, mesh, inverse, deform, side, lo, step, reach};
    return launch(Shade{buffer, verts, colours, sums, faces, groups, light, shadow, shadow_axes, f, rgba, albedo, depth, size, over, shadow_size},
                  scenes * size * size, stream);
}
}

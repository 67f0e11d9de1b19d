/* A block's activations come in; what the transformer's layers make of them leaves.

   Layout. Widths are padded with zeros: hidden hp and mlp fp to 32. Heads lie across vector lanes: with VL lanes, HL heads
   side by side and P = VL / HL elements of each, an attention row is [group][element / P][element % P][head], W floats. A
   score is then a few multiply-adds and log2(P) lane swaps, already copied to every lane that weights a value with it.
   Matrices are packed in panels of 32 columns: [column / 32][k][32]. Ids: 0 begins a row, 1 + offset[slot] + code else.

   The bits of a result do not depend on the place in the block: sums run along a row, vectors along columns, and blocks
   are padded to whole strips. Compile without -ffast-math, which would break that. */

#ifndef NETWORK_H
#define NETWORK_H

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__AVX512F__)
#define VL 16
#define MR 8
#elif defined(__AVX__)
#define VL 8
#define MR 2
#else
#define VL 4
#define MR 2
#endif
#define PANEL 32
#define NV (PANEL / VL)
#define STRIP 8            /* blocks are padded to whole strips of rows; MR divides it */
#define NB 128             /* nodes of a block: measured best of 32 ... 128 at 64 wide, where all fits 2 MB */

typedef float vf __attribute__((vector_size(VL * 4)));
typedef int32_t vi __attribute__((vector_size(VL * 4)));

#if VL == 16
#define SWAP(s) 0 ^ s, 1 ^ s, 2 ^ s, 3 ^ s, 4 ^ s, 5 ^ s, 6 ^ s, 7 ^ s, \
                8 ^ s, 9 ^ s, 10 ^ s, 11 ^ s, 12 ^ s, 13 ^ s, 14 ^ s, 15 ^ s
#elif VL == 8
#define SWAP(s) 0 ^ s, 1 ^ s, 2 ^ s, 3 ^ s, 4 ^ s, 5 ^ s, 6 ^ s, 7 ^ s
#else
#define SWAP(s) 0 ^ s, 1 ^ s, 2 ^ s, 3 ^ s
#endif
#ifdef __clang__
#define SWAPPED(v, s) __builtin_shufflevector(v, v, SWAP(s))
#else
#define SWAPPED(v, s) __builtin_shuffle(v, (vi){SWAP(s)})
#endif

enum { STORE, ADD, SQUARED_RELU, GELU, BIAS };
enum { OK, OUT_OF_MEMORY, NOT_FINITE };

typedef struct {
  const float *norm1_w, *norm1_b, *qkv, *proj, *norm2_w, *norm2_b, *fc1, *fc2;
} Layer;

typedef struct {
  int32_t slots, layers, hidden, hp, fp, heads_in_lanes, groups, vectors, gelu, rms;
  float eps;
  const int32_t *sizes;    /* codes of each slot */
  const int64_t *offsets;  /* first id of each slot, without the 1 for the beginning */
  const float *input;      /* (1 + ids, hp): embedding plus position, by id; of histories (2 + ids, hp), without */
  const float *first;      /* (1 + ids, 3W): query, key, value of the first layer by id, or NULL */
  const float *mask;       /* (hp): 1 where hidden, 0 where padding */
  const float *final_w, *final_b;
  const float *const *head; /* panels of each slot */
  const Layer *layer;
  const float *position, *place; /* histories: (slots, hp) and (rows of a window + 1, hp), added to the input */
} Model;

static inline long up(long n, long unit) { return (n + unit - 1) / unit * unit; }

/* ---- small vector mathematics ---- */

static inline vf splat(float x) { return x - (vf){0}; }
static inline vf load(const float *p) { vf v; memcpy(&v, p, sizeof v); return v; }
static inline void store(float *p, vf v) { memcpy(p, &v, sizeof v); }
static inline vf choose(vi mask, vf a, vf b) { return (vf)((mask & (vi)a) | (~mask & (vi)b)); }
static inline vf larger(vf a, vf b) { return choose(a > b, a, b); }

/* Sum over the lanes whose numbers differ in the bits of `step` ... VL / 2, in each of them. */
static inline vf lane_sum(vf v, int step) {
#if VL >= 16
  if (step <= 8) v += SWAPPED(v, 8);
#endif
#if VL >= 8
  if (step <= 4) v += SWAPPED(v, 4);
#endif
  if (step <= 2) v += SWAPPED(v, 2);
  if (step <= 1) v += SWAPPED(v, 1);
  return v;
}

static inline vf lane_max(vf v) {
#if VL >= 16
  v = larger(v, SWAPPED(v, 8));
#endif
#if VL >= 8
  v = larger(v, SWAPPED(v, 4));
#endif
  v = larger(v, SWAPPED(v, 2));
  return larger(v, SWAPPED(v, 1));
}

/* 2^x for x <= 0, to 2 units in the last place (polynomial of Cephes' exp2f); exactly 0 below 2^-126. */
static inline vf exp2_below(vf x) {
  const vf magic = splat(12582912.0f); /* 1.5 * 2^23: adding it rounds to whole numbers */
  vi there = x >= splat(-126.0f);
  x = choose(there, x, splat(-126.0f));
  vf shifted = x + magic;
  vi whole = (vi)shifted - (vi)magic;
  vf f = x - (shifted - magic);
  vf p = f * 1.535336188319500e-4f + 1.339887440266574e-3f;
  p = p * f + 9.618437357674640e-3f;
  p = p * f + 5.550332471162809e-2f;
  p = p * f + 2.402264791363012e-1f;
  p = p * f + 6.931472028550421e-1f;
  p = p * f + 1.0f;
  return (vf)(((vi)p + (whole << 23)) & there);
}

/* x * Phi(x); erf to 1.5e-7 (Abramowitz and Stegun 7.1.26). */
static inline vf gelu(vf x) {
  vf z = (vf)((vi)x & 0x7fffffff) * 0.70710678f;
  vf t = 1.0f / (z * 0.3275911f + 1.0f);
  vf p = t * 1.061405429f - 1.453152027f;
  p = p * t + 1.421413741f;
  p = p * t - 0.284496736f;
  p = p * t + 0.254829592f;
  vf tail = p * t * exp2_below(z * z * -1.44269504f) * 0.5f; /* 1 - Phi(|x|) */
  return x * choose(x > 0.0f, 1.0f - tail, tail);
}

/* ---- the network's parts ---- */

/* C (rows, n) = or += f(A (rows, k) B); rows a multiple of STRIP, n of PANEL. */
static inline __attribute__((always_inline)) void panels(const float *a, long lda, long rows, long k, const float *b, long n,
                                                         float *c, long ldc, const float *bias, const int mode) {
  for (long col = 0; col < n; col += PANEL, b += k * PANEL)
    for (long row = 0; row < rows; row += MR) {
      const float *ar = a + row * lda;
      vf sum[MR][NV];
      for (int i = 0; i < MR; i++)
        for (int v = 0; v < NV; v++) sum[i][v] = mode == BIAS ? load(bias + col + v * VL) : (vf){0};
      for (long s = 0; s < k; s++) {
        vf bs[NV];
        for (int v = 0; v < NV; v++) bs[v] = load(b + s * PANEL + v * VL);
        for (int i = 0; i < MR; i++) {
          vf as = splat(ar[i * lda + s]);
          for (int v = 0; v < NV; v++) sum[i][v] += as * bs[v];
        }
      }
      for (int i = 0; i < MR; i++)
        for (int v = 0; v < NV; v++) {
          float *to = c + (row + i) * ldc + col + v * VL;
          vf x = sum[i][v];
          if (mode == ADD) x += load(to);
          if (mode == SQUARED_RELU) { x = larger(x, (vf){0}); x *= x; }
          if (mode == GELU) x = gelu(x);
          store(to, x);
        }
    }
}

static void gemm(const float *a, long lda, long rows, long k, const float *b, long n, float *c, long ldc,
                 const float *bias, int mode) {
  switch (mode) {
    case STORE: panels(a, lda, rows, k, b, n, c, ldc, bias, STORE); break;
    case ADD: panels(a, lda, rows, k, b, n, c, ldc, bias, ADD); break;
    case SQUARED_RELU: panels(a, lda, rows, k, b, n, c, ldc, bias, SQUARED_RELU); break;
    case GELU: panels(a, lda, rows, k, b, n, c, ldc, bias, GELU); break;
    default: panels(a, lda, rows, k, b, n, c, ldc, bias, BIAS);
  }
}

static void norm(const Model *m, const float *x, float *y, long rows, const float *w, const float *b) {
  for (long r = 0; r < rows; r++, x += m->hp, y += m->hp) {
    vf mean = (vf){0}, square = (vf){0};
    if (!m->rms) {
      for (int i = 0; i < m->hp; i += VL) mean += load(x + i);
      mean = lane_sum(mean, 1) / (float)m->hidden;
    }
    for (int i = 0; i < m->hp; i += VL) {
      vf d = (load(x + i) - mean) * load(m->mask + i);
      square += d * d;
    }
    float scale = 1.0f / sqrtf(lane_sum(square, 1)[0] / (float)m->hidden + m->eps);
    for (int i = 0; i < m->hp; i += VL) store(y + i, (load(x + i) - mean) * scale * load(w + i) + load(b + i));
  }
}

/* One query over `count` keys, each followed by its value W floats on. Scores are base-2 logarithms. */
static inline __attribute__((always_inline)) void attend_one(const Model *m, const float *q, const float *const *kv,
                                                             int count, vf *score, float *y, const int vectors) {
  long width = (long)m->groups * vectors * VL;
  for (int g = 0; g < m->groups; g++) {
    long at = (long)g * vectors * VL;
    vf top = splat(-INFINITY), total = (vf){0};
    for (int t = 0; t < count; t++) {
      vf s = (vf){0};
      for (int j = 0; j < vectors; j++) s += load(q + at + j * VL) * load(kv[t] + at + j * VL);
      score[t] = lane_sum(s, m->heads_in_lanes);
      top = larger(top, score[t]);
    }
    if (vectors <= 8) { /* sums in registers */
      vf sum[8];
      for (int j = 0; j < vectors; j++) sum[j] = (vf){0};
      for (int t = 0; t < count; t++) {
        vf e = exp2_below(score[t] - top);
        total += e;
        for (int j = 0; j < vectors; j++) sum[j] += e * load(kv[t] + width + at + j * VL);
      }
      for (int j = 0; j < vectors; j++) store(y + at + j * VL, sum[j] / total);
    } else {
      for (int t = 0; t < count; t++) total += score[t] = exp2_below(score[t] - top);
      for (int j = 0; j < vectors; j++) {
        vf sum = (vf){0};
        for (int t = 0; t < count; t++) sum += score[t] * load(kv[t] + width + at + j * VL);
        store(y + at + j * VL, sum / total);
      }
    }
  }
}

static void attend(const Model *m, const float *q, const float *const *kv, int count, vf *score, float *y) {
  switch (m->vectors) {
    case 2: attend_one(m, q, kv, count, score, y, 2); break;
    case 4: attend_one(m, q, kv, count, score, y, 4); break;
    case 8: attend_one(m, q, kv, count, score, y, 8); break;
    default: attend_one(m, q, kv, count, score, y, m->vectors);
  }
}

#endif
